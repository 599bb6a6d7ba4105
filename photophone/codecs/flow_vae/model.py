"""The FlowVAE of KALL-E: 12.5 normal distributions of 512 channels a second.

Paper: arXiv 2412.16846. Official code: xkx-hub/KALL-E, no licence stated. Weights: none stated.

The encoder sees the whole clip, and so do the filters of the decoder's activations: it does not stream. Rows of
different length are worked on one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.codecs.flow_vae.layers import AliasFreeSnake, AmpBlock, CouplingFlow, ResidualStack
from photophone.core.tokens import Tokens
from photophone.layers.causal_conv import CausalConv1d, CausalConvTranspose1d
from photophone.loading.checkpoints import OriginalCheckpoint, State, fold_weight_norm, rename_keys
from photophone.quantizers.gaussian import NoQuantizer
from photophone.quantizers.model import QuantizedModel

KEYS = [(r"^audio_encoder\.generator\.", "encoder."), (r"\.layer\.(weight|bias)$", r".\1"),
        (r"\.act\.(alpha|beta)$", r".\1"), (r"^ups\.(\d+)\.0\.", r"ups.\1."),
        (r"^flow\.flows\.(\d+)\.", lambda match: f"flow.flows.{int(match[1]) // 2}.")]


class FlowVAE(OriginalCheckpoint, QuantizedModel, AudioCodec):
    """Waveforms (B, 1, T) to tokens (B, N, D), the means of normal distributions, and draws of them back.

    Args:
        sample_rate: in Hz.
        latent_dim: D.
        encoder_channels, encoder_strides: of the encoder's stages; one more channels than strides.
        decoder_channels: of its first layer; each stage halves them.
        decoder_strides: of its stages.
        kernel_sizes: of the blocks of each stage, which are averaged.
        dilations: of each block.
        flow_hidden: channels within the flow that training maps latents to the prior by.

    Raises:
        ValueError: for strides whose products differ.
    """

    CONTAINERS = ("generator",)
    DROPPED_KEYS = ("*.filter",)  # tables
    fade_in = 0

    def __init__(self, sample_rate: int = 16000, latent_dim: int = 512,
                 encoder_channels: list[int] = (12, 24, 48, 96, 192, 384, 768),
                 encoder_strides: list[int] = (2, 2, 4, 4, 4, 5), decoder_channels: int = 1536,
                 decoder_strides: list[int] = (5, 4, 4, 4, 2, 2), kernel_sizes: list[int] = (3, 7, 11),
                 dilations: list[int] = (1, 3, 5), flow_hidden: int = 512) -> None:
        super().__init__()
        if math.prod(encoder_strides) != math.prod(decoder_strides):
            raise ValueError(f"strides {list(encoder_strides)} and {list(decoder_strides)} have other products")
        layers: list[nn.Module] = [nn.Conv1d(1, encoder_channels[0], 3, padding=1), nn.LeakyReLU(0.2)]
        for before, after, stride in zip(encoder_channels[:-1], encoder_channels[1:], encoder_strides, strict=True):
            layers += [nn.Conv1d(before, after, 2 * stride, stride=stride, padding=(2 * stride - 1) // 2),
                       ResidualStack(after), nn.LeakyReLU(0.2)]
        self.encoder = nn.Sequential(*layers, nn.Conv1d(encoder_channels[-1], 2 * latent_dim, 3, padding=1))
        self.bottleneck = NoQuantizer(latent_dim)
        self.flow = CouplingFlow(latent_dim, flow_hidden)
        self.conv_pre = nn.Conv1d(latent_dim, decoder_channels, 7, padding=3)
        widths = [decoder_channels // 2**index for index in range(len(decoder_strides) + 1)]
        self.ups = nn.ModuleList(CausalConvTranspose1d(before, after, 2 * stride, stride=stride)
                                 for before, after, stride in zip(widths[:-1], widths[1:], decoder_strides))
        self.resblocks = nn.ModuleList(AmpBlock(width, kernel, dilations) for width in widths[1:]
                                       for kernel in kernel_sizes)
        self.activation_post = AliasFreeSnake(widths[-1])
        self.conv_post = CausalConv1d(widths[-1], 1, 7)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments from the official settings of the FlowVAE.

        Raises:
            ValueError: for settings of no published model.
        """
        wanted = {"resblock": "1", "activation": "snakebeta", "snake_logscale": True, "use_vae": True, "causal": True}
        odd = {name: official[name] for name, value in wanted.items() if official[name] != value}
        if odd or len(set(map(tuple, official["resblock_dilation_sizes"]))) != 1:
            raise ValueError(f"only the published kind of FlowVAE is built here, got {odd or 'several dilations'}")
        return {"sample_rate": official.get("sampling_rate", 16000), "latent_dim": official["latent_dim"],
                "encoder_channels": official["downsample_channels"], "encoder_strides": official["downsample_rates"],
                "decoder_channels": official["upsample_initial_channel"],
                "decoder_strides": official["upsample_rates"], "kernel_sizes": official["resblock_kernel_sizes"],
                "dilations": official["resblock_dilation_sizes"][0], "flow_hidden": official["flow_hidden_channels"]}

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours, weight normalisation folded."""
        return rename_keys(fold_weight_norm(state), KEYS)

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.encoder_strides)

    @torch.no_grad()
    def moments(self, audio: Tensor) -> Tensor:
        """Whole hops of audio (B, 1, T) to means and log standard deviations, side by side (B, N, 2D)."""
        return self.encoder(audio.to(self.dtype)).transpose(1, 2)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        if lengths is None:
            rows = [self.whole_hops(audio)]
        else:
            rows = [self.whole_hops(row[None, :, :length]) for row, length in zip(audio, lengths.tolist())]
        means = [self.moments(row).chunk(2, dim=-1)[0].float() for row in rows]
        longest = max(part.shape[1] for part in means)
        return Tokens(torch.cat([functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in means]))

    def synthesize(self, latents: Tensor) -> Tensor:
        """Latents (B, N, D) to audio float32 (B, 1, N * hop_length)."""
        x = self.conv_pre(latents.transpose(1, 2).to(self.dtype))
        count = len(self.config.kernel_sizes)
        for index, up in enumerate(self.ups):
            x = up(x)
            x = sum(block(x) for block in self.resblocks[count * index:count * (index + 1)]) / count
        return torch.tanh(self.conv_post(self.activation_post(x))).float()

    def _decode(self, tokens: Tokens) -> Tensor:
        if tokens.lengths is None:
            return self.synthesize(tokens.values)
        audio = torch.zeros(len(tokens), 1, tokens.num_tokens * self.hop_length, device=self.device)
        for row, count in enumerate(tokens.lengths.tolist()):
            if count:
                audio[row:row + 1, :, :count * self.hop_length] = self.synthesize(tokens.values[row:row + 1, :count])
        return audio
