"""SimCodec's quantizer: residual layers whose channels are split into groups, each with a book of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.quantizers.base import Quantizer, QuantizerOutput, stack_books
from photophone.quantizers.multi_codebook import MultiCodebookVQ

SPREAD_WEIGHT = 0.1
SPREAD_SCALE = 3.0


class GroupedResidualVQ(Quantizer):
    """L residual layers of G groups; codes are Long (B, L G, N), or (B, N) for one book, layer by layer.

    The loss is the mean of those of the layers, and a term that pushes the codewords of the first layer apart.

    Args:
        dim: width D, a multiple of the groups.
        codebook_size: codes of each book.
        num_layers, num_groups: L and G.
        beta, codebook_weight: see :class:`photophone.quantizers.vq.VectorQuantizer`.
    """

    decodes_fewer = True

    def __init__(self, dim: int, codebook_size: int, num_layers: int = 1, num_groups: int = 1, *, beta: float = 0.25,
                 codebook_weight: float = 1.0) -> None:
        super().__init__(dim, codebook_size=codebook_size, num_codebooks=num_layers * num_groups)
        self.num_groups = num_groups
        self.layers = nn.ModuleList(MultiCodebookVQ(dim, codebook_size, num_groups, beta=beta,
                                                    codebook_weight=codebook_weight) for _ in range(num_layers))

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        residual, total, outputs = x, torch.zeros_like(x), []
        for layer in self.layers:
            output = layer(residual, mask, noise)
            outputs.append(output)
            residual, total = residual - output.values.detach(), total + output.values
        loss = torch.stack([output.loss for output in outputs]).mean()
        loss = loss + SPREAD_WEIGHT * self.spread() / len(self.layers)
        metrics = {name: torch.stack([output.metrics[name] for output in outputs]).mean()
                   for name in outputs[0].metrics}
        books = [book for output in outputs for book in self._books(output.indices)]
        return QuantizerOutput(total, stack_books(books), loss, metrics)

    def spread(self) -> Tensor:
        """How little the codewords of the first layer differ, in nats, the mean over its groups."""
        losses = []
        for book in self.layers[0].codebooks:
            codes = book.codebook.float()
            own = torch.arange(len(codes), device=codes.device)
            losses.append(F.cross_entropy(SPREAD_SCALE * codes @ codes.T, own))
        return torch.stack(losses).mean()

    def _encode(self, x: Tensor) -> Tensor:
        books = []
        for layer in self.layers:
            codes = layer.encode(x)
            books += self._books(codes)
            x = x - layer.decode(codes)
        return stack_books(books)

    def _decode(self, tokens: Tensor) -> Tensor:
        books = tokens[:, None] if tokens.ndim == 2 else tokens
        if books.shape[1] % self.num_groups:
            raise ValueError(f"whole layers of {self.num_groups} books are decoded, got {books.shape[1]} books")
        parts = books.split(self.num_groups, dim=1)
        values = [layer.decode(part[:, 0] if self.num_groups == 1 else part)
                  for layer, part in zip(self.layers, parts)]
        return torch.stack(values).sum(0)

    def _books(self, codes: Tensor) -> list[Tensor]:
        return [codes] if codes.ndim == 2 else list(codes.unbind(1))
