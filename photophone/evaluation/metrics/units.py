"""Measures of discrete units without training: STAB (arXiv 2409.02384) and unit edit distance (2209.15483).

A sequence of units is a list of ints; several codebooks are measured one by one and averaged by the caller.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from photophone.evaluation.metrics.audio import edit_distance

Units = Sequence[int]


def deduplicate(units: Units) -> list[int]:
    """Without repetitions of the unit before."""
    return [unit for index, unit in enumerate(units) if not index or unit != units[index - 1]]


def unit_edit_distance(first: Units, second: Units) -> float:
    """Edits between the deduplicated sequences over the length of the first: the stricter of two normalisations in use
    (the other divides by all frames)."""
    a, b = deduplicate(first), deduplicate(second)
    return edit_distance(a, b) / len(a) if a else math.nan


def normalized_edit_distance(first: Units, second: Units) -> float:
    """Edits between the deduplicated sequences over the longer one: 0 equal, 1 nothing in common."""
    a, b = deduplicate(first), deduplicate(second)
    longest = max(len(a), len(b))
    return edit_distance(a, b) / longest if longest else math.nan


def usage(counts: Counter, codebook_size: int) -> dict[str, float]:
    """``used_share``, ``entropy`` in bits, ``normalized_entropy`` and ``perplexity`` of unit counts."""
    total = sum(counts.values())
    shares = np.array([count / total for count in counts.values()]) if total else np.ones(1)
    entropy = float(-(shares * np.log2(shares)).sum())
    full = math.log2(codebook_size) if codebook_size > 1 else 1.0
    return {"used_share": len(counts) / codebook_size, "entropy": entropy + 0.0,
            "normalized_entropy": entropy / full + 0.0, "perplexity": 2**entropy}


def huffman_bits(counts: Counter) -> float:
    """Mean length of a Huffman code made of these counts, in bits; 0 for a single unit."""
    heap, cost = list(counts.values()), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged  # each merge lengthens the code of all units below it by one bit
        heapq.heappush(heap, merged)
    total = sum(counts.values())
    return cost / total if total else math.nan


def learn_merges(sequences: Sequence[Units], count: int, least: int = 3) -> list[tuple[int, int]]:
    """Up to ``count`` byte-pair merges, each of the most frequent pair, seen at least ``least`` times."""
    sequences = [list(units) for units in sequences]
    fresh = max((max(units, default=0) for units in sequences), default=0) + 1
    merges = []
    for _ in range(count):
        pairs = Counter(pair for units in sequences for pair in zip(units, units[1:]))
        if not pairs:
            break
        pair, times = min(pairs.items(), key=lambda item: (-item[1], item[0]))
        if times < least:
            break
        sequences = [merge_pair(units, pair, fresh) for units in sequences]
        merges.append(pair)
        fresh += 1
    return merges


def merge_pair(units: Units, pair: tuple[int, int], new: int) -> list[int]:
    """``units`` with each occurrence of ``pair`` replaced by ``new``, from the left."""
    merged: list[int] = []
    index = 0
    while index < len(units):
        if tuple(units[index:index + 2]) == pair:
            merged.append(new)
            index += 2
        else:
            merged.append(units[index])
            index += 1
    return merged


def byte_pair_gain(train: Sequence[Units], test: Sequence[Units], merges: int) -> float:
    """Share of units that byte-pair encoding, learned on ``train``, saves on ``test``; both deduplicated."""
    train, test = [deduplicate(units) for units in train], [deduplicate(units) for units in test]
    before = sum(map(len, test))
    new = max((max(units, default=0) for units in train), default=0) + 1
    unknown = new + merges  # units that training did not see must not be taken for merged ones
    test = [[unit if unit < new else unit + unknown for unit in units] for units in test]
    for step, pair in enumerate(learn_merges(train, merges)):
        test = [merge_pair(units, pair, new + step) for units in test]
    return 1 - sum(map(len, test)) / before if before else math.nan


def jensen_shannon(first: Counter, second: Counter) -> float:
    """Divergence of two distributions of units in bits, 0 equal to 1 disjoint: invariance between languages."""
    totals = sum(first.values()), sum(second.values())
    divergence = 0.0
    for unit in set(first) | set(second):
        p, q = first[unit] / totals[0], second[unit] / totals[1]
        middle = (p + q) / 2
        divergence += sum(share / 2 * math.log2(share / middle) for share in (p, q) if share)
    return divergence
