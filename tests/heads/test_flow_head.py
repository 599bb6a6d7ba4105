"""Flow heads: the loss by hand, the solvers through the head, and cells."""

import math

import pytest
import torch
from torch import nn

from photophone.core.noise import ReplayNoise, SeededNoise
from photophone.heads import FlowHead, LocalDiTHead
from photophone.heads.local_dit import LocalDiT


class GaussianVelocity(nn.Module):
    """The exact velocity field of data N(condition, std^2) on the linear path."""

    def __init__(self, std):
        super().__init__()
        self.std = std

    def forward(self, x, t, cond):
        t = t.reshape(*t.shape, *[1] * (3 - t.ndim))
        variance = (1 - t) ** 2 * self.std**2 + t**2
        return -cond + (t - (1 - t) * self.std**2) / variance * (x - (1 - t) * cond)


def test_loss_is_the_squared_velocity_error():
    head, hidden, data = FlowHead(6, 3, 16, 1), torch.randn(2, 4, 6), torch.randn(2, 4, 3)
    nn.init.normal_(head.net.final_layer.linear.weight)
    t, eps = torch.rand(2, 5, 4), torch.randn(2, 5, 4, 3)  # five times for each token
    loss = head.loss(hidden, data, batch_mul=5, noise=ReplayNoise(normal=[eps], uniform=[t]))
    errors = [(head.net((1 - t[:, i, :, None]) * data + t[:, i, :, None] * eps[:, i], t[:, i], hidden)
               - (eps[:, i] - data)).square().mean() for i in range(5)]
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_logit_normal_times_reach_the_network():
    head = FlowHead(6, 3, 16, 1, time_distribution="logit_normal", time_mean=-0.4, time_std=2.0, tokens_per_time=None)
    normal = torch.tensor([[[0.3]], [[-1.0]]])
    t = head.draw_times(2, 4, 1, ReplayNoise(normal=[normal]))
    assert t.tolist() == pytest.approx([1 / (1 + math.exp(-0.2)), 1 / (1 + math.exp(2.4))])


@pytest.mark.parametrize(("solver", "steps"), [("euler", 200), ("heun", 20), ("midpoint", 20)])
def test_sampling_with_the_exact_velocity_gives_the_data(solver, steps):
    head = FlowHead(3, 3, network=GaussianVelocity(0.5))
    mean = torch.randn(2, 4, 3)
    start = SeededNoise.from_seeds([0, 1]).normal(2, 4, 3)
    for temperature in (1.0, 0.0):
        drawn = head.sample(mean, noise=SeededNoise.from_seeds([0, 1]), solver=solver, num_steps=steps,
                            temperature=temperature)
        torch.testing.assert_close(drawn, mean + temperature * 0.5 * start, atol=0.02, rtol=0)


def test_sde_keeps_mean_and_variance():
    head, mean = FlowHead(1, 1, network=GaussianVelocity(0.5)), torch.full((1, 20_000, 1), 1.5)
    drawn = head.sample(mean, noise=SeededNoise.from_seeds([0]), solver="sde", num_steps=80)
    assert drawn.mean().item() == pytest.approx(1.5, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.03)


def test_guided_velocity_is_that_of_the_extrapolated_condition():
    head, cond, uncond = FlowHead(3, 3, network=GaussianVelocity(0.5)), torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    guided = head.sample(torch.cat([cond, uncond]), guidance=2.0, noise=SeededNoise.from_seeds([0, 1]))
    # the field is affine in the condition, so guidance moves the condition itself
    expected = head.sample(2 * cond - uncond, noise=SeededNoise.from_seeds([0, 1]))
    torch.testing.assert_close(guided, expected, atol=1e-4, rtol=1e-4)


def test_condition_is_projected_once_a_sample():
    head, calls = FlowHead(6, 3, 16, 1), []
    head.net.cond_embed.register_forward_hook(lambda *_: calls.append(1))
    head.sample(torch.randn(2, 4, 6), noise=SeededNoise.from_seeds([0, 1]), num_steps=5)
    assert len(calls) == 1


@pytest.mark.parametrize("wrong", [{"path": "curved"}, {"time_distribution": "cauchy"}, {"batch_mul": 0}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=str(*wrong.values())):
        FlowHead(6, 3, **wrong)


def test_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="'rk9'"):
        FlowHead(6, 3, 16, 1).sample(torch.randn(1, 4, 6), noise=SeededNoise.from_seeds([0]), solver="rk9")


def local_dit(shared_adaln=True, cell_size=4):
    torch.manual_seed(0)
    net = LocalDiT(3, 6, width=16, depth=2, num_heads=2, cell_size=cell_size, shared_adaln=shared_adaln)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("shared_adaln", [True, False])
def test_tokens_see_their_cell_and_nothing_else(shared_adaln):
    net, x, cond = local_dit(shared_adaln), torch.randn(1, 12, 3), torch.randn(1, 12, 6)
    t = torch.tensor([0.3])
    before = net(x, t, cond)
    for changed in ("x", "cond"):
        x2, cond2 = x.clone(), cond.clone()
        {"x": x2, "cond": cond2}[changed][0, 5] += 1.0
        moved = (net(x2, t, cond2) - before).abs().amax(-1)[0] > 1e-5
        assert moved.tolist() == [False] * 4 + [True] * 4 + [False] * 4


@pytest.mark.parametrize("cell_size", [1, 2, 8])
def test_local_dit_times_by_sequence_and_by_token_agree(cell_size):
    net, x, cond, t = local_dit(cell_size=cell_size), torch.randn(3, 8, 3), torch.randn(3, 8, 6), torch.rand(3)
    expected = net(x, t, cond)
    torch.testing.assert_close(net(x, t[:, None].expand(3, 8), cond), expected)
    for row in range(3):
        torch.testing.assert_close(net(x, t[row : row + 1], cond)[row], expected[row], atol=1e-5, rtol=1e-5)


def test_local_dit_cells_have_their_own_times():
    head = LocalDiTHead(6, 3, width=16, depth=1, num_heads=2, cell_size=4)
    t = head.draw_times(2, 8, 3, SeededNoise.from_seeds([0, 1])).view(6, 2, 4)
    assert torch.equal(t, t[..., :1].expand_as(t))
    assert t[..., 0].unique().numel() == 12


def test_shared_adaln_saves_parameters():
    sizes = [sum(p.numel() for p in local_dit(shared).parameters()) for shared in (True, False)]
    assert sizes[1] - sizes[0] == 6 * 16 * 16 + 6 * 16 - 2 * 6 * 16  # one projection fewer, two tables of offsets


def test_local_dit_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match="10 tokens do not split into cells of 4"):
        local_dit().project(torch.randn(1, 10, 6))
    with pytest.raises(ValueError, match="10 tokens do not split into groups of 4"):
        LocalDiTHead(6, 3, 16, 1, 2).loss(torch.randn(1, 10, 6), torch.randn(1, 10, 3))
    with pytest.raises(ValueError, match="width 16 is not a multiple of num_heads 3"):
        LocalDiTHead(6, 3, 16, 1, 3)
