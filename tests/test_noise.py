"""Noise: a row depends on its own seed alone, replays are exact, distributions are right."""

import math

import pytest
import torch

from photophone import ReplayNoise, SeededNoise
from photophone.core.noise import GlobalNoise

KINDS = ["normal", "uniform", "gumbel", "permutation"]
SEEDS = [3, 1, 4, 1, 5, 9, 2, 6]
EULER = 0.5772156649


def draws(noise, kind, rows):
    shape = (rows, 7) if kind == "permutation" else (rows, 5, 3)
    return [getattr(noise, kind)(*shape) for _ in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_alone_is_the_row_in_a_batch(kind):
    batch = draws(SeededNoise.from_seeds(SEEDS), kind, 8)
    for row, seed in enumerate(SEEDS):
        for alone, together in zip(draws(SeededNoise.from_seeds([seed]), kind, 1), batch):
            assert torch.equal(alone[0], together[row])
    assert torch.equal(batch[0][1], batch[0][3]) and not torch.equal(batch[0][0], batch[0][1])
    assert not torch.equal(batch[0], batch[1])


def test_draws_come_from_the_generators_that_were_given():
    generator = torch.Generator().manual_seed(8)
    expected = torch.randn(4, generator=torch.Generator().manual_seed(8))
    assert torch.equal(SeededNoise([generator]).normal(1, 4)[0], expected)


def test_another_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="asked for 3 rows of noise, but there are 2 generators"):
        SeededNoise.from_seeds([0, 1]).normal(3, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("noise", [SeededNoise.from_seeds([0, 1]), GlobalNoise()], ids=["seeded", "global"])
def test_dtypes(noise, dtype):
    assert all(getattr(noise, kind)(2, 9, dtype=dtype).dtype == dtype for kind in KINDS[:3])


@pytest.mark.parametrize("noise", [SeededNoise.from_seeds(range(64)), GlobalNoise()], ids=["seeded", "global"])
def test_permutations_are_permutations_and_uniform(noise):
    torch.manual_seed(0)
    orders = noise.permutation(64, 50)
    assert orders.dtype == torch.long
    assert torch.equal(orders.sort(dim=1).values, torch.arange(50).expand(64, 50))
    many = torch.cat([noise.permutation(64, 4) for _ in range(30)])  # 1920 orders of 4
    codes = (many * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 24
    assert float((counts - 80).square().sum() / 80) < 50  # chi-square of 23 degrees of freedom: 50 is p = 0.001


def test_moments_of_normal_and_uniform():
    noise = SeededNoise.from_seeds(range(4))
    normal, uniform = noise.normal(4, 50_000).double(), noise.uniform(4, 50_000).double()
    assert abs(float(normal.mean())) < 0.01 and abs(float(normal.std()) - 1) < 0.01
    assert abs(float(normal.pow(4).mean()) - 3) < 0.1
    assert float(uniform.min()) >= 0 and float(uniform.max()) < 1
    assert abs(float(uniform.mean()) - 0.5) < 0.005 and abs(float(uniform.var()) - 1 / 12) < 0.002


def test_gumbel_has_its_distribution():
    gumbel = SeededNoise.from_seeds(range(4)).gumbel(4, 50_000).double()
    assert bool(gumbel.isfinite().all())
    assert abs(float(gumbel.mean()) - EULER) < 0.01
    assert abs(float(gumbel.var()) - math.pi**2 / 6) < 0.03
    below = torch.exp(-torch.exp(-gumbel))  # the distribution function, so uniform
    counts = torch.histc(below, bins=20, min=0, max=1)
    assert float((counts - 10_000).square().sum() / 10_000) < 44  # 19 degrees of freedom: 44 is p = 0.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_gumbel_is_finite_at_both_ends(dtype):
    largest = torch.nextafter(torch.ones(1, dtype=dtype), torch.zeros(1, dtype=dtype))
    ends = torch.cat([torch.zeros(1, dtype=dtype), largest])[None]
    gumbel = ReplayNoise(uniform=[ends]).gumbel(1, 2, dtype=dtype)
    assert bool(gumbel.isfinite().all()) and float(gumbel[0, 0]) < -2 and float(gumbel[0, 1]) > 4


def test_the_largest_gumbel_is_a_categorical_draw():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    chosen = (logits + SeededNoise.from_seeds(range(2)).gumbel(2, 20_000, 4)).argmax(dim=-1)
    counts, expected = chosen.flatten().bincount(minlength=4), logits.exp() * 40_000
    assert float(((counts - expected).square() / expected).sum()) < 16.3  # 3 degrees of freedom: p = 0.001


def test_replay_gives_back_what_was_recorded():
    first, second, order = torch.randn(2, 3), torch.randn(2, 5), torch.tensor([[1, 0], [0, 1]])
    replay = ReplayNoise(normal=[first, second], uniform=[torch.rand(2, 2)], permutation=[order])
    assert torch.equal(replay.normal(2, 3), first) and torch.equal(replay.permutation(2, 2), order)
    assert replay.normal(2, 5, dtype=torch.float16).dtype == torch.float16
    assert not replay.exhausted
    replay.uniform(2, 2)
    assert replay.exhausted


def test_replay_refuses_other_shapes_and_too_many_draws():
    replay = ReplayNoise(normal=[torch.zeros(2, 3)])
    with pytest.raises(ValueError, match=r"recorded as \(2, 3\), the sampler asks for \(2, 4\)"):
        replay.normal(2, 4)
    replay.normal(2, 3)  # a refused draw is not used up
    with pytest.raises(ValueError, match="only 1 normal draws were recorded"):
        replay.normal(2, 3)
    for kind in ("uniform", "permutation"):
        with pytest.raises(ValueError, match=f"only 0 {kind} draws"):
            getattr(replay, kind)(2, 3)


def test_exponentials_and_integers_have_their_distributions():
    noise = SeededNoise.from_seeds(range(4))
    draws = noise.exponential(4, 50_000).double()
    assert abs(float(draws.mean()) - 1) < 0.01 and abs(float(draws.var()) - 1) < 0.05
    counts = noise.integers(-2, 3, 4, 10_000).flatten().add(2).bincount(minlength=5)
    assert len(counts) == 5 and float((counts - 8_000).square().sum() / 8_000) < 18.5  # 4 degrees of freedom: p = 0.001


def test_recorded_exponentials_pick_what_torch_picked():
    """torch.multinomial takes the largest probability over an exponential draw."""
    probabilities = torch.rand(5, 40, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(7)
    picked = torch.multinomial(probabilities, 1)[:, 0]
    torch.manual_seed(7)
    replay = ReplayNoise(exponential=[torch.empty(5, 40).exponential_(1)])
    assert torch.equal((probabilities.log() + replay.gumbel(5, 40)).argmax(dim=1), picked) and replay.exhausted


def test_recorded_integers_are_within_what_is_asked_for():
    replay = ReplayNoise(integers=[torch.tensor([3, 0]), torch.tensor(4)])
    assert replay.integers(0, 4, 2).tolist() == [3, 0]
    with pytest.raises(ValueError, match=r"recorded as 4|recorded as \[4\]"):
        replay.integers(0, 4, 1)


def test_a_recorded_number_serves_a_batch_of_one():
    replay = ReplayNoise(uniform=[torch.tensor(0.25, dtype=torch.float64)], normal=[torch.zeros(3)])
    assert replay.uniform(1, dtype=torch.float64).tolist() == [0.25] and replay.normal(1, 3).shape == (1, 3)


def test_global_noise_follows_torch():
    torch.manual_seed(5)
    ours = GlobalNoise().normal(2, 3)
    torch.manual_seed(5)
    assert torch.equal(ours, torch.randn(2, 3))


def test_parts_of_a_row_are_drawn_from_its_generator():
    parts = SeededNoise.from_seeds([3, 4]).parts([2, 5])
    drawn = parts.normal(7, 6)
    for row, (seed, place) in enumerate([(3, slice(0, 2)), (4, slice(2, 7))]):
        count = [2, 5][row]
        assert torch.equal(drawn[place], torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)))
    with pytest.raises(ValueError, match="asked for 6 parts of noise, but the rows have 7"):
        parts.uniform(6, 2)
    torch.manual_seed(0)
    noise = GlobalNoise()
    assert noise.parts([1, 2]) is noise


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_draws_in_steps_do_not_depend_on_how_many_follow(kind):
    """What streams rely on; a single draw of another length is other noise, which the page on formats says."""
    def steps(count, size):
        noise = SeededNoise.from_seeds([7, 8])
        return torch.stack([getattr(noise, kind)(2, size) for _ in range(count)])

    for size in (1, 15, 16, 17, 480):
        assert torch.equal(steps(9, size)[:4], steps(4, size))
    longer, shorter = (SeededNoise.from_seeds([7]).normal(1, count)[0] for count in (20, 16))
    assert not torch.equal(longer[:16], shorter)
