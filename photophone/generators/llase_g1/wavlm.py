"""WavLM: features of speech at 50 frames a second; transformers' network with the keys of the official files.

Paper: arXiv 2110.13900. Official code: microsoft/unilm, MIT. Weights: WavLM-Large.pt and others, linked there; MIT by
the repository, CC BY-SA 3.0 by the model cards of their copies on the hub.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.model import Model
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

LARGE_CONVS = [[512, 10, 5], *[[512, 3, 2]] * 4, *[[512, 2, 2]] * 2]
KEYS = [(r"(conv_layers\.\d+)\.0\.", r"\1.conv."), (r"(conv_layers\.\d+)\.2\.(1\.)?", r"\1.layer_norm."),
        (r"^post_extract_proj\.", "feature_projection.projection."),
        (r"^layer_norm\.", "feature_projection.layer_norm."),
        (r"pos_conv\.0\.weight_g$", "pos_conv_embed.conv.parametrizations.weight.original0"),
        (r"pos_conv\.0\.weight_v$", "pos_conv_embed.conv.parametrizations.weight.original1"),
        (r"pos_conv\.0\.", "pos_conv_embed.conv."), (r"\.self_attn_layer_norm\.", ".layer_norm."),
        (r"\.self_attn\.grep_linear\.", ".attention.gru_rel_pos_linear."),
        (r"\.self_attn\.grep_a$", ".attention.gru_rel_pos_const"),
        (r"\.self_attn\.relative_attention_bias\.", ".attention.rel_attn_embed."),
        (r"\.self_attn\.", ".attention."), (r"\.fc1\.", ".feed_forward.intermediate_dense."),
        (r"\.fc2\.", ".feed_forward.output_dense."), (r"^", "network.")]

HUB_KEYS = [(r"conv\.weight_g$", "conv.parametrizations.weight.original0"),
            (r"conv\.weight_v$", "conv.parametrizations.weight.original1"), (r"^", "network.")]


def official_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`WavLM` from the ``cfg`` of an official file, for all its layers.

    Raises:
        ValueError: for convolutions that cannot be read, or a network without WavLM's gated relative positions.
    """
    for name in ("relative_position_embedding", "gru_rel_pos"):
        if not settings.get(name, True):
            raise ValueError(f"{name}=False: no published WavLM is without gated relative positions, nor ours")
    given = {"width": "encoder_embed_dim", "depth": "encoder_layers", "num_heads": "encoder_attention_heads",
             "hidden": "encoder_ffn_embed_dim", "activation": "activation_fn", "norm_first": "layer_norm_first",
             "conv_bias": "conv_bias", "position_kernel": "conv_pos", "position_groups": "conv_pos_groups",
             "num_buckets": "num_buckets", "max_distance": "max_distance"}
    config = {ours: settings[theirs] for ours, theirs in given.items() if theirs in settings}
    layers = re.findall(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)\s*\]?\s*(?:\*\s*(\d+))?",
                        settings["conv_feature_layers"])
    convs = [[int(number) for number in shape] for *shape, count in layers for _ in range(int(count or 1))]
    if not convs:
        raise ValueError(f"conv_feature_layers must be a list such as '[(512,10,5)] + [(512,3,2)] * 4', got "
                         f"{settings['conv_feature_layers']!r}")
    return config | {"convs": convs, "layer_normed_convs": settings["extractor_mode"] == "layer_norm",
                     "final_norm": bool(settings["layer_norm_first"])}


class FrameConvolutions:
    """A network behind convolutions that make frames of samples.

    Attributes:
        convs: channels, kernel and stride of each.
    """

    convs: Sequence[tuple[int, int, int]]

    @property
    def hop_length(self) -> int:
        """Samples from frame to frame."""
        return math.prod(stride for _, _, stride in self.convs)

    @property
    def receptive_field(self) -> int:
        """Samples that the convolutions need for one frame."""
        size = 1
        for _, kernel, stride in reversed(self.convs):
            size = (size - 1) * stride + kernel
        return size


class WavLM(FrameConvolutions, OriginalCheckpoint, Model):
    """Speech (B, T) at 16 kHz to features (B, N, width) of its last layer; the defaults are layer 6 of WavLM-Large.

    Args:
        width, depth, num_heads, hidden, activation: of the transformer. A file with more layers gives its first.
        norm_first: pre-norm, as Large.
        final_norm: the norm behind all layers of a pre-norm network; features of a layer between have none.
        convs: channels, kernel and stride of the convolutions in front.
        layer_normed_convs: layer norms between them, as Large; else one group norm, as Base.
        conv_bias: they have biases.
        position_kernel, position_groups: of the convolution that tells positions.
        num_buckets, max_distance: of the relative positions.
    """

    CONTAINERS = ("model",)
    DROPPED_KEYS = ("mask_emb", "masked_spec_embed")  # mask frames in pre-training

    def __init__(self, width: int = 1024, depth: int = 6, num_heads: int = 16, hidden: int = 4096,
                 activation: str = "gelu", norm_first: bool = True, final_norm: bool = False,
                 convs: list[list[int]] | None = None, layer_normed_convs: bool = True, conv_bias: bool = False,
                 position_kernel: int = 128, position_groups: int = 16, num_buckets: int = 320,
                 max_distance: int = 800) -> None:
        from transformers import WavLMConfig, WavLMModel  # seconds, so not before it is needed

        super().__init__()
        self.convs = convs or LARGE_CONVS
        channels, kernels, strides = zip(*self.convs)
        self.network = WavLMModel(WavLMConfig(
            hidden_size=width, num_hidden_layers=depth, num_attention_heads=num_heads, intermediate_size=hidden,
            hidden_act=activation, do_stable_layer_norm=norm_first, conv_dim=list(channels), conv_kernel=list(kernels),
            conv_stride=list(strides), conv_bias=conv_bias, num_conv_pos_embeddings=position_kernel,
            feat_extract_norm="layer" if layer_normed_convs else "group", num_buckets=num_buckets,
            num_conv_pos_embedding_groups=position_groups, max_bucket_distance=max_distance, layerdrop=0.0,
            mask_time_prob=0.0, apply_spec_augment=False))
        if norm_first and not final_norm:
            self.network.encoder.layer_norm = nn.Identity()

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys, or those of the copies on the hub, to ours, which are those of transformers."""
        return rename_keys(state, HUB_KEYS if "feature_projection.projection.weight" in state else KEYS)

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, depth: int = 6, norm_first: bool = True,
                      final_norm: bool = False, **config: Any) -> WavLM:
        """See :meth:`OriginalCheckpoint.from_original`; layers from ``depth`` on are left out, and the final norm
        without ``final_norm``."""
        return super().from_original(source, depth=depth, norm_first=norm_first, final_norm=final_norm, **config)

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        state = {key.removeprefix("wavlm."): value for key, value in state.items()}
        unused = config["norm_first"] and not config["final_norm"]
        return cls.convert_state_dict({
            key: value for key, value in state.items()
            if not ((layer := re.match(r"encoder\.layers\.(\d+)\.", key)) and int(layer[1]) >= config["depth"])
            and not (unused and key.startswith("encoder.layer_norm."))})

    def frames(self, lengths: Tensor) -> Tensor:
        """Features of clips of ``lengths`` samples, Long (B,)."""
        for _, kernel, stride in self.convs:
            lengths = (lengths - kernel) // stride + 1
        return lengths

    @torch.no_grad()
    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features (B, N, width).

        Args:
            audio: float (B, T) at 16 kHz; WavLM-Large was trained on clips of zero mean and unit variance.
            lengths: Long (B,), valid samples per row; features behind ``frames(lengths)`` mean nothing. Rows equal
                single clips with layer-normed convolutions; the group norm of Base sees the padding.

        Raises:
            ValueError: for audio of another shape, or too short for one frame.
        """
        if audio.ndim != 2 or int(self.frames(torch.tensor([audio.shape[-1]]))) < 1:
            raise ValueError(f"audio must be (B, T) with a frame of samples at least, got {tuple(audio.shape)}")
        mask = None
        if lengths is not None:
            mask = torch.arange(audio.shape[1], device=self.device) < lengths.to(self.device)[:, None]
        return self.network(audio.to(self.device, self.dtype), attention_mask=mask).last_hidden_state
