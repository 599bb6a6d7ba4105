"""Mimi with continuous latents in the place of codes: the codec of Pocket TTS. Causal, so it streams both ways.

Papers: Moshi (arXiv 2410.00037), CALM (2509.06926). Official code: kyutai-labs/pocket-tts, MIT. Weights: CC BY 4.0.
The weights lie in the file of the language model, whose latents the codec decodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from photophone.codecs.base import AudioCodec
from photophone.codecs.continuous_mimi.config import codec_config
from photophone.codecs.continuous_mimi.seanet import seanet_decoder, seanet_encoder
from photophone.codecs.vocoder import Vocoder
from photophone.core.tokens import Tokens
from photophone.layers.causal_conv import CausalConv1d, CausalConvTranspose1d
from photophone.layers.window_attention import KYUTAI_NAMES, LayerNormBlock, WindowAttention
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.gaussian import NoQuantizer
from photophone.quantizers.model import QuantizedModel

KEYS = [(r"^mimi\.", ""), (r"^(encoder|decoder)\.model\.", r"\1."), (r"\.conv\.", "."), (r"\.convtr\.", "."),
        (r"^(downsample|upsample)\.(?:conv|convtr)\.", r"\1."),
        (r"^(encoder|decoder)_transformer\.transformer\.layers\.", r"\1_transformer.layers."), *KYUTAI_NAMES,
        (r"_transformer\.blocks\.", "_transformer."), (r"^quantizer\.output_proj\.", "latent_proj.")]
PART = {"width": 512, "filters": 64, "ratios": [6, 5, 4], "num_heads": 8, "depth": 2, "hidden": 2048, "window": 250,
        "layer_scale": 0.01, "rotary_base": 10_000.0}


def split_part(settings: Mapping[str, Any] | None) -> tuple[nn.Sequential, dict[str, Any]]:
    """The transformer of a side of the codec, and the arguments of its SEANet."""
    part = {**PART, **(settings or {})}
    names = ("num_heads", "depth", "hidden", "window", "layer_scale", "rotary_base")
    num_heads, depth, hidden, window, layer_scale, base = (part.pop(name) for name in names)
    width = part["width"]
    blocks = [LayerNormBlock(WindowAttention(width, num_heads, window, base), width, hidden, layer_scale=layer_scale)
              for _ in range(depth)]
    return nn.Sequential(*blocks), part


class LatentDecoder(OriginalCheckpoint, QuantizedModel, Vocoder):
    """Tokens (B, N, D) to waveforms: the half of the codec that Phonon is published with.

    Args:
        sample_rate, latent_dim, latent_stride, decoder: of :class:`ContinuousMimi`.
    """

    CONTAINERS = ("model",)
    DROPPED_KEYS = ("flow_lm.*", "mimi.encoder*", "mimi.downsample.*")  # the language model, and the other half
    streams = True

    def __init__(self, sample_rate: int = 24000, latent_dim: int = 32, latent_stride: int = 16,
                 decoder: dict | None = None) -> None:
        super().__init__()
        self.bottleneck = NoQuantizer(latent_dim)
        self._build_decoder(latent_dim, latent_stride, decoder)

    def _build_decoder(self, latent_dim: int, latent_stride: int, decoder: dict | None) -> None:
        self.decoder_transformer, settings = split_part(decoder)
        self.ratios = settings["ratios"]
        self.decoder, width = seanet_decoder(**settings), settings["width"]
        self.latent_proj = nn.Conv1d(latent_dim, width, 1, bias=False)
        self.upsample = CausalConvTranspose1d(width, width, 2 * latent_stride, stride=latent_stride, groups=width,
                                              bias=False)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(state, KEYS)

    @property
    def hop_length(self) -> int:
        return math.prod(self.ratios) * self.config.latent_stride

    def _decode(self, tokens: Tokens) -> Tensor:
        x = self.upsample(self.latent_proj(tokens.values.transpose(1, 2).to(self.dtype)))
        x = self.decoder_transformer(x.transpose(1, 2)).transpose(1, 2)
        return self.decoder(x).to(torch.float32)


class ContinuousMimi(LatentDecoder, AudioCodec):
    """Waveforms (B, 1, T) to tokens (B, N, D) and back.

    Args:
        sample_rate: in Hz.
        latent_dim: D.
        latent_stride: of the last convolution of the encoder.
        encoder, decoder: what differs from the published 100M model: arguments of
            :func:`photophone.codecs.continuous_mimi.seanet.seanet_encoder`, and ``num_heads``, ``depth``, ``hidden``,
            ``window`` (positions), ``layer_scale`` and ``rotary_base`` of the transformer behind or before it.
    """

    DROPPED_KEYS = ("flow_lm.*",)  # the language model
    streams_encode = True

    def __init__(self, sample_rate: int = 24000, latent_dim: int = 32, latent_stride: int = 16,
                 encoder: dict | None = None, decoder: dict | None = None) -> None:
        super(LatentDecoder, self).__init__()
        self.encoder_transformer, settings = split_part(encoder)
        self.encoder, width = seanet_encoder(**settings), settings["width"]
        self.downsample = CausalConv1d(width, latent_dim, 2 * latent_stride, stride=latent_stride, bias=False,
                                       repeat_first=True)
        self.bottleneck = NoQuantizer(latent_dim)
        self._build_decoder(latent_dim, latent_stride, decoder)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`photophone.codecs.continuous_mimi.config.codec_config`."""
        return codec_config(official["mimi"])

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        x = self.encoder(self.whole_hops(audio, lengths).to(self.dtype))
        x = self.encoder_transformer(x.transpose(1, 2)).transpose(1, 2)
        return Tokens(self.bottleneck.encode(self.downsample(x).transpose(1, 2)).float())
