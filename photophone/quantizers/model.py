"""What image tokenizers and audio codecs share: a model whose tokens come from a quantizer."""

from __future__ import annotations

from photophone.core.model import Model
from photophone.quantizers.base import Quantizer


class QuantizedModel(Model):
    """A model with a quantizer ``bottleneck``, and what its tokens are like."""

    bottleneck: Quantizer

    @property
    def token_dim(self) -> int | None:
        """Width of a continuous token, None for discrete tokens."""
        return self.bottleneck.token_dim

    @property
    def codebook_size(self) -> int | None:
        """Codes in a codebook, None for continuous tokens."""
        return self.bottleneck.codebook_size

    @property
    def num_codebooks(self) -> int:
        """Codes per token."""
        return self.bottleneck.num_codebooks
