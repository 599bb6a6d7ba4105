"""TA-TiTok: TiTok whose decoder also reads the caption, so that few tokens suffice; one-stage, discrete or Gaussian.

Paper: "Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware One-Dimensional Tokens" (arXiv
2501.07730). Official code: bytedance/1d-tokenizer, Apache-2.0. Weights: Apache-2.0 in the hub repositories, trained on
filtered DataComp. The caption is read as the states of CLIP's text tower behind its last norm; see
:mod:`photophone.text.clip`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.latent_vit import unpatchify
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.titok import VIT_SIZES
from photophone.tokenizers.titok.model import TiTok

VIT_WORDS = {"small": "s", "base": "b", "large": "l"}
"""Official words and those of VIT_SIZES."""
USAGE = "quantize.embed_prob"
"""Official key of the average use of each code; files of models that are not trained further leave it out."""


class TATiTok(TiTok):
    """Images to N latent tokens, and back with the help of a caption.

    Args:
        image_size, num_tokens, token_width, num_codes, l2_norm, encoder_size, decoder_size, encoder_patch,
            decoder_patch, commitment, kl_weight: see :class:`TiTok`.
        text_dim, text_length: width of the states of the text tower, and their number: all 77, padding included.
        clustering: the codebook is trained by clustering; see :class:`photophone.quantizers.vq.VectorQuantizer`.

    Raises:
        ValueError: for sizes that do not fit each other, or clustering of Gaussian tokens.
    """

    decode_options = ("text_states",)

    def __init__(self, image_size: int = 256, num_tokens: int = 128, token_width: int = 64,
                 num_codes: int | None = 8192, l2_norm: bool = False,
                 encoder_size: Sequence[int] = tuple(VIT_SIZES["b"]),
                 decoder_size: Sequence[int] = tuple(VIT_SIZES["l"]), encoder_patch: int = 16, decoder_patch: int = 16,
                 commitment: float = 0.25, kl_weight: float = 1e-6, text_dim: int = 768, text_length: int = 77,
                 clustering: bool = False) -> None:
        super().__init__(image_size, num_tokens, token_width, num_codes, l2_norm, encoder_size, decoder_size,
                         encoder_patch, decoder_patch, scrambles_latents=False, proxy_codes=None, proxy_decoder=None,
                         commitment=commitment, kl_weight=kl_weight)
        if clustering:
            if num_codes is None:
                raise ValueError("clustering=True trains a codebook; Gaussian tokens (num_codes=None) have none")
            self.bottleneck = VectorQuantizer(token_width, num_codes, l2_norm=l2_norm, beta=commitment, clustering=True)
        width = decoder_size[0]
        self.text_in = nn.Linear(text_dim, width)
        self.text_positions = nn.Parameter(0.02 * torch.randn(text_length, width))

    @property
    def last_layer(self) -> nn.Parameter:
        return self.smooth.weight

    def latents(self, images: Tensor) -> Tensor:
        return self.to_latent(self.encoder((images + 1) / 2))

    def reconstruct(self, values: Tensor, text_states: Tensor | None = None) -> Tensor:
        """Values of the bottleneck (B, N, D) to images (B, 3, H, W), not clamped.

        Args:
            text_states: float (B, T, text_dim) of the captions, at all places; None: zeros, which say nothing.

        Raises:
            ValueError: states of another shape.
        """
        config = self.config
        shape = (len(values), config.text_length, config.text_dim)
        if text_states is None:
            text_states = values.new_zeros(shape)
        if tuple(text_states.shape) != shape:
            raise ValueError(f"text_states must be {shape}, got {tuple(text_states.shape)}")
        text = self.text_in(text_states.to(values.device, self.dtype)) + self.text_positions
        patches = self.to_patches(self.decoder(self.from_latent(values), text))  # (B, hw, p p 3)
        return self.smooth(unpatchify(patches, config.decoder_patch)) * 2 - 1

    def forward(self, images: Tensor, noise: Noise | None = None,
                text_states: Tensor | None = None) -> Reconstruction:
        """One training pass of images (B, 3, H, W) in [-1, 1]; ``text_states`` as in :meth:`reconstruct`."""
        output = self.bottleneck(self.latents(images), noise=noise)
        return Reconstruction(self.reconstruct(output.values, text_states), output.loss, output.metrics, output.values)

    def _decode(self, tokens: Tokens, text_states: Tensor | None = None) -> Tensor:
        return self.reconstruct(self.bottleneck.decode(tokens.values).to(self.dtype), text_states)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the class from the official ``config.json``; the average use of codes, of the training, stays
        out.

        Raises:
            KeyError: a setting is missing.
            ValueError: a size that no published model has.
        """
        model = official["model"]["vq_model"]
        sizes = {}
        for part in ("encoder", "decoder"):
            word = model[f"vit_{part[:3]}_model_size"]
            if word not in VIT_WORDS:
                raise ValueError(f"vit_{part[:3]}_model_size must be one of {', '.join(VIT_WORDS)}, got {word!r}")
            sizes[f"{part}_size"] = VIT_SIZES[VIT_WORDS[word]]
            sizes[f"{part}_patch"] = model[f"vit_{part[:3]}_patch_size"]
        codes = None if model.get("quantize_mode", "vq") == "vae" else model["codebook_size"]
        return {"image_size": official["dataset"]["preprocessing"]["crop_size"], "token_width": model["token_size"],
                "num_tokens": model["num_latent_tokens"], "num_codes": codes,
                "l2_norm": model.get("use_l2_norm", False), "commitment": model.get("commitment_cost", 0.25),
                "text_dim": model.get("text_embed_dim", 768), "text_length": model.get("text_context_length", 77),
                **sizes}

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """Official tensors to ours; the average use of codes is left out where it is not trained further."""
        if not config.get("clustering", False):
            state = {key: value for key, value in state.items() if key != USAGE}
        return cls.convert_state_dict(state)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(TiTok.convert_state_dict(state), [
            (r"^decoder\.text_guidance_proj\.", "text_in."),
            (r"^decoder\.text_guidance_positional_embedding$", "text_positions"),
            (r"^quantize\.embed_prob$", "bottleneck.usage"),
        ])
