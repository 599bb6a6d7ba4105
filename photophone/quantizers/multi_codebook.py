"""Multi-codebook quantization: channels are split in chunks and each chunk has its own codebook.

Paper: UniTok (arXiv 2502.20321).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.kernels.dispatch import choose
from photophone.kernels.vq import lookup
from photophone.quantizers.base import Quantizer, QuantizerOutput, stack_books
from photophone.quantizers.vq import VectorQuantizer


class MultiCodebookVQ(Quantizer):
    """Q independent :class:`VectorQuantizer` on Q contiguous chunks of the channels; the loss is their mean.

    Args:
        dim: width D, divisible by num_codebooks.
        codebook_size: codes of each codebook.
        num_codebooks: Q.
        **chunk: settings of each :class:`VectorQuantizer`; UniTok has ``l2_norm=True``.

    Raises:
        ValueError: when D is not divisible by Q, or for settings the chunks refuse.
    """

    def __init__(self, dim: int, codebook_size: int, num_codebooks: int, **chunk) -> None:
        super().__init__(dim, codebook_size=codebook_size, num_codebooks=num_codebooks)
        if dim % num_codebooks:
            raise ValueError(f"dim={dim} is not divisible by num_codebooks={num_codebooks}")
        width = dim // num_codebooks
        self.codebooks = nn.ModuleList(VectorQuantizer(width, codebook_size, **chunk) for _ in range(num_codebooks))

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        # (B, N, D) -> Q x (B, N, D/Q)
        outputs = [book(part, mask, noise) for book, part in zip(self.codebooks, x.chunk(self.num_codebooks, dim=-1))]
        loss = torch.stack([o.loss for o in outputs]).mean()
        metrics = {name: torch.stack([o.metrics[name] for o in outputs]).mean() for name in outputs[0].metrics}
        values = torch.cat([o.values for o in outputs], dim=-1)
        return QuantizerOutput(values, stack_books([o.indices for o in outputs]), loss, metrics)

    def _as_seen(self, x: Tensor) -> Tensor:
        return torch.cat([book._as_seen(part)
                          for book, part in zip(self.codebooks, x.chunk(self.num_codebooks, dim=-1))], dim=-1)

    def _start_codebook(self, x: Tensor, noise: Noise) -> None:
        for book, part in zip(self.codebooks, x.chunk(self.num_codebooks, dim=-1)):
            book.start_codebook(part, noise)

    def _encode(self, x: Tensor) -> Tensor:
        parts = x.chunk(self.num_codebooks, dim=-1)
        first = self.codebooks[0]
        if choose("vq", x, first.codebook) == "triton":  # cosines need no unit rows
            books = torch.stack([book.codebook for book in self.codebooks])
            rows = x.flatten(0, 1).unflatten(-1, (self.num_codebooks, -1)).transpose(0, 1)  # (Q, B N, D/Q)
            found = lookup(rows, books, cosine=first.cosine)
            return stack_books(list(found.indices.unflatten(1, x.shape[:2])))
        return stack_books([book.encode(part) for book, part in zip(self.codebooks, parts)])

    def _decode(self, tokens: Tensor) -> Tensor:
        books = tokens[:, None] if tokens.ndim == 2 else tokens  # (B, Q, N)
        return torch.cat([book.decode(books[:, number]) for number, book in enumerate(self.codebooks)], dim=-1)
