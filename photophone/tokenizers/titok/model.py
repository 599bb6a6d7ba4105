"""TiTok: an image as 32 to 256 tokens that lie on no grid, discrete or Gaussian.

Paper: "An Image is Worth 32 Tokens for Reconstruction and Generation" (arXiv 2406.07550). Official code:
bytedance/1d-tokenizer, Apache-2.0. Weights: Apache-2.0 in the hub repositories, trained on ImageNet and meant for
research.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.layers.latent_vit import LatentDecoder, LatentEncoder, start_seeing, unpatchify
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.layers.vqgan import Decoder
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.gaussian import GaussianBottleneck
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.grid import to_grid
from photophone.tokenizers.latent import LatentTokenizer, grid_side
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN, maskgit_style
from photophone.tokenizers.titok import VIT_SIZES

LARGE = tuple(VIT_SIZES["l"])
PIXEL_DECODER = {"channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "token_width": 256}
"""The decoder of MaskGIT-VQGAN that the published two-stage weights end in."""


class TiTok(LatentTokenizer):
    """Images to N latent tokens; the networks work on pixels in [0, 1].

    Three decoders exist. With ``proxy_codes`` None the transformer draws pixels (the single-stage models). With
    ``proxy_codes`` it predicts codes of MaskGIT-VQGAN for each cell: stage 1 of the first models, which has no images
    yet; with ``proxy_decoder`` too, the expected code goes through that pixel decoder (stage 2).

    Args:
        image_size: pixels per side.
        num_tokens: latent tokens N.
        token_width: width of a code, or of a Gaussian token.
        num_codes: codes in the codebook; None for Gaussian tokens.
        l2_norm: tokens and codes are unit vectors.
        encoder_size, decoder_size: width, blocks and heads, see VIT_SIZES.
        encoder_patch, decoder_patch: pixels per side of a patch, and of a cell of the decoder.
        scrambles_latents: the encoder's output (N, width) is read as (width, N) without a transpose, which mixes
            tokens and channels: a mistake of the first models that their weights depend on.
        proxy_codes: codes of the stage-1 teacher, or None.
        proxy_decoder: sizes of the pixel decoder, as PIXEL_DECODER, or None.
        commitment, kl_weight: of the loss.

    Raises:
        ValueError: for sizes that do not fit each other.
    """

    def __init__(self, image_size: int = 256, num_tokens: int = 32, token_width: int = 12,
                 num_codes: int | None = 4096, l2_norm: bool = True, encoder_size: Sequence[int] = LARGE,
                 decoder_size: Sequence[int] = LARGE, encoder_patch: int = 16, decoder_patch: int = 16,
                 scrambles_latents: bool = True, proxy_codes: int | None = 1024,
                 proxy_decoder: dict[str, Any] | None = PIXEL_DECODER, commitment: float = 0.25,
                 kl_weight: float = 1e-6) -> None:
        super().__init__()
        if proxy_decoder is not None and proxy_codes is None:
            raise ValueError("proxy_decoder needs proxy_codes, the number of codes it reads")
        options = {"num_latents": num_tokens, "norm_in": True, "feed_forward": "gelu"}
        self.encoder = LatentEncoder(*encoder_size, patch=encoder_patch, **options,
                                     grid=grid_side(image_size, encoder_patch, "encoder_patch"))
        moments = token_width if num_codes is not None else 2 * token_width
        self.to_latent = nn.Linear(encoder_size[0], moments)
        self.bottleneck = GaussianBottleneck(moments, kl_weight=kl_weight) if num_codes is None else \
            VectorQuantizer(token_width, num_codes, l2_norm=l2_norm, beta=commitment)
        self.from_latent = nn.Linear(token_width, decoder_size[0])
        grid = grid_side(image_size, decoder_patch, "decoder_patch")
        self.decoder = LatentDecoder(*decoder_size, grid=grid, **options)
        width = decoder_size[0]
        if proxy_codes is None:
            self.to_patches = nn.Linear(width, 3 * decoder_patch**2)
            self.smooth = nn.Conv2d(3, 3, 3, padding=1)
            nn.init.dirac_(self.smooth.weight)  # ours: a fresh model starts without mixing pixels and colours,
            nn.init.constant_(self.smooth.bias, 0.5)  # from grey
        else:
            self.to_codes = nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, proxy_codes))
        start_seeing(self.encoder, self.decoder)
        if proxy_decoder is not None:
            self._add_pixel_network(proxy_codes, decoder_patch, **proxy_decoder)

    def _add_pixel_network(self, codes: int, patch: int, *, channels: int, multipliers: list[int], blocks: int,
                           token_width: int) -> None:
        if 2 ** (len(multipliers) - 1) != patch:
            raise ValueError(f"a pixel decoder of {len(multipliers)} levels makes {2 ** (len(multipliers) - 1)} pixels "
                             f"of a cell, decoder_patch is {patch}")
        self.pixel_codebook = nn.Parameter(torch.randn(codes, token_width))
        self.pixel_network = Decoder(in_channels=token_width, channels=channels, multipliers=multipliers,
                                     blocks=blocks, mid=("block",) * blocks, style=maskgit_style(True))

    def with_pixel_decoder(self, teacher: MaskGITVQGAN) -> TiTok:
        """This stage-1 model as the start of stage 2: it gets codebook and decoder of the teacher.

        Raises:
            ValueError: a model that draws pixels already, or a teacher whose codes or blocks are not those of stage 1.
        """
        theirs = teacher.config
        if self.config.proxy_codes != theirs.num_codes or self.config.proxy_decoder is not None:
            raise ValueError(f"stage 2 starts from a stage-1 model of the teacher's {theirs.num_codes} codes, not from "
                             f"proxy_codes={self.config.proxy_codes}, proxy_decoder={self.config.proxy_decoder}")
        if not theirs.residual_drops_input:
            raise ValueError("TiTok's pixel decoder has blocks with residual_drops_input=True, the teacher's have not")
        sizes = {name: theirs[name] for name in ("channels", "multipliers", "blocks", "token_width")}
        own = {name: value for name, value in self.config.items() if not name.startswith("_")}
        model = TiTok(**{**own, "proxy_decoder": sizes})
        state = {**self.state_dict(), "pixel_codebook": teacher.bottleneck.codebook}
        state |= {f"pixel_network.{name}": weight for name, weight in teacher.decoder.state_dict().items()}
        model.load_state_dict(state)
        return model

    @property
    def last_layer(self) -> nn.Parameter:
        return (self.smooth if self.config.proxy_codes is None else self.pixel_network.conv_out).weight

    def latents(self, images: Tensor) -> Tensor:
        x = self.encoder((images + 1) / 2)  # (B, N, W)
        if self.config.scrambles_latents:
            rows, length, width = x.shape
            x = x.reshape(rows, width, length).transpose(1, 2)
        return self.to_latent(x)

    def proxy_logits(self, values: Tensor) -> Tensor:
        """Values of the bottleneck (B, N, D) to logits (B, hw, proxy_codes) of the teacher's codes."""
        return self.to_codes(self.decoder(self.from_latent(values)))

    def reconstruct(self, values: Tensor) -> Tensor:
        if self.config.proxy_codes is None:
            patches = self.to_patches(self.decoder(self.from_latent(values)))  # (B, hw, p p 3)
            return self.smooth(unpatchify(patches, self.config.decoder_patch)) * 2 - 1
        if self.config.proxy_decoder is None:
            raise ValueError("a stage-1 model predicts codes of its teacher and no images: see proxy_logits, or give "
                             "it a proxy_decoder")
        return self.proxy_pixels(self.proxy_logits(values))

    def proxy_pixels(self, logits: Tensor) -> Tensor:
        """Logits (B, hw, proxy_codes) to images (B, 3, H, W) of the pixel decoder, which reads the expected code."""
        side = self.decoder.grid
        probabilities = to_grid(logits, (side, side)).softmax(1)  # (B, K, h, w)
        # Nearly constant maps are normalised next, so rounding shows: keep the official order of the sum.
        return self.pixel_network(torch.einsum("bkhw,kc->bchw", probabilities, self.pixel_codebook)) * 2 - 1

    def proxy_loss(self, images: Tensor, codes: Tensor,
                   noise: Noise | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Training loss of stage 1.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            codes: Long (B, hw), the teacher's codes of the same images.
            noise: of a Gaussian bottleneck.

        Returns:
            Logits (B, hw, proxy_codes); cross-entropy plus the bottleneck's loss; metrics.
        """
        output = self.bottleneck(self.latents(images), noise=noise)
        logits = self.proxy_logits(output.values)
        return logits, F.cross_entropy(logits.flatten(0, 1), codes.flatten()) + output.loss, output.metrics

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        pixel = {key: value for key, value in state.items() if key.startswith("pixel_decoder.")}
        state = {key: value for key, value in state.items() if key not in pixel}
        head = "to_codes" if "decoder.ffn.2.weight" in state else "to_patches"
        state = convert_vit_keys(drop_leading_axes(state, ("mask_token",))) | convert_vqgan_keys(pixel)
        state = rename_keys(state, [
            (r"^latent_tokens$", "encoder.latent_tokens"),
            (r"\.class_embedding$", ".class_token"), (r"\.positional_embedding$", ".positions"),
            (r"\.latent_token_positional_embedding$", ".latent_positions"),
            (r"\.transformer\.(\d)", r".blocks.\1"), (r"\.ln_pre\.", ".norm_in."), (r"\.ln_post\.", ".norm_out."),
            (r"^encoder\.conv_out\.", "to_latent."), (r"^decoder\.decoder_embed\.", "from_latent."),
            (r"^decoder\.conv_out\.", "smooth."),
            (r"^decoder\.ffn\.(\d)\.", rf"{head}.\1." if head == "to_codes" else f"{head}."),
            (r"^quantize\.embedding\.weight$", "bottleneck.codebook"),
            (r"^pixel_quantize\.embedding\.weight$", "pixel_codebook"), (r"^pixel_decoder\.", "pixel_network."),
        ])
        heads = ("to_latent.weight", "to_codes.0.weight", "to_codes.2.weight", "to_patches.weight")  # 1x1 convolutions
        return {key: value.flatten(1) if key in heads else value for key, value in state.items()}
