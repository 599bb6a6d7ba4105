"""TASTE's residual quantizer, whose codebooks follow moving averages.

Papers: SoundStream (arXiv 2107.03312), TASTE (2504.07053).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.kernels.vq import nearest_code
from photophone.layers.lengths import masked_mean
from photophone.loading.checkpoints import State
from photophone.quantizers.base import straight_through

EPS = 1e-5


@dataclass(frozen=True)
class WordCodes:
    """What words became.

    Attributes:
        values: (B, N, dim), zero where a row has ended.
        codes: Long (B, N, Q), -1 there and for levels that were left out.
        losses: (Q,), the error of each level in the space of the codes, 0 for those left out.
    """

    values: Tensor
    codes: Tensor
    losses: Tensor


class WordQuantizer(nn.Module):
    """Values (B, N, dim) to codes of Q levels in a smaller space, and back.

    Args:
        dim, code_dim: widths of the values and of the codes.
        codebook_size, num_levels: K and Q.
        decay: of the moving averages.
        level_dropout: in training, keep the first levels only, as many as are drawn for each batch.
    """

    def __init__(self, dim: int, code_dim: int, codebook_size: int, num_levels: int, decay: float = 0.99,
                 level_dropout: bool = True) -> None:
        super().__init__()
        self.decay, self.level_dropout = decay, level_dropout
        self.project_in, self.project_out = nn.Linear(dim, code_dim), nn.Linear(code_dim, dim)
        books = torch.randn(num_levels, codebook_size, code_dim)
        self.register_buffer("books", books)
        self.register_buffer("sums", books.clone())
        self.register_buffer("sizes", torch.ones(num_levels, codebook_size))

    def forward(self, x: Tensor, mask: Tensor, noise: Noise | None = None) -> WordCodes:
        """Quantize; in training the books move.

        Args:
            x: (B, N, dim).
            mask: bool (B, N), True for what is valid.
            noise: says in training how many levels are kept.
        """
        target = self.project_in(x)
        kept = len(self.books)
        if self.training and self.level_dropout:
            kept = int((noise or GlobalNoise(x.device)).integers(0, kept, 1)) + 1
        residual, total, codes, losses = target, torch.zeros_like(target), [], []
        for level in range(len(self.books)):
            if level >= kept:
                codes.append(torch.full(x.shape[:2], -1, device=x.device))
                losses.append(target.new_zeros(()))
                continue
            index, values = self.nearest(residual, level)
            losses.append(masked_mean((residual - values).square(), mask))
            codes.append(index.masked_fill(~mask, -1))
            if self.training:
                self.move(level, residual.detach()[mask], index[mask])
            total, residual = total + values, residual - values
        values = self.project_out(straight_through(target, total)) * mask[..., None]
        return WordCodes(values, torch.stack(codes, dim=-1), torch.stack(losses))

    def nearest(self, x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The nearest codes Long (B, N) of a level, and their values, of x (B, N, code_dim)."""
        index = nearest_code(x.detach().flatten(0, 1).float(), self.books[level].float()).view(x.shape[:2])
        return index, self.books[level][index]

    def encode_codes(self, x: Tensor) -> Tensor:
        """Codes Long (B, N, Q) of values (B, N, code_dim) in the space of the codes."""
        codes = []
        for level in range(len(self.books)):
            index, values = self.nearest(x, level)
            codes.append(index)
            x = x - values
        return torch.stack(codes, dim=-1)

    def code_sum(self, codes: Tensor) -> Tensor:
        """What codes Long (B, N, Q) stand for in their own space, (B, N, code_dim); below 0 counts as nothing."""
        parts = [torch.where((index >= 0)[..., None], book[index.clamp(min=0)], 0)
                 for book, index in zip(self.books, codes.unbind(-1), strict=True)]
        return torch.stack(parts).sum(0)

    def decode(self, codes: Tensor) -> Tensor:
        """Values (B, N, dim) of codes Long (B, N, Q)."""
        return self.project_out(self.code_sum(codes))

    @torch.no_grad()
    def move(self, level: int, rows: Tensor, index: Tensor) -> None:
        """One step of the moving averages of a level: rows (M, code_dim) with codes Long (M,)."""
        chosen = nn.functional.one_hot(index, self.books.shape[1]).to(rows)
        self.sizes[level].lerp_(chosen.sum(0), 1 - self.decay)
        self.sums[level].lerp_(chosen.T @ rows, 1 - self.decay)
        total = self.sizes[level].sum()
        smooth = (self.sizes[level] + EPS) / (total + len(self.sizes[level]) * EPS) * total
        self.books[level] = self.sums[level] / smooth[:, None]


def convert_quantizer(state: State, prefix: str, target: str) -> State:
    """Keys of the official quantizer below ``prefix`` to those of a :class:`WordQuantizer` at ``target``; others
    stay."""
    made = {key.replace(prefix, target, 1) if key.startswith(prefix) else key: value for key, value in state.items()}
    levels = sum(key.startswith(prefix) and key.endswith("._codebook.embed") for key in state)
    for ours, theirs in (("books", "embed"), ("sums", "embed_avg"), ("sizes", "cluster_size")):
        parts = [made.pop(f"{target}layers.{level}._codebook.{theirs}") for level in range(levels)]
        made |= {target + ours: torch.cat(parts)} if parts else {}
    return made
