"""Chameleon's VQGAN: codes of 512 pixels, and the same network without its codebook, as Orthus reads and draws images.

Papers: Chameleon (arXiv 2405.09818), Orthus (2412.00127). Code of the model: transformers, Apache-2.0. Weights:
Chameleon research licence.
"""

from __future__ import annotations

from torch import nn

from photophone.data.image_reading import ImageReading
from photophone.layers.vqgan import Decoder, Encoder
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.gaussian import NoQuantizer
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.grid import GridTokenizer

LANGUAGE_MODEL = ("lm_head.*", "mlp_head.*", "adaptor.*", "model.layers.*", "model.embed_tokens.*", "model.norm.*",
                  "model.codebook_in.*")
"""What lies in the same files."""


class VQGAN512(GridTokenizer):
    """The networks of both; attention stands between the levels alone. The bottleneck is the families'."""

    reading = ImageReading("lanczos", scale=(0.0078,))  # so white is 0.989, as in the training

    def _build(self, channels: int, multipliers: list[int], blocks: int, latent_channels: int,
               token_width: int) -> None:
        self.check_image_size()
        self.encoder = Encoder(out_channels=latent_channels, channels=channels, multipliers=multipliers, blocks=blocks)
        self.to_latent = nn.Conv2d(latent_channels, token_width, 1)
        self.from_latent = nn.Conv2d(token_width, latent_channels, 1)
        self.decoder = Decoder(in_channels=latent_channels, channels=channels, multipliers=multipliers,
                               blocks=blocks + 1)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return GridTokenizer.convert_state_dict(rename_keys(state, [(r"^model\.vqmodel\.", "")]))


class ChameleonVQ(VQGAN512):
    """Images to a grid of codes Long (B, N).

    Args:
        image_size: pixels per side.
        channels, multipliers, blocks: of both networks; see :class:`photophone.layers.vqgan.Encoder`.
        latent_channels: width between the networks and the 1x1 convolutions around the codebook.
        token_width, num_codes: of the codebook.
        commitment: of the loss.

    Raises:
        ValueError: for sizes that do not fit.
    """

    DROPPED_KEYS = LANGUAGE_MODEL

    def __init__(self, image_size: int = 512, channels: int = 128, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, latent_channels: int = 256, token_width: int = 256, num_codes: int = 8192,
                 commitment: float = 0.25) -> None:
        super().__init__()
        self._build(channels, multipliers, blocks, latent_channels, token_width)
        self.bottleneck = VectorQuantizer(token_width, num_codes, beta=commitment)


class OrthusVAE(VQGAN512):
    """Images to a grid of continuous tokens (B, N, D), what the codebook would read.

    Args:
        image_size, channels, multipliers, blocks, latent_channels: see :class:`ChameleonVQ`.
        token_width: D.

    Raises:
        ValueError: for sizes that do not fit.
    """

    DROPPED_KEYS = (*LANGUAGE_MODEL, "model.vqmodel.quantize.*", "quantize.*")

    def __init__(self, image_size: int = 512, channels: int = 128, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, latent_channels: int = 256, token_width: int = 256) -> None:
        super().__init__()
        self._build(channels, multipliers, blocks, latent_channels, token_width)
        self.bottleneck = NoQuantizer(token_width)
