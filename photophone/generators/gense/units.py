"""Semantic units of GenSE: layer 6 of XLSR-300M, each frame the nearest of 1,024 means.

Papers: XLS-R (arXiv 2111.09296), GenSE (2502.02942). The network is transformers' wav2vec 2.0; the checkpoint of GenSE
holds it with the keys of fairseq, and the means beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.model import Model
from photophone.generators.llase_g1.wavlm import KEYS, LARGE_CONVS, FrameConvolutions
from photophone.kernels.vq import nearest_code
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

PADDING = 100
"""Zeros behind a clip."""


class GenSEUnits(FrameConvolutions, OriginalCheckpoint, Model):
    """Speech (B, T) at 16 kHz to units Long (B, N).

    Args:
        num_units: means.
        width, depth, num_heads, hidden: of the network, whose last layer is read. A file with more layers gives its
            first.
        convs: channels, kernel and stride of the convolutions in front.
        position_kernel, position_groups: of the convolution that tells positions.
    """

    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("lm.*", "codec_tokenizer.*", "xlsr.mask_emb", "xlsr.quantizer.*", "xlsr.project_q.*",
                    "xlsr.final_proj.*")
    """Other models of the same checkpoint, and what only the training of XLSR needs."""

    def __init__(self, num_units: int = 1024, width: int = 1024, depth: int = 6, num_heads: int = 16,
                 hidden: int = 4096, convs: list[list[int]] | None = None, position_kernel: int = 128,
                 position_groups: int = 16) -> None:
        from transformers import Wav2Vec2Config, Wav2Vec2Model  # seconds, so not before it is needed

        super().__init__()
        self.convs = convs or LARGE_CONVS
        channels, kernels, strides = zip(*self.convs)
        self.network = Wav2Vec2Model(Wav2Vec2Config(
            hidden_size=width, num_hidden_layers=depth, num_attention_heads=num_heads, intermediate_size=hidden,
            do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True, conv_dim=list(channels),
            conv_kernel=list(kernels), conv_stride=list(strides), num_conv_pos_embeddings=position_kernel,
            num_conv_pos_embedding_groups=position_groups, layerdrop=0.0, mask_time_prob=0.0, apply_spec_augment=False))
        self.network.encoder.layer_norm = nn.Identity()  # it stands behind all layers of the whole network
        self.register_buffer("means", torch.randn(num_units, width))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        network = {key.removeprefix("xlsr."): value for key, value in state.items() if key.startswith("xlsr.")}
        return {**rename_keys(network, KEYS), "means": state["km.emb.weight"]}

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, depth: int = 6, **config: Any) -> GenSEUnits:
        """See :meth:`OriginalCheckpoint.from_original`; layers from ``depth`` on are left out, and the norm behind
        them."""
        return super().from_original(source, depth=depth, **config)

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        return cls.convert_state_dict({
            key: value for key, value in state.items()
            if not ((layer := re.match(r"xlsr\.encoder\.layers\.(\d+)\.", key)) and int(layer[1]) >= config["depth"])
            and not key.startswith("xlsr.encoder.layer_norm.")})

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Units Long (B, N) of audio (B, T) at 16 kHz and the silence behind it.

        Raises:
            ValueError: for audio of another shape, or none.
        """
        if audio.ndim != 2 or not audio.shape[-1]:
            raise ValueError(f"audio must be (B, T) with T > 0, got {tuple(audio.shape)}")
        missing = max(PADDING, self.receptive_field - audio.shape[-1])
        padded = functional.pad(audio.to(self.device, self.dtype), (0, missing))
        return self.nearest(self.network(padded).last_hidden_state)

    def nearest(self, features: Tensor) -> Tensor:
        """Units Long (B, N) of features (B, N, width)."""
        return nearest_code(features.flatten(0, 1).float(), self.means.float()).view(features.shape[:2])
