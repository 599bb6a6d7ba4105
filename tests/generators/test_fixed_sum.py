"""Counts with a fixed sum: closed forms, brute force over small cases, and rows that do not know each other."""

import itertools

import pytest
import torch

from photophone import SeededNoise
from photophone.decoding.fixed_sum import (
    CountDraw,
    adjust_sum,
    codes_of,
    count_codes,
    count_densities,
    draw_near,
    spread_units,
)
from photophone.generators.tokenset.model import TokenSetSampler


def test_sets_and_counts_are_the_same():
    codes = torch.randint(7, (5, 12), generator=torch.Generator().manual_seed(0))
    counts = count_codes(codes, 7)
    assert counts.sum(dim=1).tolist() == [12] * 5
    assert torch.equal(codes_of(counts, 12), codes.sort(dim=1).values)
    short = torch.tensor([[0, 2, 0, 1]])
    assert codes_of(short, 5).tolist() == [[0, 1, 1, 1, 3]]  # the lowest codes fill up


def test_units_go_where_most_was_cut():
    x = torch.tensor([[0.9, 1.2, 0.1, 2.8], [0.0, 0.0, 0.0, 0.0]])
    assert spread_units(x, 5).tolist() == [[1, 1, 0, 3], [1, 1, 1, 1]]
    assert spread_units(x, 4)[0].tolist() == [1, 1, 0, 2]


def test_the_sum_is_put_right_at_the_least_cost():
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(40, 5, 4, generator=generator)
    counts = torch.randint(4, (40, 5), generator=generator)
    total, places = 7, torch.arange(5)
    for row, adjusted in enumerate(adjust_sum(counts, probabilities, total)):
        start, missing = counts[row], total - int(counts[row].sum())
        assert int((adjusted - start).abs().max()) <= 1
        step = 1 if missing > 0 else -1
        free = [place for place in range(5) if 0 <= start[place] + step <= 3]
        moves = min(abs(missing), len(free))
        assert int((adjusted - start).sum()) == step * moves
        found = [float(probabilities[row, places, start + step * torch.isin(places, torch.tensor(chosen)).long()].sum())
                 for chosen in itertools.combinations(free, moves)]
        assert float(probabilities[row, places, adjusted].sum()) == pytest.approx(max(found), abs=1e-5)


def test_densities_are_those_of_the_normal_distribution():
    place, spread = torch.tensor([[1.3, 0.0]]), torch.tensor([[0.7, 2.0]])
    expected = torch.distributions.Normal(place[..., None], spread[..., None]).log_prob(torch.arange(4.0)).exp()
    torch.testing.assert_close(count_densities(place, spread, 4), expected / expected.sum(-1, keepdim=True))


def test_a_row_whose_densities_vanish_is_cut_off_alone():
    place = torch.tensor([[0.5, 1.5, 2.0], [0.5, 1.5, 2.0]])
    spread = torch.tensor([[1e-6] * 3, [0.5] * 3])
    both = draw_near(place, spread, 4, 1.0, CountDraw(), SeededNoise.from_seeds([1, 2]))
    alone = draw_near(place[1:], spread[1:], 4, 1.0, CountDraw(), SeededNoise.from_seeds([2]))
    assert torch.equal(both[0], spread_units(place, 4)[0]) and torch.equal(both[1:], alone)


def test_guidance_comes_in_stages():
    sampler = TokenSetSampler(guidance_stages="4, 50, 55")
    assert [sampler.guidance_at(time) for time in (0.0, 0.33, 0.34, 0.7, 1.0)] == [4, 4, 50, 55, 55]
    assert TokenSetSampler(guidance_scale=1.0).guidance_at(0.9) == 1.0
    assert TokenSetSampler(guidance_scale=7.0, guidance_stages="").guidance_at(0.9) == 7.0
    for wrong in ("4,x", "-1", "4,1000"):
        with pytest.raises(ValueError, match="guidance_stages must be numbers"):
            TokenSetSampler(guidance_stages=wrong)
    with pytest.raises(ValueError, match="top_k of at least 1"):
        TokenSetSampler(sharp=True)
    assert sampler.sharpness(0.8) == 0.5 and sampler.sharpness(1.0) < 1e-8
