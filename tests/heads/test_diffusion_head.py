"""Diffusion head against the official MAR code: random weights, recorded noise."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from photophone.core.noise import ReplayNoise, SeededNoise
from photophone.heads import DiffusionHead
from photophone.layers.gaussian_diffusion import add_noise, diffusion_losses

FOLDER = Path(__file__).parents[1] / "goldens/data/mar"
GOLDEN = load_file(FOLDER / "io.safetensors")


@pytest.fixture(scope="module")
def head():
    head = DiffusionHead(in_dim=32, token_dim=4, width=32, depth=2, respacing="ddim8")
    weights = load_file(FOLDER / "weights.safetensors")
    head.load_state_dict({key.removeprefix("diffloss."): value for key, value in weights.items()
                          if key.startswith("diffloss.")})
    return head


def recorded(name, rows):
    """The official draws of the first ``rows`` rows, each token as a row of its own."""
    return ReplayNoise(normal=[GOLDEN[f"in_noise_diffloss_{name}_{i:03d}"][:rows, None] for i in range(9)])


@torch.no_grad()
def test_network(head):
    t = GOLDEN["in_head_t"]
    torch.testing.assert_close(head.net.time_embed(t), GOLDEN["mid_time_embed"], atol=1e-5, rtol=0)
    out = head.net(GOLDEN["in_head_x"], t, GOLDEN["in_head_c"])
    torch.testing.assert_close(out, GOLDEN["out_head"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("edge", ["", "_edge"])
def test_loss_terms(head, edge):
    x0, noise, t = GOLDEN["in_loss_target" + edge], GOLDEN["in_loss_noise"], GOLDEN["in_loss_t"]
    assert (t == 0).any()
    x = add_noise(head.tables(), x0, noise, t)
    mse, bound = diffusion_losses(head.tables(), head.net(x, t, GOLDEN["in_head_c"]), x0, noise, t)
    torch.testing.assert_close(mse, GOLDEN[f"out_loss_terms{edge}_mse"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(bound, GOLDEN[f"out_loss_terms{edge}_vb"], atol=1e-5, rtol=1e-5)


def test_loss_of_the_head(head):
    hidden, target = GOLDEN["in_head_c"][:, None], GOLDEN["in_loss_target"][:, None]
    uniform = (GOLDEN["in_loss_t"].double() + 0.5) / 1000
    noise = ReplayNoise(normal=[GOLDEN["in_loss_noise"][:, None, None]], uniform=[uniform[:, None, None]])
    mask = torch.tensor([True, False, True, True, False, True])
    loss = head.loss(hidden, target, mask[:, None], noise=noise)
    torch.testing.assert_close(loss, GOLDEN["out_loss_terms_loss"][mask].mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "rows", "settings"), [
    ("nocfg", 6, {"temperature": 0.95}),
    ("cfg", 3, {"guidance": 2.5}),
    ("cfg", 3, {"guidance": torch.full((3,), 2.5)}),
])
def test_sampling(head, name, rows, settings):
    noise = recorded(name, rows)
    out = head.sample(GOLDEN["in_head_c"][:, None], noise=noise, **settings)[:, 0]
    torch.testing.assert_close(out, GOLDEN[f"out_diffloss_sample_{name}"][:rows], atol=1e-4, rtol=0)
    assert noise.exhausted


def test_sampling_from_pure_noise(head):
    out = head.sample(GOLDEN["in_head_c"][:, None], guidance=2.5, respacing="8", noise=recorded("steps8", 3))[:, 0]
    expected = GOLDEN["out_rel_diffloss_sample_steps8"][:3]
    assert ((out - expected).abs().max() / expected.abs().max()).item() < 1e-5


def test_ddim(head):
    noise = ReplayNoise(normal=[GOLDEN["in_head_x"][:, None]])
    out = head.sample(GOLDEN["in_head_c"][:, None], sampler="ddim", noise=noise)[:, 0]
    torch.testing.assert_close(out, GOLDEN["out_ddim_eta0"], atol=1e-4, rtol=0)


def test_batch_mul_averages_over_draws(head):
    hidden, target = torch.randn(2, 3, 32), torch.rand(2, 3, 4)
    u, eps = torch.rand(2, 4, 3), torch.randn(2, 4, 3, 4)
    together = head.loss(hidden, target, diffusion_batch_mul=4, noise=ReplayNoise(normal=[eps], uniform=[u]))
    single = [head.loss(hidden, target, noise=ReplayNoise(normal=[eps[:, i : i + 1]], uniform=[u[:, i : i + 1]]))
              for i in range(4)]
    torch.testing.assert_close(together, torch.stack(single).mean())


def test_clip_denoised_bounds_the_last_step(head):
    clipped = DiffusionHead(32, 4, 32, 2, respacing="ddim8", clip_denoised=True)
    clipped.load_state_dict(head.state_dict())
    hidden = torch.randn(2, 5, 32)
    bounds = [h.sample(hidden, noise=SeededNoise.from_seeds([0, 1])).abs().max() for h in (head, clipped)]
    assert bounds[0] > 2
    assert bounds[1] <= 1.0001  # the last mean is the predicted token


@pytest.mark.parametrize("wrong", [{"schedule": "sigmoid"}, {"respacing": "1"}, {"diffusion_batch_mul": 0}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=str(*wrong.values())):
        DiffusionHead(6, 3, **wrong)


def test_unknown_sampler_is_refused(head):
    with pytest.raises(ValueError, match="'plms'"):
        head.sample(torch.randn(1, 2, 32), noise=SeededNoise.from_seeds([0]), sampler="plms")
