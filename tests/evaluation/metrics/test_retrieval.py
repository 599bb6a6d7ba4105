"""Caption retrieval on features with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from photophone.evaluation.metrics.retrieval import caption_retrieval, draw_distractors


def test_ranks_of_known_features() -> None:
    pool = torch.eye(5)
    own = pool[:3]
    distractors = np.array([[1, 2, 3, 4], [0, 2, 3, 4], [0, 1, 3, 4]])
    queries = torch.stack([own[0] * 3.0,              # its own image, any length: rank 1
                           own[1] + 2 * pool[0],      # nearer to image 0: rank 2
                           pool[0] + pool[1] + pool[3] + pool[4]])  # own image is the farthest: rank 5
    result = caption_retrieval(queries, own, pool, distractors, ["a", "a", "b"])
    assert result.top1 == pytest.approx(1 / 3)
    assert result.top5 == 1.0
    assert result.mean_rank == pytest.approx((1 + 2 + 5) / 3)
    assert result.by_style == {"a": 0.5, "b": 0.0}


def test_a_tie_is_no_hit() -> None:
    pool = torch.ones(3, 4)
    result = caption_retrieval(torch.ones(1, 4), torch.ones(1, 4), pool, np.array([[0, 1, 2]]), ["a"])
    assert result.top1 == 0.0 and result.mean_rank == 4.0


def test_random_queries_are_right_by_chance_only() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda rows: torch.randn(rows, 64, generator=generator)  # noqa: E731
    distractors = np.stack([np.random.default_rng(i).choice(500, 9, replace=False) for i in range(2000)])
    result = caption_retrieval(draw(2000), draw(2000), draw(500), distractors, ["a"] * 2000)
    assert result.top1 == pytest.approx(0.1, abs=0.02)  # three standard deviations of 2,000 draws


def test_distractors_share_the_style_and_differ_in_caption() -> None:
    captions = [f"c{i}" for i in range(300)]
    styles = ["flat" if i % 2 else "pixel" for i in range(300)]
    chosen = draw_distractors(["c1", "c2"], ["flat", "pixel"], captions, styles, 99, seed=3)
    assert chosen.shape == (2, 99)
    for row, (caption, style) in zip(chosen, [("c1", "flat"), ("c2", "pixel")]):
        assert len(set(row)) == 99
        assert all(styles[i] == style and captions[i] != caption for i in row)
    assert (chosen == draw_distractors(["c1", "c2"], ["flat", "pixel"], captions, styles, 99, seed=3)).all()
    assert (chosen != draw_distractors(["c1", "c2"], ["flat", "pixel"], captions, styles, 99, seed=4)).any()


def test_a_small_style_is_filled_up() -> None:
    captions, styles = [f"c{i}" for i in range(20)], ["rare"] * 4 + ["common"] * 16
    row = draw_distractors(["c0"], ["rare"], captions, styles, 9, seed=0)[0]
    assert set(row) >= {1, 2, 3} and 0 not in row and len(set(row)) == 9
    with pytest.raises(ValueError, match="too small"):
        draw_distractors(["c0"], ["rare"], captions, styles, 30, seed=0)
