"""SoftVQ-VAE and its kin: a few continuous tokens from a DINOv2-like transformer.

Papers: SoftVQ-VAE (arXiv 2412.10958) and MAETok (2502.03444), whose autoencoder has no bottleneck and hides patches
from the encoder in training. Official code: Hhhhhhao/continuous_tokenizer; no licence file, the model classes state
Apache-2.0. Weights: Apache-2.0 as stated in the hub repositories, trained on ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.layers.latent_vit import LatentDecoder, LatentEncoder, unpatchify
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.base import Quantizer, noise_or_global
from photophone.quantizers.gaussian import GaussianBottleneck, NoQuantizer
from photophone.quantizers.soft import SoftVQ
from photophone.tokenizers.latent import LatentTokenizer, grid_side
from photophone.tokenizers.softvq import VIT_SIZES

LARGE = tuple(VIT_SIZES["l"])
DROP_SPREAD = 0.25
"""Standard deviation of the normal distribution that shares of hidden patches are cut from."""


def truncated_shares(uniform: Tensor, lowest: float, highest: float) -> Tensor:
    """Shares in [lowest, highest] from uniform draws: the lower half of N(highest, DROP_SPREAD), cut at lowest."""
    below = torch.special.ndtr(torch.tensor((lowest - highest) / DROP_SPREAD, dtype=torch.float64)).item()
    quantile = torch.special.ndtri(below + (0.5 - below) * uniform.double())
    return (highest + DROP_SPREAD * quantile).clamp(lowest, highest).float()


def build_bottleneck(kind: str, width: int, *, num_codewords: int, num_codebooks: int, tau: float, l2_norm: bool,
                     entropy_weight: float, kl_weight: float) -> Quantizer:
    """The bottleneck "soft_vq", "gaussian" or "none" on tokens of ``width`` channels.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "soft_vq":
        return SoftVQ(width, num_codewords, num_codebooks, tau=tau, l2_norm=l2_norm, entropy_weight=entropy_weight)
    if kind == "gaussian":
        return GaussianBottleneck(2 * width, kl_weight=kl_weight)
    if kind == "none":
        return NoQuantizer(width)
    raise ValueError(f"kind must be 'soft_vq', 'gaussian' or 'none', got {kind!r}")


class SoftVQTokenizer(LatentTokenizer):
    """Images to N continuous tokens.

    Args:
        image_size: pixels per side.
        num_tokens: latent tokens N.
        token_width: width D of a token.
        kind: "soft_vq" (SoftVQ-VAE), "gaussian" (its KL variant) or "none" (MAETok).
        encoder_size, decoder_size: width, blocks and heads, see VIT_SIZES.
        encoder_patch, decoder_patch: pixels per side of a patch.
        num_codewords, num_codebooks, tau, l2_norm, entropy_weight: see :class:`photophone.quantizers.soft.SoftVQ`.
        kl_weight: of the Gaussian's loss.
        rope_theta: mixed rotary embedding of the patches, which replaces the decoder's learned positions (the
            encoder keeps its own); None: none.
        decoder_class_token: a class token in the decoder.
        drop_patches: lowest and highest share of patches that the encoder does not see in training, or None.
            Evaluation always sees all.
        layer_scale: start of the factors on the residuals.

    Raises:
        ValueError: for sizes that do not fit each other.
    """

    LAST_LAYER = "to_patches"
    DROPPED_KEYS = ("decoder.model.patch_embed.*",  # timm builds it, nothing uses it
                    "*.freqs_t_x", "*.freqs_t_y",  # rows and columns of the patches
                    "quantize.codebook_used",  # which codewords the last training batches used: a display
                    "repa_model.*", "projection.*")  # the teacher of the training loss, and the projection to it

    def __init__(self, image_size: int = 256, num_tokens: int = 64, token_width: int = 32, kind: str = "soft_vq",
                 encoder_size: Sequence[int] = LARGE, decoder_size: Sequence[int] = LARGE, encoder_patch: int = 16,
                 decoder_patch: int = 16, num_codewords: int = 8192, num_codebooks: int = 4, tau: float = 0.07,
                 l2_norm: bool = True, entropy_weight: float = 0.01, kl_weight: float = 1e-6,
                 rope_theta: float | None = None, decoder_class_token: bool = True,
                 drop_patches: Sequence[float] | None = None, layer_scale: float = 1e-5) -> None:
        super().__init__()
        if drop_patches is not None and not 0 < drop_patches[0] < drop_patches[1] < 1:
            raise ValueError(f"drop_patches must be two rising shares inside (0, 1), got {list(drop_patches)}")
        options = {"num_latents": num_tokens, "norm_eps": 1e-6, "rope_theta": rope_theta, "feed_forward": "gelu",
                   "layer_scale": layer_scale}
        self.encoder = LatentEncoder(*encoder_size, patch=encoder_patch, mask_token=drop_patches is not None,
                                     grid=grid_side(image_size, encoder_patch, "encoder_patch"), **options)
        self.bottleneck = build_bottleneck(kind, token_width, num_codewords=num_codewords, tau=tau, l2_norm=l2_norm,
                                           num_codebooks=num_codebooks, entropy_weight=entropy_weight,
                                           kl_weight=kl_weight)
        self.to_latent = nn.Linear(encoder_size[0], self.bottleneck.dim)
        self.from_latent = nn.Linear(token_width, decoder_size[0])
        self.decoder = LatentDecoder(*decoder_size, class_token=decoder_class_token, grid_positions=rope_theta is None,
                                     grid=grid_side(image_size, decoder_patch, "decoder_patch"), **options)
        self.to_patches = nn.Linear(decoder_size[0], 3 * decoder_patch**2)

    def latents(self, images: Tensor, dropped: Tensor | None = None) -> Tensor:
        return self.to_latent(self.encoder(images, dropped))

    def reconstruct(self, values: Tensor) -> Tensor:
        return unpatchify(self.to_patches(self.decoder(self.from_latent(values))), self.config.decoder_patch)

    def choose_dropped(self, rows: int, noise: Noise) -> Tensor:
        """Bool (B, hw): patches to hide in a training pass, a share of its own for each row."""
        places = self.encoder.grid**2
        shares = truncated_shares(noise.uniform(rows), *self.config.drop_patches)
        counts = torch.ceil(shares * places)
        return noise.uniform(rows, places).argsort(dim=1).argsort(dim=1) < counts[:, None]

    def forward(self, images: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of images (B, 3, H, W) in [-1, 1], which hides patches with ``drop_patches``."""
        dropped = None
        if self.training and self.config.drop_patches is not None:
            dropped = self.choose_dropped(len(images), noise_or_global(noise, images)).to(images.device)
        output = self.bottleneck(self.latents(images, dropped), noise=noise)
        return Reconstruction(self.reconstruct(output.values), output.loss, output.metrics, output.values)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        if "decoder.freqs" in state:  # the decoder builds positions that rotary embedding replaces
            state = {key: value for key, value in state.items() if key != "decoder.model.pos_embed"}
        names = ("cls_token", "pos_embed", "latent_tokens", "latent_pos_embed", "mask_token")
        return rename_keys(convert_vit_keys(drop_leading_axes(state, names)), [
            (r"^(encoder|decoder)\.model\.", r"\1."),
            (r"\.cls_token$", ".class_token"), (r"\.pos_embed$", ".positions"),
            (r"\.latent_pos_embed$", ".latent_positions"), (r"\.norm\.(weight|bias)$", r".norm_out.\1"),
            (r"\.patch_embed\.proj\.", ".patch_embed."), (r"\.freqs$", ".rope.frequencies"),
            (r"^quant_conv\.", "to_latent."), (r"^post_quant_conv\.", "from_latent."),
            (r"^decoder\.to_pixel\.model\.", "to_patches."), (r"^quantize\.embedding$", "bottleneck.codebook"),
        ])
