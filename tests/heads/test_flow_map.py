"""Few steps: maps that are known in closed form, the teacher at s = t, guidance in one evaluation, old solvers."""

import math

import pytest
import torch
from torch import nn

from photophone.core.noise import GlobalNoise, SeededNoise
from photophone.heads import FlowHead, build_head
from photophone.heads.flow_map import MapEmbedding, carry, draw_segments, map_errors, map_loss, map_targets
from photophone.layers.flow import time_grid

STD = 0.5
HEADS = {"flow": {"width": 24, "depth": 2}, "local_dit": {"width": 24, "depth": 2, "num_heads": 2, "cell_size": 2,
                                                          "repeats": 2}}


def gaussian_path(cond, null, guidance, times, noise):
    """States (M, K + 1, N, D) of data N(cond, STD^2), guided against N(null, STD^2): exact at all times.

    The field is affine in the mean, so guidance moves the mean: data N(null + g (cond - null), STD^2). The flow map
    scales what is left of the mean by the ratio of deviations.
    """
    mean = null + guidance[:, None, None] * (cond - null)
    t = times[:, :, None, None]
    return (1 - t) * mean[:, None] + ((1 - t) ** 2 * STD**2 + t**2).sqrt() * noise[:, None]


def drawn_paths(rows, steps=8, seed=0):
    """Paths whose condition is the mean itself; the null mean is 0."""
    generator = torch.Generator().manual_seed(seed)
    cond, noise = torch.randn(2, rows, 2, 2, generator=generator)
    guidance = 1 + 2 * torch.rand(rows, generator=generator)
    times = time_grid(steps, dtype=torch.float32).expand(rows, -1)
    return {"hidden": cond, "guidance": guidance, "times": times,
            "states": gaussian_path(cond, torch.zeros(2), guidance, times, noise)}


def map_head(kind, **options):
    torch.manual_seed(0)
    return build_head(kind, in_dim=2, token_dim=2, guidance_range=(1.0, 3.0), **HEADS[kind], **options)


def train(head, objective, steps, rate):
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for step in range(steps):
        loss = map_loss(head, drawn_paths(256, seed=step), objective=objective, noise=GlobalNoise())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("objective", "steps", "rate", "off"), [
    ("states", 700, 1e-2, 0.08), ("consistency", 800, 8e-3, 0.2)])
def test_one_step_reaches_the_known_mean_and_covariance(objective, steps, rate, off):
    head = map_head("flow")
    train(head, objective, steps, rate)
    cond = torch.tensor([[1.0, -0.5], [0.3, 0.8]])  # two tokens
    hidden = cond.expand(4096, -1, -1)
    for guidance in (1.0, 2.0):
        for count in (1, 2, 4):
            drawn = head.sample(hidden, guidance=guidance, num_steps=count,
                                noise=SeededNoise.from_seeds(range(4096)))
            values = drawn.flatten(1).double()
            torch.testing.assert_close(values.mean(0).float(), guidance * cond.flatten(), atol=off, rtol=0)
            torch.testing.assert_close(values.T.cov().float(), STD**2 * torch.eye(4), atol=off, rtol=0)


def test_errors_are_those_of_the_last_state():
    head, path = map_head("flow"), drawn_paths(64)
    x, last = path["states"][:, 0], path["states"][:, -1]
    errors = map_errors(head, path, [1, 8])
    # a new head has an output of zero: nothing moves
    assert errors[1] == errors[8] == pytest.approx(float((x - last).square().mean() / last.var()), rel=1e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_at_first_it_is_the_teacher(kind):
    """The same weights, before training: the velocity of the teacher at all times, wherever the step ends."""
    torch.manual_seed(3)
    teacher = build_head(kind, in_dim=2, token_dim=2, **HEADS[kind])
    for weight in teacher.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    head = map_head(kind)
    missing, unexpected = head.load_state_dict(teacher.state_dict(), strict=False)
    assert not unexpected and all(".map_embed." in f".{name}" for name in missing) and len(missing) == 3
    hidden, x, t = torch.randn(3, 4, 2), torch.randn(3, 4, 2), torch.tensor([0.9])
    projected = head.project(hidden)
    velocity = teacher.mean_velocity(projected, x, t, t)
    for s in (0.9, 0.4, 0.0):
        assert torch.equal(head.mean_velocity(projected, x, t, torch.tensor([s])), velocity)
    nn.init.normal_(head.net.map_embed.mlp[2].weight)  # and at s = t without guidance whatever the map has learned
    assert torch.equal(head.mean_velocity(projected, x, t, t), velocity)
    assert not torch.equal(head.mean_velocity(projected, x, t, torch.zeros(1)), velocity)
    assert not torch.equal(head.mean_velocity(projected, x, t, t, 2.0), velocity)
    plain, mapped = (one.sample(hidden, noise=SeededNoise.from_seeds(range(3)), num_steps=5, solver="heun")
                     for one in (teacher, head))
    torch.testing.assert_close(plain, mapped, atol=1e-6, rtol=1e-6)


def shaken(kind):
    head = map_head(kind)
    for weight in head.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return head


@pytest.mark.parametrize("kind", HEADS)
def test_rows_with_their_own_guidance_and_remembered_times(kind):
    head, hidden, scales = shaken(kind), torch.randn(3, 4, 2), torch.tensor([1.0, 2.5, 7.0])

    def sample(rows, guidance):
        return head.sample(hidden[rows], guidance=guidance, num_steps=3,
                           noise=SeededNoise.from_seeds(range(3)[rows]))

    together = sample(slice(0, 3), scales)
    for row in range(3):
        alone = sample(slice(row, row + 1), float(scales[row]))
        torch.testing.assert_close(alone, together[row:row + 1], atol=1e-5, rtol=1e-5)
        with head.remember_times():
            assert torch.equal(sample(slice(row, row + 1), float(scales[row])), alone)
            other = sample(slice(row, row + 1), 1.7)
        assert not torch.equal(other, alone)


def test_guidance_beyond_the_range_goes_on_in_a_line():
    head, x, now, end = shaken("flow"), torch.randn(2, 4, 2), torch.tensor([0.8]), torch.tensor([0.1])
    projected = head.project(torch.randn(2, 4, 2))
    values = {g: head.mean_velocity(projected, x, now, end, g) for g in (0.0, 1.0, 3.0, 5.0)}
    torch.testing.assert_close(values[5.0], 2 * values[3.0] - values[1.0])
    torch.testing.assert_close(values[0.0], 1.5 * values[1.0] - 0.5 * values[3.0])


@pytest.mark.parametrize("solver", ["heun", "midpoint", "sde"])
def test_other_solvers_take_the_velocity(solver):
    head, hidden = shaken("flow"), torch.randn(2, 4, 2)
    ends = []
    head.net.map_embed.register_forward_hook(lambda _, given, __: ends.append((given[0], given[1][..., 0])))
    made = head.sample(hidden, guidance=2.0, solver=solver, num_steps=4, noise=SeededNoise.from_seeds([0, 1]))
    assert made.shape == (2, 4, 2) and made.isfinite().all() and ends
    assert all(torch.equal(t, s) for t, s in ends)


def test_scaled_guidance_takes_both_rows_as_before():
    head, hidden = shaken("flow"), torch.randn(4, 4, 2)
    assert not head.reads_null(2.0) and head.reads_null(2.0, scaled_guidance=True)
    made = head.sample(hidden, guidance=2.0, scaled_guidance=True, noise=SeededNoise.from_seeds([0, 1]))
    assert made.shape == (2, 4, 2)


def test_segments_cover_all_places():
    torch.manual_seed(0)
    first, last = draw_segments(4000, 5, 0.3, torch.rand)
    assert (first < last).all() and first.min() == 0 and last.max() == 5
    assert {(int(a), int(b)) for a, b in zip(first, last)} == {(a, b) for a in range(5) for b in range(a + 1, 6)}
    whole = draw_segments(100, 5, 1.0, torch.rand)
    assert not whole[0].any() and (whole[1] == 5).all()


def test_targets_of_a_straight_field():
    """Where the student is right, all objectives agree with the recorded states."""
    path, rows = drawn_paths(16), torch.arange(16)

    def exact(x, t, s):
        first, last = ((path["times"][0] == time[0]).nonzero()[0, 0] for time in (t, s))
        slope = (path["states"][:, last] - path["states"][:, first]) / (s - t).reshape(-1, 1, 1)
        torch.testing.assert_close(carry(x, slope, t, s), path["states"][:, last])
        return slope

    first, last = torch.full((16,), 2), torch.full((16,), 6)
    wanted = (path["states"][rows, 6] - path["states"][rows, 2]) / (path["times"][0, 6] - path["times"][0, 2])
    for objective in ("states", "consistency"):
        targets = map_targets(objective, exact, path["times"], path["states"], first, last)
        torch.testing.assert_close(targets, wanted, atol=1e-5, rtol=1e-5)


def test_bad_settings_are_refused():
    for wrong in ((3.0, 1.0), (1.0,), (-1.0, 2.0)):
        with pytest.raises(ValueError, match="guidance_range must be two numbers"):
            FlowHead(2, 2, 16, 1, guidance_range=wrong)
    with pytest.raises(ValueError, match="Identity cannot learn a flow map"):
        FlowHead(2, 2, network=nn.Identity(), guidance_range=(1.0, 2.0))
    with pytest.raises(ValueError, match="objective must be one of"):
        map_targets("guess", None, *[torch.zeros(1, 2)] * 2, *[torch.zeros(1)] * 2)


def test_a_new_embedding_adds_nothing():
    embedding = MapEmbedding(8)
    assert not embedding(torch.rand(3), torch.rand(3, 2)).any()
