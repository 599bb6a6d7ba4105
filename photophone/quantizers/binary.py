"""Binary quantization: the sign of each channel is one bit, and the codebook is all bit patterns.

Papers: LFQ of MAGVIT-v2 (arXiv 2310.05737), BSQ (2406.07548, used by FocalCodec), GFQ of BitDance (2602.14041).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from photophone.core.noise import Noise
from photophone.kernels.pack import quantize_signs
from photophone.layers.lengths import masked_mean
from photophone.quantizers.base import (
    Quantizer,
    QuantizerOutput,
    check_positive,
    straight_through,
    usage_metrics,
    valid_rows,
)
from photophone.quantizers.bits import MAX_GROUP_BITS, bit_entropies, bits_of, bits_per_codebook


class BinaryQuantizer(Quantizer):
    """Base of LFQ and BSQ: bit = (x > 0), value = +scale or -scale.

    Loss: ``beta * mean |x - sg(value)|^2 + entropy_weight * (row entropy - diversity * batch entropy)``, where a bit
    is one with probability ``sigmoid(4 * inverse_temperature * scale * x)``: the softmax of minus the squared
    distance times inverse_temperature over all codes. The bits are split in ``num_codebooks`` equal groups, each
    packed into one index, first bit highest, or lowest with ``lowest_first``.

    Raises:
        ValueError: when bits do not divide among the codebooks, an index would pass 62 bits, or a setting is out of
            range.
    """

    def __init__(self, dim: int, num_codebooks: int, *, scale: float, beta: float, entropy_weight: float,
                 diversity: float, inverse_temperature: float, entropy_group_bits: int,
                 lowest_first: bool = False) -> None:
        bits = bits_per_codebook(dim, num_codebooks)
        super().__init__(dim, codebook_size=2**bits, num_codebooks=num_codebooks)
        check_positive(scale=scale, inverse_temperature=inverse_temperature)
        if not 1 <= entropy_group_bits <= MAX_GROUP_BITS:
            raise ValueError(f"entropy_group_bits must lie in 1..{MAX_GROUP_BITS}, got {entropy_group_bits}")
        self.bits = bits
        self.scale = scale
        self.beta = beta
        self.entropy_weight = entropy_weight
        self.diversity = diversity
        self.inverse_temperature = inverse_temperature
        self.entropy_group_bits = entropy_group_bits
        self.lowest_first = lowest_first

    def _prepared(self, x: Tensor) -> Tensor:
        """The input the signs are taken of."""
        return x

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        x = self._prepared(x)
        values, indices = quantize_signs(self._ordered(x.detach()), self.num_codebooks, self.scale)
        values = self._ordered(values)
        loss = self.beta * masked_mean((x - values).square(), mask)
        metrics = usage_metrics(indices, self.codebook_size, mask)
        if self.entropy_weight:
            logits = valid_rows(x, mask) * (4 * self.inverse_temperature * self.scale)  # (M, D)
            row, batch = self._entropies(logits)
            loss = loss + self.entropy_weight * (row - self.diversity * batch)
            metrics |= {"row_entropy": row.detach(), "batch_entropy": batch.detach()}
        return QuantizerOutput(straight_through(x, values), indices, loss, metrics)

    def _encode(self, x: Tensor) -> Tensor:
        x = self._ordered(self._prepared(x))
        return quantize_signs(x, self.num_codebooks, self.scale, want_values=False)[1]

    def _decode(self, tokens: Tensor) -> Tensor:
        return self._signs(self._ordered(bits_of(tokens, self.bits)))

    def _entropies(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Mean entropy of a token and entropy of the average, of the logits (M, D) of all bits."""
        return bit_entropies(logits, self.entropy_group_bits)

    def _ordered(self, x: Tensor) -> Tensor:
        """Channels (..., D) between their own order and that of packing, both ways."""
        return x.unflatten(-1, (self.num_codebooks, -1)).flip(-1).flatten(-2) if self.lowest_first else x

    def _signs(self, bits: Tensor) -> Tensor:
        return (2.0 * bits.float() - 1.0) * self.scale


class LFQ(BinaryQuantizer):
    """Lookup-free quantization: the sign of each channel (arXiv 2310.05737); see :class:`BinaryQuantizer`.

    Args:
        dim: channels, one bit each.
        num_codebooks: indices a token.
        scale: size of the values.
        beta, entropy_weight, diversity, inverse_temperature, entropy_group_bits: the loss.
    """

    def __init__(self, dim: int, num_codebooks: int = 1, *, scale: float = 1.0, beta: float = 0.25,
                 entropy_weight: float = 0.1, diversity: float = 1.0, inverse_temperature: float = 100.0,
                 entropy_group_bits: int = 8) -> None:
        super().__init__(dim, num_codebooks, scale=scale, beta=beta, entropy_weight=entropy_weight,
                         diversity=diversity, inverse_temperature=inverse_temperature,
                         entropy_group_bits=entropy_group_bits)


class BSQ(BinaryQuantizer):
    """Binary spherical quantization: the input is normalised, values are +-1/sqrt(D), also of length one.

    The distance to a code is bounded, so the commitment term is off by default (arXiv 2406.07548). The gradient
    passes the normalisation. See :class:`BinaryQuantizer` for the settings.
    """

    def __init__(self, dim: int, num_codebooks: int = 1, *, beta: float = 0.0, entropy_weight: float = 0.1,
                 diversity: float = 1.0, inverse_temperature: float = 100.0, entropy_group_bits: int = 8) -> None:
        super().__init__(dim, num_codebooks, scale=max(dim, 1) ** -0.5, beta=beta, entropy_weight=entropy_weight,
                         diversity=diversity, inverse_temperature=inverse_temperature,
                         entropy_group_bits=entropy_group_bits)

    def _prepared(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


class GFQ(BinaryQuantizer):
    """Signs in groups of bits: BitDance (arXiv 2602.14041). See :class:`BinaryQuantizer`.

    The entropies are those of a group, and the groups of all tokens count as samples of one distribution. The first
    bit of a group is the lowest.
    """

    def __init__(self, dim: int, num_codebooks: int = 1, *, beta: float = 0.25, entropy_weight: float = 0.1,
                 diversity: float = 1.0, inverse_temperature: float = 100.0) -> None:
        super().__init__(dim, num_codebooks, scale=1.0, beta=beta, entropy_weight=entropy_weight, diversity=diversity,
                         inverse_temperature=inverse_temperature, lowest_first=True,
                         entropy_group_bits=min(MAX_GROUP_BITS, bits_per_codebook(dim, num_codebooks)))

    def _entropies(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        groups = logits.unflatten(-1, (self.num_codebooks, -1)).flatten(0, 1)  # (M Q, D/Q)
        return bit_entropies(groups, self.entropy_group_bits, eps=1e-5)
