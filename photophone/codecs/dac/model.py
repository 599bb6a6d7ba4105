"""DAC, the Descript Audio Codec, through transformers.

Paper: arXiv 2306.06546. Code: transformers, Apache-2.0; the original is MIT, as are the weights.

Its convolutions see both sides, so rows of different length run without padding, those of equal length together. Long
clips run in chunks with ``chunk_frames``: the chunks overlap by as much as the networks see (10 frames to each side in
encoding and 12 in decoding), which makes codes and audio those of the whole. A decoder with odd strides loses a few
samples at the end; they are silent here, so that a token always decodes to a whole hop.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import DacConfig, DacModel

from photophone.codecs.wrapped import WrappedCodec, to_books, to_values
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.rows import fill_up, map_equal_lengths
from photophone.loading.checkpoints import State, fold_weight_norm

UNIT_REACH = 3 * (1 + 3 + 9)
"""Inputs to each side that the three residual units of a stage see."""


def encoder_reach(strides: list[int]) -> int:
    """Frames to each side that a frame of codes depends on."""
    reach, hop = 3, 1  # in samples
    for stride in strides:
        reach, hop = reach + (UNIT_REACH + 2 * stride) * hop, hop * stride
    return math.ceil((reach + hop) / hop)  # the last convolution sees a frame to each side


def decoder_reach(strides: list[int]) -> int:
    """Frames to each side that a sample of the decoded audio depends on."""
    reach, hop = 3.0, math.prod(strides)  # in frames
    step = 1.0
    for stride in strides:
        step /= stride
        reach += (2 * stride + UNIT_REACH) * step
    return math.ceil(reach + 3 / hop)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, chunk: int, reach: int, steps_in: int,
              steps_out: int) -> Tensor:
    """``function`` of a long signal by pieces.

    Args:
        function: (B, ..., n * steps_in) to (B, ..., n * steps_out), whose outputs see ``reach`` frames to each side.
        x: (B, ..., N * steps_in).
        chunk, reach: in frames.
        steps_in, steps_out: values of a frame on the last axis.
    """
    count, parts = x.shape[-1] // steps_in, []
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        first = max(start - reach, 0)
        part = function(x[..., first * steps_in:(stop + reach) * steps_in])
        parts.append(part[..., (start - first) * steps_out:(stop - first) * steps_out])
    return torch.cat(parts, dim=-1)


class DAC(WrappedCodec):
    """Waveforms (B, 1, T) to codes (B, num_codebooks, N), and back.

    Weights were trained on clips at -16 dB; the original tool brings clips to that level first, this class does not.

    Args:
        num_codebooks: that are used.
        sample_rate: in Hz.
        chunk_frames: of the pieces of long clips, or None to run each clip at once.
        settings: arguments of transformers' DacConfig.

    Raises:
        ValueError: more codebooks than there are, or empty chunks.
    """

    def __init__(self, num_codebooks: int = 9, sample_rate: int = 44100, chunk_frames: int | None = None,
                 settings: dict | None = None) -> None:
        super().__init__()
        if chunk_frames is not None and chunk_frames < 1:
            raise ValueError(f"chunk_frames must be at least 1 or None, got {chunk_frames}")
        self.model = DacModel(DacConfig(sampling_rate=sample_rate, **(settings or {})))
        self.check_books(self.model.config.n_codebooks)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of the hub to ours."""
        return {f"model.{key}": value for key, value in fold_weight_norm(state).items()}

    @property
    def hop_length(self) -> int:
        return self.model.config.hop_length

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(codebook_size=self.model.config.codebook_size, num_codebooks=self.config.num_codebooks)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes (B, Q, N) to what the decoder reads, (B, N, hidden_size)."""
        return self.model.quantizer.from_codes(codes)[0].transpose(1, 2)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        counts = None if lengths is None else self.token_lengths(lengths)
        audio = self.whole_hops(audio, lengths)
        reach = encoder_reach(self.model.config.downsampling_ratios)

        def run(part: Tensor) -> Tensor:
            return self.model.encode(part.to(self.dtype), self.num_codebooks).audio_codes

        def whole(rows: Tensor) -> Tensor:
            chunk = self.config.chunk_frames or rows.shape[-1] // self.hop_length
            return in_chunks(run, rows, chunk, reach, self.hop_length, 1)

        codes = map_equal_lengths(whole, audio, None if counts is None else counts * self.hop_length)
        return Tokens(to_values(codes))

    def _decode(self, tokens: Tokens) -> Tensor:
        reach = decoder_reach(self.model.config.upsampling_ratios)

        def run(codes: Tensor) -> Tensor:
            audio = self.model.decoder(self.embed(codes).transpose(1, 2)).float()
            return fill_up(audio, codes.shape[-1] * self.hop_length)

        def whole(codes: Tensor) -> Tensor:
            return in_chunks(run, codes, self.config.chunk_frames or codes.shape[-1], reach, 1, self.hop_length)

        return map_equal_lengths(whole, to_books(tokens.values), tokens.lengths)
