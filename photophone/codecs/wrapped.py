"""What the codecs share whose networks are those of transformers."""

from __future__ import annotations

from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.loading.checkpoints import OriginalCheckpoint


class WrappedCodec(OriginalCheckpoint, AudioCodec):
    """Codes (B, Q, N) of residual codebooks, or (B, N) of the first one alone.

    A family's config holds ``num_codebooks``, the books that are used, and ``settings``, arguments of the transformers
    config that differ from its defaults. It reads the hub's ``model.safetensors``, whose keys are transformers'.
    Clips are filled up to whole hops by silence, so a padded batch equals single runs, and decoding gives back whole
    hops.
    """

    def check_books(self, most: int) -> None:
        """Refuse more codebooks than there are."""
        if not 1 <= self.config.num_codebooks <= most:
            raise ValueError(f"num_codebooks must lie in 1..{most}, got {self.config.num_codebooks}")


def to_values(codes: Tensor) -> Tensor:
    """Codes (B, Q, N) as token values: (B, N) for one book."""
    return codes[:, 0] if codes.shape[1] == 1 else codes


def to_books(values: Tensor) -> Tensor:
    """Token values as codes (B, Q, N)."""
    return values[:, None] if values.dim() == 2 else values
