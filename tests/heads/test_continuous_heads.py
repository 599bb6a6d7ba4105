"""What holds for every head of continuous tokens, and learning a small mixture."""

import pytest
import torch

from photophone.core.noise import GlobalNoise, SeededNoise
from photophone.heads import build_head

SMALL = {
    "gaussian": {},
    "diffusion": {"width": 32, "depth": 2, "respacing": "ddim8", "clip_denoised": True, "diffusion_batch_mul": 3},
    "flow": {"width": 32, "depth": 2, "batch_mul": 3},
    "local_dit": {"width": 32, "depth": 2, "num_heads": 4, "cell_size": 4, "batch_mul": 3},
}


def make(name, **config):
    """A small head whose zero-initialised layers are filled, so that nothing is hidden by zeros."""
    torch.manual_seed(0)
    head = build_head(name, in_dim=6, token_dim=3, **SMALL[name], **config)
    for parameter in head.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return head


@pytest.fixture(params=sorted(SMALL))
def name(request):
    return request.param


@pytest.mark.parametrize("guidance", [1.0, 2.0, "per row"])
def test_a_row_alone_equals_the_row_in_a_batch(name, guidance):
    head, seeds = make(name), [3, 1, 4]
    hidden = torch.randn(3 if guidance == 1.0 else 6, 8, 6)
    scales = torch.tensor([1.5, 2.0, 3.0]) if guidance == "per row" else guidance
    batch = head.sample(hidden, guidance=scales, noise=SeededNoise.from_seeds(seeds))
    assert batch.shape == (3, 8, 3)
    assert batch.dtype == torch.float32
    for row, seed in enumerate(seeds):
        scale = scales[row : row + 1] if guidance == "per row" else scales
        alone = head.sample(hidden[row::3], guidance=scale, noise=SeededNoise.from_seeds([seed]))
        torch.testing.assert_close(alone[0], batch[row], atol=1e-5, rtol=1e-5)


def test_guidance_with_equal_halves_changes_nothing(name):
    head, hidden = make(name), torch.randn(2, 8, 6)
    plain = head.sample(hidden, noise=SeededNoise.from_seeds([0, 1]))
    guided = head.sample(hidden.repeat(2, 1, 1), guidance=4.0, noise=SeededNoise.from_seeds([0, 1]))
    torch.testing.assert_close(guided, plain, atol=1e-4, rtol=1e-4)


def test_masked_tokens_do_not_count(name):
    head, hidden, target = make(name), torch.randn(2, 8, 6), torch.randn(2, 8, 3)
    mask = torch.arange(8) < torch.tensor([[8], [4]])
    noise = [SeededNoise.from_seeds([0, 1]) for _ in range(3)]
    changed = torch.where(mask[..., None], target, 1e3)
    loss = head.loss(hidden, target, mask, noise=noise[0])
    torch.testing.assert_close(head.loss(hidden, changed, mask, noise=noise[1]), loss)
    assert (head.loss(hidden, changed, noise=noise[2]) - loss).abs() > 1e-3


def test_every_parameter_learns(name):
    head = make(name)
    head.loss(torch.randn(2, 8, 6), torch.randn(2, 8, 3), noise=GlobalNoise()).backward()
    assert [key for key, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bfloat16(name):
    head, hidden, target = make(name), torch.randn(2, 8, 6), torch.randn(2, 8, 3)
    full = head.loss(hidden, target, noise=SeededNoise.from_seeds([0, 1])).item()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = head.loss(hidden, target, noise=SeededNoise.from_seeds([0, 1])).item()
    head, hidden = head.to(torch.bfloat16), hidden.to(torch.bfloat16)
    low = head.loss(hidden, target, noise=SeededNoise.from_seeds([0, 1])).item()
    assert mixed == pytest.approx(full, rel=0.03)
    assert low == pytest.approx(full, rel=0.03)
    assert head.sample(hidden, noise=SeededNoise.from_seeds([0, 1])).isfinite().all()


def test_wrong_shapes_and_settings_are_refused(name):
    head, hidden = make(name), torch.randn(2, 8, 6)
    with pytest.raises(ValueError, match=r"\(B, N, 3\).*\(2, 8, 4\)"):
        head.loss(hidden, torch.randn(2, 8, 4))
    with pytest.raises(ValueError, match="-1"):
        head.sample(hidden, temperature=-1, noise=SeededNoise.from_seeds([0, 1]))


MODES = torch.tensor([[[0.8, 0.0], [-0.8, 0.0]], [[0.0, 0.8], [0.0, -0.8]]])  # (conditions, modes, 2)
LEARN = {"flow": {}, "local_dit": {"cell_size": 2, "num_heads": 4},
         "diffusion": {"clip_denoised": True}}  # an untrained head divides its error by sqrt(2.4e-9) at first


@pytest.fixture(scope="module")
def trained():
    """Each head after 350 steps on a mixture, with its mean loss at the start and at the end."""
    return {name: train(name) for name in LEARN}


def train(name, steps=350):
    torch.manual_seed(0)
    head = build_head(name, in_dim=2, token_dim=2, width=64, depth=2, **LEARN[name])
    optimizer, losses = torch.optim.AdamW(head.parameters(), lr=3e-3), []
    for _ in range(steps):
        which, mode = torch.randint(2, (2, 1, 256))
        mode = mode.view(1, 128, 2)[..., :1].expand(1, 128, 2).reshape(1, 256)  # neighbours share their mode
        data = MODES[which, mode] + 0.05 * torch.randn(1, 256, 2)
        loss = head.loss(torch.eye(2)[which], data, noise=GlobalNoise())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return head, sum(losses[:20]) / 20, sum(losses[-100:]) / 100


@pytest.mark.parametrize(("name", "settings"), [
    ("flow", {"num_steps": 20, "solver": "heun"}),
    ("flow", {"num_steps": 40, "solver": "sde"}),
    ("local_dit", {"num_steps": 20}),
    ("diffusion", {"respacing": "40"}),
])
def test_learns_a_mixture_that_depends_on_the_condition(trained, name, settings):
    head, before, after = trained[name]
    assert after < 0.75 * before
    hidden = torch.eye(2).repeat_interleave(200, dim=0)[None]  # (1, 400, 2): condition 0, then condition 1
    drawn = head.sample(hidden, noise=SeededNoise.from_seeds([0]), **settings)[0].view(2, 200, 1, 2)
    distance = (drawn - MODES[:, None]).norm(dim=-1)  # (2, 200, 2 modes)
    assert distance.amin(-1).median() < 0.15
    assert (distance.amin(-1) < 0.4).float().mean() > 0.9
    share = (distance.argmin(-1) == 0).float().mean(dim=1)
    assert ((share > 0.3) & (share < 0.7)).all()  # both modes of each condition
    nearest = distance.argmin(-1).view(2, 100, 2)
    agreement = (nearest[..., 0] == nearest[..., 1]).float().mean()
    if name == "local_dit":
        assert agreement > 0.9  # tokens of a cell are drawn together
    else:
        assert 0.3 < agreement < 0.7  # tokens are independent given the condition
