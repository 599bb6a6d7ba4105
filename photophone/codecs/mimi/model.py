"""Mimi through transformers, which streams exactly both ways.

Paper: arXiv 2410.00037. Code: transformers, Apache-2.0. Weights: CC BY 4.0, see the hub page.

transformers gives memory to the attention only: its convolutions begin anew with every chunk. Here each of them
remembers what it needs, so chunks of codes decode to what the whole decodes to, and chunks of audio encode to its
codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, MimiConfig
from transformers.models.mimi.modeling_mimi import (
    MimiConv1d,
    MimiConvTranspose1d,
    MimiDecoder,
    MimiEncoder,
    MimiEuclideanCodebook,
    MimiResnetBlock,
    MimiSplitResidualVectorQuantizer,
    MimiTransformerModel,
)

from photophone.codecs.mimi.keys import from_kyutai, is_kyutai
from photophone.codecs.wrapped import WrappedCodec, to_books, to_values
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.frames import Linear
from photophone.layers.seanet import run_seanet
from photophone.layers.streaming import StreamingLayer
from photophone.loading.checkpoints import State, rename_keys


class ConvolutionMemory(StreamingLayer):
    """What transformers' causal convolutions need of the past, by layer; it has no weights."""

    def initial_state(self, batch_size: int) -> dict:
        """Nothing yet: a layer that is not in it begins with zeros."""
        return {}

    def convolve(self, layer: MimiConv1d, x: Tensor) -> Tensor:
        """A chunk (B, C, T) through a convolution, where T is a multiple of its stride."""
        past = int(layer.padding_total)
        if past:
            first = x[..., :1] if layer.pad_mode == "replicate" else torch.zeros_like(x[..., :1])
            x = torch.cat([self.stream_state.get(layer, first.expand(-1, -1, past)), x], dim=-1)
            self.stream_state[layer] = x[..., -past:]
        return layer.conv(x)

    def convolve_up(self, layer: MimiConvTranspose1d, x: Tensor) -> Tensor:
        """A chunk (B, C, T) through a transposed convolution, to (B, C', T * stride)."""
        length = x.shape[-1] * layer.conv.stride[0]
        y = layer.conv(x)
        if layer in self.stream_state:
            tail = self.stream_state[layer]
            y = torch.cat([y[..., :tail.shape[-1]] + tail, y[..., tail.shape[-1]:]], dim=-1)
        tail = y[..., length:]
        # The bias belongs to every output once: what waits for the next chunk must not bring it again.
        self.stream_state[layer] = tail if layer.conv.bias is None else tail - layer.conv.bias[:, None]
        return y[..., :length]

    def attend(self, transformer: MimiTransformerModel, config: MimiConfig, x: Tensor) -> Tensor:
        """A chunk (B, T, C) through a transformer, which remembers its window."""
        cache = self.stream_state.setdefault(transformer, DynamicCache(config=config))
        # the cache by its place: transformers calls it past_key_values before 5.24, and cache alone from 5.40 on
        return transformer(x, None, None, cache, use_cache=True).last_hidden_state

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A chunk through any layer of the encoder or decoder."""
        if isinstance(layer, MimiConv1d):
            return self.convolve(layer, x)
        if isinstance(layer, MimiConvTranspose1d):
            return self.convolve_up(layer, x)
        if isinstance(layer, MimiResnetBlock):
            y = x
            for part in layer.block:
                y = self.run(part, y)
            return self.run(layer.shortcut, x) + y
        return layer(x)


class Mimi(WrappedCodec):
    """Waveforms (B, 1, T) to codes (B, num_codebooks, N), 12.5 a second, and back.

    Args:
        num_codebooks: that are used; Moshi has 8 of the 32.
        sample_rate: in Hz.
        latent_stride: of the last convolution in front of the quantizer.
        settings: arguments of transformers' MimiConfig.

    Raises:
        ValueError: settings that are not causal, or more codebooks than there are.
    """

    streams = True
    streams_encode = True

    def __init__(self, num_codebooks: int = 8, sample_rate: int = 24000, latent_stride: int = 2,
                 settings: dict | None = None) -> None:
        super().__init__()
        mimi = MimiConfig(sampling_rate=sample_rate, **(settings or {}))
        if not mimi.use_causal_conv or mimi.trim_right_ratio != 1 or mimi.pad_mode != "constant":
            raise ValueError("only a causal Mimi with zeros in front of its convolutions is wrapped")
        self.check_books(mimi.num_quantizers)
        mimi._attn_implementation = "sdpa"
        self.mimi_config, self.width = mimi, mimi.hidden_size
        self.encoder, self.encoder_transformer = MimiEncoder(mimi), MimiTransformerModel(mimi)
        self.downsample = MimiConv1d(mimi, self.width, self.width, 2 * latent_stride, stride=latent_stride, bias=False,
                                     pad_mode="replicate")
        self.quantizer = MimiSplitResidualVectorQuantizer(mimi)
        self.upsample = MimiConvTranspose1d(mimi, self.width, self.width, 2 * latent_stride, stride=latent_stride,
                                            bias=False, groups=mimi.upsample_groups)
        self.decoder_transformer, self.decoder = MimiTransformerModel(mimi), MimiDecoder(mimi)
        for layer in (*self.encoder_transformer.modules(), *self.decoder_transformer.modules()):
            if type(layer) is nn.Linear:
                layer.__class__ = Linear  # the same layer, with a faster forward
        self.memory = ConvolutionMemory()
        for name, buffer in self.quantizer.named_buffers():
            if name.endswith("embed_sum"):
                buffer.copy_(torch.randn_like(buffer))  # zeros until loaded

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of the hub, or of newer versions of transformers that nest encoder and decoder, to ours."""
        return rename_keys(state, [
            (r"^(encoder|decoder)\.\1_seanet\.", r"\1."),
            (r"^(?:encoder|decoder)\.((?:en|de)coder_transformer|downsample|upsample)\.", r"\1.")])

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """Also of Kyutai's own files, which order the rotary channels otherwise."""
        if is_kyutai(state):
            return from_kyutai(state, config.get("settings") or {})
        return cls.convert_state_dict(state)

    @property
    def hop_length(self) -> int:
        return math.prod(self.mimi_config.upsampling_ratios) * self.config.latent_stride

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(codebook_size=self.mimi_config.codebook_size, num_codebooks=self.config.num_codebooks)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes (B, Q, N) to what the decoder reads, (B, N, hidden_size)."""
        return self.quantizer.decode(codes).transpose(1, 2).to(self.dtype)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        for module in self.quantizer.modules():
            if isinstance(module, MimiEuclideanCodebook):
                module._embed = None  # a table that transformers keeps of the weights, on their old device
        return self

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        audio = self.whole_hops(audio, lengths).to(self.dtype)
        codes = self.quantizer.encode(self._latents(audio), self.num_codebooks).transpose(0, 1)
        return Tokens(to_values(codes))

    def _latents(self, audio: Tensor) -> Tensor:
        """Whole hops of audio (B, 1, T) to (B, hidden_size, N)."""
        memory = self.memory
        if memory.stream_state is None:
            x = run_seanet(self.encoder.layers, audio).transpose(1, 2)
            x = self.encoder_transformer(x, use_cache=False).last_hidden_state
            return self.downsample(x.transpose(1, 2))
        for layer in self.encoder.layers:
            audio = memory.run(layer, audio)
        x = memory.attend(self.encoder_transformer, self.mimi_config, audio.transpose(1, 2))
        return memory.convolve(self.downsample, x.transpose(1, 2))

    def _decode(self, tokens: Tokens) -> Tensor:
        x = self.embed(to_books(tokens.values)).transpose(1, 2)
        if self.memory.stream_state is None:
            x = self.decoder_transformer(self.upsample(x).transpose(1, 2), use_cache=False).last_hidden_state
            audio = run_seanet(self.decoder.layers, x.transpose(1, 2))
        else:
            audio = self._decode_chunk(x)
        return audio.float()

    def _decode_chunk(self, x: Tensor) -> Tensor:
        memory = self.memory
        x = memory.convolve_up(self.upsample, x).transpose(1, 2)
        x = memory.attend(self.decoder_transformer, self.mimi_config, x).transpose(1, 2)
        for layer in self.decoder.layers:
            x = memory.run(layer, x)
        return x
