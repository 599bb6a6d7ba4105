"""The AudioVAE of VoxCPM: waveforms to continuous tokens at 25 Hz, causal, so it streams.

Papers: VoxCPM (arXiv 2509.24650), VoxCPM 2 (2606.06928). Official code: OpenBMB/VoxCPM, Apache-2.0. Weights:
Apache-2.0. Version 2 reads 16 kHz and writes 48 kHz, and its decoder is told a sample rate.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from photophone.codecs.audio_vae.config import codec_config
from photophone.codecs.base import AudioCodec
from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.causal_conv import CausalConv1d
from photophone.layers.dac_conv import DACDecoder, DACEncoder, normed_conv
from photophone.layers.snake import Snake
from photophone.loading.checkpoints import WEIGHT_NORM, OriginalCheckpoint, State, rename_keys
from photophone.quantizers.gaussian import GaussianBottleneck
from photophone.quantizers.model import QuantizedModel

RATE_CONDITIONS = ("scale_bias", "add", "concat")


class RateCondition(nn.Module):
    """Tells a stage of the decoder which range of sample rates is wanted: (B, C, T) -> (B, C, T).

    Args:
        channels: C.
        num_ranges: of sample rates.
        kind: "scale_bias", "add" or "concat" (needs ``mix``).
        dim: width of the embedding of "concat".
        mix: Snake and a 1x1 convolution afterwards.

    Raises:
        ValueError: for an unknown kind, or "concat" without ``mix``.
    """

    def __init__(self, channels: int, num_ranges: int, kind: str, dim: int, mix: bool) -> None:
        super().__init__()
        if kind not in RATE_CONDITIONS or (kind == "concat" and not mix):
            raise ValueError(f"rate_condition must be one of {RATE_CONDITIONS}, got {kind!r}; concat needs mixing")
        self.kind = kind
        if kind == "scale_bias":
            self.scale_embed, self.bias_embed = (nn.Embedding(num_ranges, channels) for _ in range(2))
            nn.init.ones_(self.scale_embed.weight)
            nn.init.zeros_(self.bias_embed.weight)
        else:
            self.cond_embed = nn.Embedding(num_ranges, channels if kind == "add" else dim)
        width = channels + (dim if kind == "concat" else 0)
        self.out_layer = nn.Sequential(Snake(width), normed_conv(width, channels, 1, causal=True)) if mix else \
            nn.Identity()

    def forward(self, x: Tensor, rate_range: Tensor) -> Tensor:
        """``rate_range`` Long (1,) or (B,)."""
        if self.kind == "scale_bias":
            x = x * self.scale_embed(rate_range)[..., None] + self.bias_embed(rate_range)[..., None]
        elif self.kind == "add":
            x = x + self.cond_embed(rate_range)[..., None]
        else:
            told = self.cond_embed(rate_range)[..., None].expand(len(x), -1, x.shape[-1])
            x = torch.cat([x, told], dim=1)
        return self.out_layer(x)


class AudioVAE(OriginalCheckpoint, QuantizedModel, AudioCodec):
    """Waveforms (B, 1, T) to tokens (B, N, D), the means of Gaussian latents, and back.

    Args:
        sample_rate: in Hz of what :meth:`encode` reads.
        output_sample_rate: in Hz of what :meth:`decode` makes; None: the same.
        encoder_channels, encoder_strides: see :class:`photophone.layers.dac_conv.DACEncoder`.
        latent_dim: D.
        decoder_channels, decoder_strides: see :class:`photophone.layers.dac_conv.DACDecoder`.
        depthwise: residual units keep channels apart.
        delay_odd: the encoder's stages of odd stride are one input late: how version 1 pads.
        rate_boundaries: sample rates in Hz between the ranges that the decoder is told; None: it is not told.
        rate_condition, rate_dim, rate_mix: see :class:`RateCondition`.
        kl_weight: of the loss.

    Raises:
        ValueError: for rates that do not fit the strides.
    """

    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("*decoder.sr_bin_boundaries",)  # rate_boundaries, which the config holds
    streams = True
    streams_encode = True
    trains = True
    decode_options = ("rate",)

    def __init__(self, sample_rate: int = 16000, output_sample_rate: int | None = None, encoder_channels: int = 128,
                 encoder_strides: list[int] = (2, 5, 8, 8), latent_dim: int = 64, decoder_channels: int = 1536,
                 decoder_strides: list[int] = (8, 8, 5, 2), depthwise: bool = True, delay_odd: bool = True,
                 rate_boundaries: list[int] | None = None, rate_condition: str = "scale_bias", rate_dim: int = 128,
                 rate_mix: bool = False, kl_weight: float = 1e-6) -> None:
        super().__init__()
        self.encoder = DACEncoder(encoder_channels, encoder_strides, depthwise=depthwise, causal=True,
                                  delay_odd=delay_odd)
        width = self.encoder.out_channels
        self.to_mean, self.to_log_variance = (weight_norm(CausalConv1d(width, latent_dim, 3)) for _ in range(2))
        self.bottleneck = GaussianBottleneck(2 * latent_dim, kl_weight=kl_weight)
        self.decoder = DACDecoder(latent_dim, decoder_channels, decoder_strides, depthwise=depthwise, causal=True)
        self.rate_conditions = None
        if rate_boundaries is not None:
            self.rate_conditions = nn.ModuleList(
                RateCondition(channels, len(rate_boundaries) + 1, rate_condition, rate_dim, rate_mix)
                for channels in self.decoder.stage_channels)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments for the whole ``config.json`` of a published VoxCPM; see
        :func:`photophone.codecs.audio_vae.config.codec_config`. One that says nothing of its codec, as that of the
        0.5B release, leaves its sizes to the registry, as the official code leaves them to its classes."""
        return codec_config(official.get("audio_vae_config") or {}, official.get("architecture") == "voxcpm2")

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; the official decoder is one list of layers, of which the stages hold blocks."""
        stages = [int(match[1]) for key in state if (match := re.search(r"decoder\.model\.(\d+)\.block\.", key))]
        first, last = min(stages, default=0), max(stages, default=0)

        def decoder_layer(match: re.Match) -> str:
            index = int(match[1])
            ends = {last + 1: "decoder.snake_out.", last + 2: "decoder.conv_out."}
            return f"decoder.conv_in.{index}." if index < first else \
                ends.get(index, f"decoder.stages.{index - first}.")

        return rename_keys(state, [
            (r"^audio_vae\.", ""), (r"^encoder\.fc_mu\.", "to_mean."), (r"^encoder\.fc_logvar\.", "to_log_variance."),
            (r"^encoder\.block\.0\.", "encoder.conv_in."),
            (r"^encoder\.block\.(\d+)\.", lambda match: f"encoder.stages.{int(match[1]) - 1}."),
            (r"^decoder\.model\.(\d+)\.", decoder_layer),
            (r"^decoder\.sr_cond_model\.(\d+)\.", lambda match: f"rate_conditions.{int(match[1]) - first}."),
            (r"\.block\.", "."), *WEIGHT_NORM])

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.encoder_strides)

    @property
    def output_sample_rate(self) -> int:
        return self.config.output_sample_rate or self.sample_rate

    @property
    def output_hop(self) -> int:
        """Samples that a token decodes to, at :attr:`output_sample_rate`."""
        return math.prod(self.config.decoder_strides)

    def moments(self, audio: Tensor) -> Tensor:
        """Whole hops of audio (B, 1, T) to means and log variances (B, N, 2D)."""
        x = self.encoder(audio.to(self.dtype))
        return torch.cat([self.to_mean(x), self.to_log_variance(x)], dim=1).transpose(1, 2)

    def synthesize(self, values: Tensor, rate: int | None = None) -> Tensor:
        """Latents (B, N, D) to audio float32 (B, 1, N * output_hop).

        Args:
            rate: sample rate in Hz whose sound the decoder imitates; None: that of the output. The number of samples
                stays the same.
        """
        x = values.transpose(1, 2).to(self.dtype)
        if self.rate_conditions is None:
            return self.decoder(x).float()
        rate = self.output_sample_rate if rate is None else rate
        rate_range = torch.tensor([bisect.bisect_left(self.config.rate_boundaries, rate)], device=x.device)
        return self.decoder(x, lambda stage, y: self.rate_conditions[stage](y, rate_range)).float()

    def forward(self, audio: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of whole hops of audio (B, 1, T), through a draw of the latents."""
        output = self.bottleneck(self.moments(audio), noise=noise)
        return Reconstruction(self.synthesize(output.values), output.loss, output.metrics, output.values)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        return Tokens(self.bottleneck.encode(self.moments(self.whole_hops(audio, lengths))))

    def _decode(self, tokens: Tokens, rate: int | None = None) -> Tensor:
        """``rate`` is that of :meth:`synthesize`."""
        return self.synthesize(tokens.values, rate)

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        return tokens.mask.sum(1) * self.output_hop
