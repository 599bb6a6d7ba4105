"""Models whose tokens come from a quantizer."""

from __future__ import annotations

from photophone.core.token_model import TokenModel
from photophone.core.tokens import TokenFormat
from photophone.quantizers.base import Quantizer


class QuantizedModel(TokenModel):
    """A model with a quantizer ``bottleneck``, which says what its tokens are like."""

    bottleneck: Quantizer

    @property
    def token_format(self) -> TokenFormat:
        """That of the bottleneck."""
        book = self.bottleneck
        return TokenFormat(book.token_dim, book.codebook_size, book.num_codebooks)
