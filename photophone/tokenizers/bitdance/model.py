"""BitDance's tokenizer: a convolutional autoencoder whose tokens are the signs of its channels.

Paper: arXiv 2602.14041. Official code: shallowdream204/BitDance, Apache-2.0, as are the weights. The decoder begins
each level with a norm that mean and deviation of the image's own bits set, so that every pixel depends on all tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise, SeededNoise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.vqgan import BlockStyle, Decoder, Encoder
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.binary import GFQ
from photophone.tokenizers.grid import GridTokenizer, to_grid

STYLE = BlockStyle(conv_bias=False)
VARIANCE_FLOOR = 1e-6


class AdaptiveGroupNorm(nn.Module):
    """Group norm whose scale and shift follow from deviation and mean of a grid of tokens.

    Args:
        token_dim: channels D of the tokens.
        channels: C of what is normalised.
    """

    def __init__(self, token_dim: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(STYLE.norm_groups, channels, eps=STYLE.norm_eps, affine=False)
        self.gamma = nn.Linear(token_dim, channels)
        self.beta = nn.Linear(token_dim, channels)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x (B, C, H, W) and tokens (B, D, h, w) of at least two places to (B, C, H, W)."""
        places = tokens.flatten(2)
        scale = self.gamma((places.var(dim=-1) + VARIANCE_FLOOR).sqrt())
        return self.norm(x) * scale[..., None, None] + self.beta(places.mean(dim=-1))[..., None, None]


class AdaptiveDecoder(Decoder):
    """A grid of tokens to images, with an :class:`AdaptiveGroupNorm` in front of each level.

    Args:
        token_dim: channels D of the tokens.
        noisy: the first convolution also reads as many channels of noise.
        channels, multipliers, blocks: see :class:`photophone.layers.vqgan.Decoder`.
    """

    def __init__(self, token_dim: int, noisy: bool, *, channels: int, multipliers: list[int], blocks: int) -> None:
        super().__init__(in_channels=token_dim * (2 if noisy else 1), channels=channels, multipliers=multipliers,
                         blocks=blocks, mid=("block",) * blocks, upsample="shuffle", style=STYLE)
        widths = [channels * factor for factor in reversed(multipliers)]
        self.adaptive = nn.ModuleList(AdaptiveGroupNorm(token_dim, width) for width in widths[:1] + widths[:-1])

    def forward(self, tokens: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (B, 3, H, W) of tokens (B, D, h, w), and noise of their shape where the decoder reads some."""
        x = self.mid(self.conv_in(tokens if noise is None else torch.cat([tokens, noise], dim=1)))
        for adapt, level in zip(self.adaptive, self.levels, strict=True):
            x = level(adapt(x, tokens))
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


class BitDanceTokenizer(GridTokenizer):
    """Images to a grid of tokens of ``token_dim`` signs, Long (B, Q, N) in Q codes.

    Args:
        image_size: pixels per side, at least two tokens; the published weights serve any size.
        channels, multipliers, blocks: of both networks; see :class:`photophone.layers.vqgan.Encoder`.
        token_dim: bits of a token.
        num_codebooks: codes Q that they are packed in, the first bit of each lowest.
        decoder_noise: the decoder also reads noise; :meth:`decode` draws it from its ``seed``.
        commitment, entropy_weight: of the loss; see :class:`photophone.quantizers.binary.GFQ`.

    Raises:
        ValueError: for sizes that do not fit.
    """

    CONTAINERS = ("state_dict", "ema")
    # the generator, in whose files the tokenizer lies too
    DROPPED_KEYS = ("cls_embedding.*", "query_token", "proj_in.*", "emb_norm.*", "layers.*", "norm.*", "pos_for_diff.*",
                    "head.*")
    decode_options = ("seed",)

    def __init__(self, image_size: int = 256, channels: int = 256, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 4, token_dim: int = 32, num_codebooks: int = 4, decoder_noise: bool = False,
                 commitment: float = 0.25, entropy_weight: float = 0.1) -> None:
        super().__init__()
        self.check_image_size()
        if image_size < 2 * self.stride:
            raise ValueError(f"image_size must hold two tokens per side, {2 * self.stride} pixels, got {image_size}: "
                             "the decoder reads how tokens vary over the image")
        self.encoder = Encoder(out_channels=token_dim, channels=channels, multipliers=multipliers, blocks=blocks,
                               mid=("block",) * blocks, downsample="conv_symmetric", in_bias=False, out_kernel=1,
                               style=STYLE)
        self.to_latent, self.from_latent = nn.Identity(), nn.Identity()
        self.bottleneck = GFQ(token_dim, num_codebooks, beta=commitment, entropy_weight=entropy_weight)
        self.decoder = AdaptiveDecoder(token_dim, decoder_noise, channels=channels, multipliers=multipliers,
                                       blocks=blocks)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [(r"^vae\.", "")])
        levels = [int(key.split(".")[2]) for key in state if key.startswith("decoder.adaptive.")]
        state = rename_keys(state, [
            (r"\bmid_block\.", "mid."), (r"\bdownsample\.", "resample."), (r"\bupsample\.conv1\.", "resample."),
            (r"^decoder\.adaptive\.(\d+)\.", lambda match: f"decoder.adaptive.{max(levels) - int(match[1])}.")])
        return GridTokenizer.convert_state_dict(state)

    def decode_grid(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """A grid of signs (B, D, h, w) to images (B, 3, H, W), not clamped.

        Args:
            noise: what the decoder reads beside them, where it does; None: that of seed 0 for every row.
        """
        values = values.contiguous()  # norms of nearly constant channels feel the order in which convolutions sum
        if not self.config.decoder_noise:
            return self.decoder(values)
        noise = SeededNoise.from_seeds([0] * len(values), values.device) if noise is None else noise
        return self.decoder(values, noise.normal(*values.shape).to(values))

    def forward(self, images: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of images (B, 3, H, W) in [-1, 1]."""
        output = self.bottleneck(self.latents(images), noise=noise)
        size = tuple(length // self.stride for length in images.shape[2:])
        made = self.decode_grid(to_grid(output.values, size), noise or GlobalNoise(images.device))
        return Reconstruction(made, output.loss, output.metrics, output.values)

    def _decode(self, tokens: Tokens, seed: int = 0) -> Tensor:
        values = self.bottleneck.decode(tokens.values).to(self.dtype)
        noise = SeededNoise.from_seeds([seed] * len(values), values.device)
        return self.decode_grid(to_grid(values, (self.grid_size,) * 2), noise)
