"""Caption retrieval: is a generated image nearest to the real image of its own caption?

Each generated image is a query among ``1 + distractors`` real images: the one of its own caption and random others of
the same style. It is a hit when its own is the nearest by cosine distance of pretrained features. Chance is
``1 / (1 + distractors)``; the tokenizer's reconstructions of the real images give the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class RetrievalResult:
    """Shares over all queries.

    Attributes:
        top1, top5: share of queries whose own image is the nearest, or among the five nearest.
        mean_rank: of the own image, 1 is the nearest.
        count: queries.
        by_style: top1 of each style.
    """

    top1: float
    top5: float
    mean_rank: float
    count: int
    by_style: dict[str, float]


def draw_distractors(captions: list[str], styles: list[str], pool_captions: list[str], pool_styles: list[str],
                     number: int, seed: int) -> np.ndarray:
    """Indices into the pool, Long ``(M, number)``: for each query other images of its style, without repetition.

    An image with the query's own caption is never a distractor. A style with too few others is filled up with images
    of other styles.
    """
    pool_styles_array, pool_captions_array = np.asarray(pool_styles), np.asarray(pool_captions)
    chosen = np.empty((len(captions), number), dtype=np.int64)
    for row, (caption, style) in enumerate(zip(captions, styles)):
        rng = np.random.default_rng([seed, row])
        others = pool_captions_array != caption
        same = np.flatnonzero(others & (pool_styles_array == style))
        rest = np.flatnonzero(others & (pool_styles_array != style))
        missing = max(0, number - len(same))
        if missing > len(rest):
            raise ValueError(f"a pool of {len(pool_captions)} images is too small for {number} distractors")
        chosen[row] = np.concatenate([rng.choice(same, min(number, len(same)), replace=False),
                                      rng.choice(rest, missing, replace=False)])
    return chosen


def caption_retrieval(queries: Tensor, own: Tensor, pool: Tensor, distractors: np.ndarray,
                      styles: list[str]) -> RetrievalResult:
    """Rank each query's own image among its distractors.

    Args:
        queries: features of generated images, float (M, F).
        own: features of the real image of each caption, (M, F).
        pool: features of the real images that distractors come from, (P, F).
        distractors: Long (M, K), see :func:`draw_distractors`.
        styles: of the queries.
    """
    queries, own, pool = (F.normalize(x.double(), dim=1) for x in (queries, own, pool))
    own_similarity = (queries * own).sum(dim=1)  # (M,)
    others = torch.einsum("mf,mkf->mk", queries, pool[torch.from_numpy(distractors)])
    ranks = 1 + (others >= own_similarity[:, None]).sum(dim=1)  # a tie counts against the query
    hits = (ranks == 1).double()
    by_style = {style: float(hits[[s == style for s in styles]].mean()) for style in sorted(set(styles))}
    return RetrievalResult(float(hits.mean()), float((ranks <= 5).double().mean()), float(ranks.double().mean()),
                           len(ranks), by_style)
