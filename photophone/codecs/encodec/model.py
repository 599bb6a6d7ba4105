"""EnCodec at 24 kHz through transformers, and Vocos as a decoder of its codes.

Papers: arXiv 2210.13438 and 2306.00814. Code: transformers, Apache-2.0; Vocos: MIT. Weights: EnCodec CC BY-NC 4.0, see
the hub page; Vocos MIT.

All convolutions are causal, so the silence that fills a row up never reaches its codes. EnCodec's LSTMs make whole
clips the unit: there is no streaming. The stereo model at 48 kHz, which scales chunks of a second each, is not here:
its codes mean nothing without those scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import EncodecConfig, EncodecModel

from photophone.codecs.wrapped import WrappedCodec, to_books, to_values
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.istft import ISTFTHead
from photophone.layers.rows import map_equal_lengths
from photophone.layers.seanet import run_seanet
from photophone.layers.vocos_backbone import VocosBackbone
from photophone.loading.checkpoints import WEIGHT_NORM, State, content_of, read_state, rename_keys

BANDWIDTH_BOOKS = (2, 4, 8, 16)
"""Codebooks of the four conditions of Vocos: 1.5, 3, 6 and 12 kbit/s."""


class EnCodec(WrappedCodec):
    """Waveforms (B, 1, T) to codes (B, num_codebooks, N), and back.

    Args:
        num_codebooks: 2, 4, 8, 16 or 32 for 1.5 to 24 kbit/s.
        sample_rate: in Hz.
        settings: arguments of transformers' EncodecConfig.

    Raises:
        ValueError: stereo or chunked settings, or more codebooks than there are.
    """

    def __init__(self, num_codebooks: int = 8, sample_rate: int = 24000, settings: dict | None = None) -> None:
        super().__init__()
        config = EncodecConfig(sampling_rate=sample_rate, **(settings or {}))
        if config.audio_channels != 1 or config.normalize or config.chunk_length_s or not config.use_causal_conv:
            raise ValueError("only the causal mono EnCodec without chunks and scales is wrapped, the one of 24 kHz")
        self.model = EncodecModel(config)
        self.check_books(config.num_quantizers)
        for layer in self.model.quantizer.layers:
            layer.codebook.embed.copy_(torch.randn(config.codebook_size, config.codebook_dim))  # zeros until loaded

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of the hub to ours."""
        return rename_keys(state, [*WEIGHT_NORM, (r"^", "model.")])

    @property
    def hop_length(self) -> int:
        return math.prod(self.model.config.upsampling_ratios)

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(codebook_size=self.model.config.codebook_size, num_codebooks=self.config.num_codebooks)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes (B, Q, N) to what the decoder reads, (B, N, hidden_size)."""
        return self.model.quantizer.decode(codes.transpose(0, 1)).transpose(1, 2).to(self.dtype)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        counts = None if lengths is None else self.token_lengths(lengths)
        audio = self.whole_hops(audio, lengths)
        return Tokens(to_values(self._rows(self._codes, audio, counts, self.hop_length)))

    def _decode(self, tokens: Tokens) -> Tensor:
        return self._rows(self._audio, to_books(tokens.values), tokens.lengths)

    def _codes(self, audio: Tensor) -> Tensor:
        residual, codes = run_seanet(self.model.encoder.layers, audio.to(self.dtype)), []
        for layer in self.model.quantizer.layers[:self.num_codebooks]:
            codes.append(layer.encode(residual))
            residual = residual - layer.decode(codes[-1])
        return torch.stack(codes, dim=1)

    def _audio(self, codes: Tensor) -> Tensor:
        return run_seanet(self.model.decoder.layers, self.embed(codes).transpose(1, 2)).float()

    def _rows(self, function: Callable[[Tensor], Tensor], x: Tensor, counts: Tensor | None, step: int = 1) -> Tensor:
        """``function`` of a padded batch, of ``counts`` frames of ``step`` values; by equal lengths where a row is
        shorter than the mirrored past of a convolution, which then looks different."""
        short = counts is not None and int(counts.min()) <= self.model.config.kernel_size
        return map_equal_lengths(function, x, counts * step if short else None)


class VocosEnCodec(EnCodec):
    """Waveforms to the codes of EnCodec, and those to waveforms by Vocos, which sounds better at low rates.

    Args:
        num_codebooks: 2, 4, 8 or 16; says which of its conditions the vocoder has.
        sample_rate, settings: of :class:`EnCodec`.
        width, hidden, depth: of the vocoder's backbone.
        synthesis_n_fft: points of the predicted spectra.
        vocoder_books: codebooks that the vocoder knows.
    """

    DROPPED_KEYS = ("head.istft.window", "feature_extractor.encodec.*")

    def __init__(self, num_codebooks: int = 8, sample_rate: int = 24000, settings: dict | None = None,
                 width: int = 384, hidden: int = 1152, depth: int = 8, synthesis_n_fft: int = 1280,
                 vocoder_books: int = 16) -> None:
        super().__init__(num_codebooks, sample_rate, settings)
        self.register_to_config(num_codebooks=num_codebooks, sample_rate=sample_rate, settings=settings)
        if num_codebooks not in BANDWIDTH_BOOKS or num_codebooks > vocoder_books:
            raise ValueError(f"num_codebooks must be one of {BANDWIDTH_BOOKS} and at most {vocoder_books}, "
                             f"got {num_codebooks}")
        config = self.model.config
        self.codebooks = nn.Parameter(torch.randn(vocoder_books * config.codebook_size, config.codebook_dim))
        self.backbone = VocosBackbone(config.codebook_dim, width, hidden, depth, num_conditions=len(BANDWIDTH_BOOKS))
        self.head = ISTFTHead(width, synthesis_n_fft, self.hop_length, "same")

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of Vocos and, with the prefix ``model.``, of EnCodec."""
        return rename_keys(state, [*WEIGHT_NORM, (r"^feature_extractor\.codebook_weights$", "codebooks")])

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, encodec: str | Path | Mapping | None = None,
                      take: str | None = None, **config: Any) -> Self:
        """The model with the weights of both.

        Args:
            source: Vocos's ``pytorch_model.bin``, or its content.
            encodec: EnCodec's ``model.safetensors``, or its content.
            take: as in the base.
            **config: of the constructor.
        """
        if encodec is None:
            raise ValueError("Vocos's file holds no encoder: give encodec=PATH of facebook/encodec_24khz as well")
        beside = {f"model.{key}": value for key, value in read_state(encodec).items()}
        return cls.load_content(source, content_of(source), take, config, beside)

    def synthesize(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        """Codes (B, Q, N), of which ``mask`` (B, N) are valid, to audio float32 (B, 1, N * hop)."""
        rows = torch.arange(codes.shape[1], device=codes.device)[:, None] * self.codebook_size
        features = nn.functional.embedding(codes + rows, self.codebooks).sum(1)  # (B, Q, N, C) -> (B, N, C)
        condition = torch.tensor([BANDWIDTH_BOOKS.index(codes.shape[1])], device=codes.device)
        return self.head(self.backbone(features.transpose(1, 2), condition, mask), mask)[:, None]

    def _decode(self, tokens: Tokens) -> Tensor:
        return self.synthesize(to_books(tokens.values), None if tokens.lengths is None else tokens.mask)
