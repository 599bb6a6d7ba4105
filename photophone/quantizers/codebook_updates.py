"""Updates of a codebook outside the gradient: k-means, moving averages, revival of dead codes, clustering.

All are pure functions of rows ``x`` (M, D) and a codebook ``(K, D)``; nothing here keeps state. Counts and sums
are added over the processes of ``torch.distributed`` when it runs, so that all ranks hold the same codebook.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from photophone.kernels.vq import nearest_code


def distributed() -> bool:
    """True when several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes; ``x`` itself with one process."""
    if not distributed():
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total


def same_on_all(x: Tensor) -> Tensor:
    """The ``x`` of process 0 on all processes."""
    if distributed():
        x = x.contiguous()
        dist.broadcast(x, 0)
    return x


def rows_on_all(x: Tensor) -> bool:
    """True when every process has at least one row; a process must not skip an update that others wait in."""
    if not distributed():
        return len(x) > 0
    fewest = torch.tensor(len(x), device=x.device)
    dist.all_reduce(fewest, dist.ReduceOp.MIN)
    return int(fewest) > 0


def pick_rows(x: Tensor, priority: Tensor, count: int) -> Tensor:
    """``count`` random rows of ``x``: those of lowest priority; rows repeat only when there are fewer than ``count``.

    Args:
        x: float ``(M, D)``, M at least 1.
        priority: float ``(M,)`` of uniform draws.
        count: rows to pick.

    Returns:
        float ``(count, D)``.
    """
    order = priority.argsort()
    return x[order[torch.arange(count, device=x.device) % len(x)]]


def assignment_sums(x: Tensor, indices: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """How many rows each code has ``(K,)`` and the sum of these rows ``(K, D)``, over all processes."""
    counts = x.new_zeros(codebook_size).index_add_(0, indices, x.new_ones(len(x)))
    sums = x.new_zeros(codebook_size, x.shape[1]).index_add_(0, indices, x)
    return sum_over_processes(counts), sum_over_processes(sums)


def kmeans(x: Tensor, centres: Tensor, iterations: int, *, cosine: bool = False) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm; a centre without rows stays where it is.

    Args:
        x: float ``(M, D)``.
        centres: float ``(K, D)``, the start.
        iterations: rounds, at least 1.
        cosine: assign by cosine similarity.

    Returns:
        centres ``(K, D)`` and the rows each had in the last round ``(K,)``.
    """
    for _ in range(iterations):
        counts, sums = assignment_sums(x, nearest_code(x, centres, cosine=cosine), len(centres))
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return centres, counts


def ema_update(cluster_size: Tensor, code_sum: Tensor, counts: Tensor, sums: Tensor, decay: float,
               eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the moving-average codebook (arXiv 1711.00937, appendix A).

    Args:
        cluster_size, code_sum: the averages so far, ``(K,)`` and ``(K, D)``.
        counts, sums: those of this batch.
        decay: weight of the old average.
        eps: Laplace smoothing of the cluster sizes, so that an empty code divides by no zero.

    Returns:
        the new codebook ``(K, D)``, cluster_size and code_sum.
    """
    cluster_size = decay * cluster_size + (1 - decay) * counts
    code_sum = decay * code_sum + (1 - decay) * sums
    total = cluster_size.sum()
    smoothed = (cluster_size + eps) / (total + len(cluster_size) * eps) * total
    return code_sum / smoothed[:, None], cluster_size, code_sum


def clustering_update(codebook: Tensor, usage: Tensor, x: Tensor, nearest_row: Tensor, counts: Tensor,
                      ) -> tuple[Tensor, Tensor]:
    """Pull rarely used codes to their nearest feature (CVQ, arXiv 2307.15139), as TA-TiTok trains.

    Args:
        codebook: float ``(K, D)``.
        usage: moving average of the share of each code ``(K,)``.
        x: features ``(M, D)``.
        nearest_row: Long ``(K,)``, the row of x nearest to each code.
        counts: rows that chose each code in this batch ``(K,)``, over all processes.

    Returns:
        the new codebook and usage.
    """
    usage = 0.99 * usage + 0.01 * counts / counts.sum().clamp(min=1)
    # A code with its fair share of rows (usage K = 1) moves by exp(-1000): not at all. A dead one jumps.
    rate = torch.exp(-usage * len(codebook) * 10 / (1 - 0.99) - 1e-3)[:, None]
    return codebook * (1 - rate) + same_on_all(x[nearest_row]) * rate, usage
