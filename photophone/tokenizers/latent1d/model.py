"""Latent1D: photophone's own one-dimensional image tokenizer.

In the line of TiTok (arXiv 2406.07550), TA-TiTok (2501.07730) and SoftVQ-VAE (2412.10958): learned latent tokens read
the image through a transformer, and learned grid tokens read the latents back. Two changes make it learn fast on
little compute: a convolutional stem and decoder around a coarse grid, and layer-normalised latents with noise added
in training (as in l-DeTok, 2507.15856) instead of a KL term. Code and weights: Apache-2.0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.transformer import TransformerBlock
from photophone.quantizers import build_quantizer
from photophone.tokenizers.base import ImageTokenizer
from photophone.tokenizers.latent1d.conv import ResidualBlock, Upsample


def conv_encoder(patch: int, channels: list[int], depths: list[int], width: int) -> nn.Sequential:
    """Pixels (B, 3, H, W) to a grid (B, width, H/s, W/s) with s = patch * 2 ** len(channels)."""
    layers: list[nn.Module] = [nn.PixelUnshuffle(patch), nn.Conv2d(3 * patch**2, channels[0], 3, padding=1)]
    for level, depth in enumerate(depths):
        layers += [ResidualBlock(channels[level]) for _ in range(depth)]
        following = channels[level + 1] if level + 1 < len(channels) else width
        layers += [nn.SiLU(), nn.Conv2d(channels[level], following, 3, stride=2, padding=1)]
    return nn.Sequential(*layers)


def conv_decoder(patch: int, channels: list[int], depths: list[int], width: int) -> nn.Sequential:
    """The reverse: a grid (B, width, H/s, W/s) to pixels; channels and depths are listed from coarse to fine."""
    layers: list[nn.Module] = []
    previous = width
    for channel, depth in zip(channels, depths):
        layers.append(Upsample(previous, channel))
        layers += [ResidualBlock(channel) for _ in range(depth)]
        previous = channel
    layers += [nn.GroupNorm(16, previous), nn.SiLU(), nn.Conv2d(previous, 3 * patch**2, 3, padding=1)]
    return nn.Sequential(*layers, nn.PixelShuffle(patch))


def position_mixer(inputs: int, outputs: int) -> nn.Linear:
    """A linear map over positions that starts by handing each output its nearest inputs along the sequence.

    Attention alone takes thousands of steps to find out which latent speaks of which place; this tells it at once.
    """
    mixer = nn.Linear(inputs, outputs, bias=False)
    center = torch.arange(outputs).float().add(0.5).div(outputs).mul(inputs).floor().long()
    nn.init.normal_(mixer.weight, std=0.02)
    with torch.no_grad():
        mixer.weight[torch.arange(outputs), center] += 1.0
    return mixer


class Latent1DTokenizer(ImageTokenizer):
    """Images to a short sequence of latent tokens, continuous or discrete by ``quantizer``.

    Args:
        image_size: pixels per side.
        num_tokens: latent tokens N per image.
        token_dim: width D of a latent.
        width: width of the transformers; a multiple of 64.
        encoder_depth, decoder_depth: transformer blocks.
        stem: "conv" (convolutions down to the grid) or "patch" (one linear projection of patches, a plain ViT).
        patch: pixels per side folded into channels first; with stem "patch", the ViT's patch.
        encoder_channels, encoder_conv_depths: channels and residual blocks of each level, from fine to coarse.
        decoder_channels, decoder_conv_depths: the same from coarse to fine.
        decoder_patch: pixels per side that the decoder's last channels are unfolded to; None: ``patch``. With half as
            many it has one level more than the encoder, for edges.
        quantizer: a name of ``photophone.quantizers.QUANTIZERS``; "none" keeps normalised continuous latents.
        quantizer_config: its further arguments.
        latent_noise: standard deviation of the noise added to continuous latents in training.
    """

    ENCODER_PARTS = (*ImageTokenizer.ENCODER_PARTS, "to_grid")
    encode_options = ("refine_steps",)

    def __init__(self, image_size: int = 64, num_tokens: int = 16, token_dim: int = 32, width: int = 256,
                 encoder_depth: int = 1, decoder_depth: int = 1, stem: str = "conv", patch: int = 4,
                 encoder_channels: list[int] = (48, 96), encoder_conv_depths: list[int] = (0, 1),
                 decoder_channels: list[int] = (96, 64), decoder_conv_depths: list[int] = (2, 2),
                 quantizer: str = "none", quantizer_config: dict | None = None, latent_noise: float = 0.1,
                 decoder_patch: int | None = None) -> None:
        super().__init__()
        decoder_patch = decoder_patch or patch
        if stem not in ("conv", "patch"):
            raise ValueError(f"stem must be 'conv' or 'patch', got {stem!r}")
        stride = patch * 2 ** len(encoder_channels) if stem == "conv" else patch
        if width < 64 or width % 64:
            raise ValueError(f"width must be a multiple of 64, got {width}")
        if image_size % stride:
            raise ValueError(f"image size {image_size} is not a multiple of the stem's stride {stride}")
        if stem == "conv" and decoder_patch * 2 ** len(decoder_channels) != stride:
            raise ValueError(f"encoder and decoder need one stride, got {stride} of patch {patch} and channels "
                             f"{list(encoder_channels)}, and {decoder_patch * 2 ** len(decoder_channels)} of patch "
                             f"{decoder_patch} and channels {list(decoder_channels)}")
        self.grid = image_size // stride
        if stem == "conv":
            self.to_grid = conv_encoder(patch, list(encoder_channels), list(encoder_conv_depths), width)
            self.to_pixels = conv_decoder(decoder_patch, list(decoder_channels), list(decoder_conv_depths), width)
        else:
            self.to_grid = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(3 * patch**2, width, 1))
            self.to_pixels = nn.Sequential(nn.Conv2d(width, 3 * patch**2, 1), nn.PixelShuffle(patch))
        self.encoder_grid = nn.Parameter(torch.randn(self.grid**2, width) * 0.02)
        self.encoder_queries = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        self.encoder_mixer = position_mixer(self.grid**2, num_tokens)
        self.encoder_blocks = nn.ModuleList(TransformerBlock(width, width // 64) for _ in range(encoder_depth))
        self.encoder_norm = nn.LayerNorm(width)
        # a Gaussian bottleneck reads mean and log variance of each channel
        bottleneck_dim = 2 * token_dim if quantizer == "gaussian" else token_dim
        self.to_latent = nn.Linear(width, bottleneck_dim)
        self.bottleneck = build_quantizer(quantizer, dim=bottleneck_dim, **(quantizer_config or {}))
        self.from_latent = nn.Linear(token_dim, width)
        self.decoder_grid = nn.Parameter(torch.randn(self.grid**2, width) * 0.02)
        self.decoder_queries = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        self.decoder_mixer = position_mixer(num_tokens, self.grid**2)
        self.decoder_blocks = nn.ModuleList(TransformerBlock(width, width // 64) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(width)

    @property
    def num_tokens(self) -> int:
        return self.config.num_tokens

    @property
    def last_layer(self) -> nn.Parameter:
        return self.to_pixels[-2 if self.config.stem == "conv" else 0].weight

    def latents(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to latents (B, N, D) before quantization, normalised per token unless Gaussian."""
        grid = self.to_grid(images.contiguous(memory_format=torch.channels_last))
        grid = grid.flatten(2).transpose(1, 2) + self.encoder_grid  # (B, C, h, w) -> (B, hw, C)
        queries = self.encoder_queries + self.encoder_mixer(grid.transpose(1, 2)).transpose(1, 2)  # (B, N, C)
        x = torch.cat([grid, queries], dim=1)
        for block in self.encoder_blocks:
            x = block(x)
        latents = self.to_latent(self.encoder_norm(x[:, grid.shape[1]:]))
        return latents if self.config.quantizer == "gaussian" else F.layer_norm(latents, latents.shape[-1:])

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Quantized latents (B, N, D) to images (B, 3, H, W), not clamped."""
        queries = self.from_latent(latents) + self.decoder_queries
        grid = self.decoder_grid + self.decoder_mixer(queries.transpose(1, 2)).transpose(1, 2)  # (B, hw, C)
        x = torch.cat([grid, queries], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        grid = self.decoder_norm(x[:, : grid.shape[1]])
        grid = grid.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (B, hw, C) -> (B, C, h, w)
        return self.to_pixels(grid.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of images (B, 3, H, W) in [-1, 1]; ``noise`` is added to continuous latents."""
        output = self.bottleneck(self.latents(images), noise=noise)
        values = output.values
        if self.codebook_size is None and self.config.latent_noise and self.training:
            noise = noise or GlobalNoise(values.device)
            values = values + self.config.latent_noise * noise.normal(*values.shape, dtype=values.dtype)
        return Reconstruction(self.reconstruct(values), output.loss, output.metrics, output.values)

    def _encode(self, images: Tensor, noise: Noise | None, refine_steps: int = 0) -> Tokens:
        """Tokens of images.

        Args:
            refine_steps: gradient steps on continuous latents towards a smaller squared error of their decoded image
                (semi-amortised inference, arXiv 1802.02550). The encoder is small and looks once; ten steps find much
                of what it misses. Each costs about two decodings.

        Raises:
            ValueError: ``refine_steps`` below 0, or for a discrete tokenizer.
        """
        if not refine_steps:
            return super()._encode(images, noise)
        if self.codebook_size is not None or refine_steps < 0:
            raise ValueError(f"refine_steps {refine_steps} is not possible: it must be 0 or more, and 0 for "
                             f"discrete tokens (this tokenizer has {self.codebook_size} codes)")
        latents = self.refine(self.latents(images), images, refine_steps)
        return Tokens(self.bottleneck.encode(latents))

    def refine(self, latents: Tensor, images: Tensor, steps: int, rate: float = 0.05) -> Tensor:
        """Latents (B, N, D) after ``steps`` of Adam (arXiv 1412.6980) on the logarithm of each image's squared error.

        The logarithm makes every image's gradient independent of the others and of the size of its error.
        """
        latents = latents.detach().clone()
        mean, square = torch.zeros_like(latents), torch.zeros_like(latents)
        for step in range(1, steps + 1):
            with torch.enable_grad():
                latents.requires_grad_(True)
                error = (self.reconstruct(self.bottleneck.decode(latents)) - images).square().mean(dim=(1, 2, 3))
                (gradient,) = torch.autograd.grad(error.clamp(min=1e-10).log().sum(), latents)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient.square()
            update = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
            latents = (latents - rate * update).detach()
        return latents
