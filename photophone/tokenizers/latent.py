"""What tokenizers with latent tokens share: a transformer reads the image into N tokens that lie on no grid."""

from __future__ import annotations

from photophone.loading.checkpoints import OriginalCheckpoint
from photophone.tokenizers.base import ImageTokenizer


def grid_side(image_size: int, patch: int, name: str = "patch") -> int:
    """Patches per side of an image.

    Raises:
        ValueError: the patch does not divide the image.
    """
    if patch < 1 or image_size < patch or image_size % patch:
        raise ValueError(f"image_size must be a positive multiple of {name}, got image_size={image_size} and "
                         f"{name}={patch}")
    return image_size // patch


class LatentTokenizer(OriginalCheckpoint, ImageTokenizer):
    """Encoder to a sequence of latents, bottleneck, decoder; ``num_tokens`` stands in the config."""

    @property
    def num_tokens(self) -> int:
        return self.config.num_tokens
