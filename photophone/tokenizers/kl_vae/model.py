"""The KL autoencoder of latent diffusion, as MAR trained it: continuous tokens.

Papers: latent diffusion (arXiv 2112.10752), MAR (2406.11838). Official code of the weights: LTH14/mar, MIT. Weights:
under the licence of the code, none stated apart; trained on ImageNet. xAR (2502.20388), CSpD (2411.11925) and ALIT
(2411.02393) use the same file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.layers.vqgan import Decoder, Encoder
from photophone.quantizers.gaussian import GaussianBottleneck, mean_and_logvar
from photophone.tokenizers.grid import GridTokenizer


class KLVAE(GridTokenizer):
    """Images to a grid of Gaussian latents, scaled to about unit variance.

    Args:
        image_size: pixels per side; the network takes any multiple of its stride.
        channels, multipliers, blocks: sizes of the encoder; see :class:`photophone.layers.vqgan.Encoder`. The decoder
            has one block more a level.
        decoder_channels, decoder_blocks: the decoder's width and blocks of each level, where they differ from that.
        latent_width: width D of a token.
        encoder_attention_levels, decoder_attention_levels: levels with attention. MAR's decoder has none: an accident
            of its port that the published weights depend on (latent diffusion's has some).
        scaling: tokens are latents times this.
        kl_weight: of the loss.

    Raises:
        ValueError: for sizes that do not fit.
    """

    CONTAINERS = ("model",)

    def __init__(self, image_size: int = 256, channels: int = 128, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, decoder_channels: int | None = None, decoder_blocks: int | None = None,
                 latent_width: int = 16, encoder_attention_levels: list[int] = (4,),
                 decoder_attention_levels: list[int] = (), scaling: float = 0.2325, kl_weight: float = 1e-6) -> None:
        super().__init__()
        self.check_image_size()
        if not scaling > 0:
            raise ValueError(f"scaling must be above 0, got {scaling}")
        self.encoder = Encoder(out_channels=2 * latent_width, channels=channels, multipliers=multipliers,
                               blocks=blocks, attention_levels=encoder_attention_levels)
        self.to_latent = nn.Conv2d(2 * latent_width, 2 * latent_width, 1)
        self.bottleneck = GaussianBottleneck(2 * latent_width, kl_weight=kl_weight)
        self.from_latent = nn.Conv2d(latent_width, latent_width, 1)
        self.decoder = Decoder(in_channels=latent_width, multipliers=multipliers,
                               channels=channels if decoder_channels is None else decoder_channels,
                               blocks=blocks + 1 if decoder_blocks is None else decoder_blocks,
                               attention_levels=decoder_attention_levels)

    def _encode(self, images: Tensor, noise: Noise | None) -> Tokens:
        """Scaled tokens."""
        return Tokens(super()._encode(images, noise).values * self.config.scaling)

    def _decode(self, tokens: Tokens) -> Tensor:
        return self.reconstruct(tokens.values.to(self.dtype) / self.config.scaling)

    @torch.no_grad()
    def fit_statistics(self, images: Tensor) -> None:
        """Set ``scaling`` so that drawn tokens of these images (B, 3, H, W) have unit variance, as latent diffusion
        does with its first batch."""
        parts = [self.latents(part.to(self.device, self.dtype)) for part in images.split(32)]
        mean, log_variance = mean_and_logvar(torch.cat(parts).float())
        self.register_to_config(scaling=float((mean.var() + log_variance.exp().mean()).rsqrt()))
