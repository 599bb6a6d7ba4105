"""Vector quantization: one codebook, learned by gradient or by moving averages.

Papers: VQ-VAE (arXiv 1711.00937), VQGAN (2012.09841), ViT-VQGAN for the normalised codes (2110.04627), EnCodec for
moving averages with k-means start and revival (2210.13438), DAC for low-dimensional cosine search (2306.06546).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.kernels.dispatch import choose
from photophone.kernels.vq import lookup, nearest_code
from photophone.layers.lengths import masked_mean
from photophone.quantizers import codebook_updates as updates
from photophone.quantizers.base import (
    Quantizer,
    QuantizerOutput,
    check_positive,
    entropy_terms,
    noise_or_global,
    straight_through,
    usage_metrics,
    valid_rows,
)


class VectorQuantizer(Quantizer):
    """Each token becomes the nearest of K codes.

    Loss: ``codebook_weight * mean |sg(x) - e|^2 + beta * mean |x - sg(e)|^2`` (means over tokens and channels), the
    first term only with a gradient codebook, plus ``entropy_weight * (row entropy - batch entropy)`` of
    ``softmax(-distance^2 / entropy_temperature)``.

    Args:
        dim: width D of tokens and codes.
        codebook_size: number K of codes.
        l2_norm: tokens and codes are normalised; values, losses and statistics are those of unit vectors, and the
            straight-through gradient passes the normalisation of the token.
        cosine_search: search by cosine, but give back and compare the codes as stored (DAC, BiCodec).
        beta, codebook_weight: weights of the loss. The old VQGAN order is ``beta=1, codebook_weight=0.25``.
        ema_decay: None for a gradient codebook, else the decay in [0, 1) of the moving averages.
        revive_below: with ema_decay, a code whose average rows a batch falls below this is replaced by a random
            row of the batch; 0 turns it off.
        kmeans_iterations: with ema_decay, start the codebook by k-means on the first training batch; 0: no.
        clustering: with a gradient codebook, pull unused codes to features after each training step (TA-TiTok).
        entropy_weight, entropy_temperature: of the entropy loss; it holds all B*N x K scores.
        entropy_eps: see :func:`photophone.quantizers.base.entropy_terms`.

    Raises:
        ValueError: for settings out of range or that exclude each other.
    """

    def __init__(self, dim: int, codebook_size: int, *, l2_norm: bool = False, cosine_search: bool = False,
                 beta: float = 0.25, codebook_weight: float = 1.0, ema_decay: float | None = None,
                 revive_below: float = 2.0, kmeans_iterations: int = 0, clustering: bool = False,
                 entropy_weight: float = 0.0, entropy_temperature: float = 0.01,
                 entropy_eps: float = 1e-6) -> None:
        super().__init__(dim, codebook_size=codebook_size)
        if l2_norm and cosine_search:
            raise ValueError("l2_norm=True already searches by cosine; leave cosine_search=False")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1) or be None, got {ema_decay}")
        if kmeans_iterations < 0 or (kmeans_iterations and ema_decay is None):
            raise ValueError(f"kmeans_iterations must be 0 or more and needs ema_decay, got {kmeans_iterations}")
        if revive_below < 0:
            raise ValueError(f"revive_below must be 0 or more, got {revive_below}")
        if clustering and ema_decay is not None:
            raise ValueError("clustering=True needs a gradient codebook: ema_decay=None")
        check_positive(entropy_temperature=entropy_temperature)
        self.l2_norm = l2_norm
        self.cosine = l2_norm or cosine_search
        self.beta = beta
        self.codebook_weight = codebook_weight
        self.ema_decay = ema_decay
        self.revive_below = revive_below
        self.kmeans_iterations = kmeans_iterations
        self.clustering = clustering
        self.entropy_weight = entropy_weight
        self.entropy_temperature = entropy_temperature
        self.entropy_eps = entropy_eps
        # Not nn.init, whose functions give back None while diffusers loads a model.
        codebook = torch.empty(codebook_size, dim).uniform_(-1 / codebook_size, 1 / codebook_size)
        codebook = F.normalize(codebook, dim=-1) if l2_norm else codebook
        if ema_decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            # Sizes of one make codebook = code_sum / cluster_size true from the start.
            self.register_buffer("cluster_size", torch.ones(codebook_size))
            self.register_buffer("code_sum", codebook.clone())
            self.register_buffer("initialized", torch.tensor(kmeans_iterations == 0))
        if clustering:
            self.register_buffer("usage", torch.zeros(codebook_size))

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        raw = x
        x = self._unit(x)
        moving = self.training and self.ema_decay is not None
        rows = valid_rows(x.detach(), mask)  # (M, D)
        if moving:
            priority = valid_rows(noise_or_global(noise, x).uniform(*x.shape[:2]).to(x.device), mask)  # (M,)
            self._start_by_kmeans(rows, priority)
        indices, statistics = self._assign(x.detach(), mask, moving)
        codes = self._look_up(indices)
        loss = self.beta * masked_mean((x - codes.detach()).square(), mask)
        if self.ema_decay is None:
            loss = loss + self.codebook_weight * masked_mean((x.detach() - codes).square(), mask)
        if self.entropy_weight:
            loss = loss + self.entropy_weight * self._entropy_loss(valid_rows(x, mask))
        if moving:
            self._move_codes(rows, valid_rows(indices, mask), priority, statistics)
        elif self.training and self.clustering:
            self._cluster_codes(valid_rows(raw.detach(), mask), valid_rows(indices, mask))
        metrics = usage_metrics(indices, self.codebook_size, mask)
        return QuantizerOutput(straight_through(x, codes), indices, loss, metrics)

    def _encode(self, x: Tensor) -> Tensor:
        return self._encode_unit(self._unit(x))

    def _decode(self, tokens: Tensor) -> Tensor:
        return self._look_up(tokens)

    def _as_seen(self, x: Tensor) -> Tensor:
        return self._unit(x)

    def _start_codebook(self, x: Tensor, noise: Noise) -> None:
        rows = self._unit(x).flatten(0, 1)
        priority = noise.uniform(*x.shape[:2]).flatten().to(x.device)
        codes = updates.same_on_all(updates.pick_rows(rows, priority, self.codebook_size))
        if self.ema_decay is None:
            self.codebook.copy_(codes)
        else:
            self._store(codes, torch.ones_like(self.cluster_size), codes)
            self.initialized.fill_(True)

    def _unit(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.l2_norm else x

    def _encode_unit(self, x: Tensor) -> Tensor:
        return nearest_code(x.flatten(0, 1), self.codebook, cosine=self.cosine).view(x.shape[:2])  # (B, N)

    def _assign(self, x: Tensor, mask: Tensor | None, moving: bool) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Indices (B, N), and what moving averages need of them where the search has it anyway."""
        if not moving or choose("vq", x, self.codebook, mask) != "triton":
            return self._encode_unit(x), None
        found = lookup(x.flatten(0, 1), self.codebook, cosine=self.cosine, statistics=True,
                       valid=None if mask is None else mask.flatten())
        return found.indices.view(x.shape[:2]), (found.counts, found.sums)

    def _look_up(self, indices: Tensor) -> Tensor:
        # Normalised after the look-up: the gradient then needs no copy of the codebook, which training may move.
        return self._unit(F.embedding(indices, self.codebook).float())  # (B, N, D)

    def _entropy_loss(self, rows: Tensor) -> Tensor:
        codebook = self._unit(self.codebook.clone().float())  # a copy: moving averages write in place before backward
        distance = rows.square().sum(-1, keepdim=True) - 2 * rows @ codebook.T + codebook.square().sum(-1)  # (M, K)
        row_entropy, batch_entropy = entropy_terms(-distance / self.entropy_temperature, self.entropy_eps)
        return row_entropy - batch_entropy

    @torch.no_grad()
    def _start_by_kmeans(self, rows: Tensor, priority: Tensor) -> None:
        if self.initialized or not updates.rows_on_all(rows):
            return
        start = updates.same_on_all(updates.pick_rows(rows, priority, self.codebook_size))
        centres, counts = updates.kmeans(rows, start, self.kmeans_iterations, cosine=self.cosine)
        # An empty centre keeps its place as if it had one row; revival replaces it if it stays empty.
        counts = counts.clamp(min=1)
        self._store(centres, counts, centres * counts[:, None])
        self.initialized.fill_(True)

    @torch.no_grad()
    def _move_codes(self, rows: Tensor, indices: Tensor, priority: Tensor,
                    statistics: tuple[Tensor, Tensor] | None) -> None:
        if not updates.rows_on_all(rows):
            return
        if statistics is None:
            counts, sums = updates.assignment_sums(rows, indices, self.codebook_size)
        else:
            counts, sums = map(updates.sum_over_processes, statistics)
        state = updates.ema_update(self.cluster_size.float(), self.code_sum.float(), counts, sums, self.ema_decay)
        codebook, cluster_size, code_sum = state
        dead = cluster_size < self.revive_below
        if dead.any():
            fresh = updates.same_on_all(updates.pick_rows(rows, priority, int(dead.sum())))
            codebook[dead] = fresh
            cluster_size[dead] = self.revive_below
            code_sum[dead] = fresh * self.revive_below
        self._store(codebook, cluster_size, code_sum)

    @torch.no_grad()
    def _cluster_codes(self, rows: Tensor, indices: Tensor) -> None:
        if not updates.rows_on_all(rows):
            return
        counts, _ = updates.assignment_sums(rows, indices, self.codebook_size)
        nearest_row = nearest_code(self.codebook, rows, cosine=self.cosine)  # (K,): the search with its sides swapped
        old = self.codebook.float(), self.usage.float()
        codebook, usage = updates.clustering_update(*old, rows, nearest_row, counts)
        self.codebook.copy_(codebook)
        self.usage.copy_(usage)

    def _store(self, codebook: Tensor, cluster_size: Tensor, code_sum: Tensor) -> None:
        self.codebook.copy_(codebook)
        self.cluster_size.copy_(cluster_size)
        self.code_sum.copy_(code_sum)
