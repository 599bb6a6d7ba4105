"""SimCodec: 16 kHz speech as one sequence of codes, what GenSE writes clean speech with.

Paper: GenSE (arXiv 2502.02942). Origin: github.com/yaoxunji/gen-se, no licence stated; no weights and no config were
published, so of the sizes here only those that the paper tells are the authors'.
"""

from __future__ import annotations

import math

from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.codecs.simcodec.network import SimDecoder, SimEncoder
from photophone.codecs.simcodec.quantizer import GroupedResidualVQ
from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.rows import map_equal_lengths
from photophone.loading.checkpoints import OriginalCheckpoint, State, fold_weight_norm, rename_keys
from photophone.quantizers.model import QuantizedModel

PREFIX = "codec_tokenizer."
"""Of its keys in the checkpoint of GenSE's second language model."""
DILATIONS = [[1, 3, 5]] * 3


class SimCodec(OriginalCheckpoint, QuantizedModel, AudioCodec):
    """Speech (B, 1, T) to codes Long (B, N), or (B, Q, N) with several books, and back.

    Args:
        sample_rate: in Hz.
        encoder_filters, decoder_filters: channels at the rate of the samples.
        dim: of the values that are quantized.
        rates, kernels: strides and kernels of the decoder's stages, whose differences are even.
        block_kernels, block_dilations: of the residual blocks.
        num_codes, num_layers, num_groups: of :class:`photophone.codecs.simcodec.quantizer.GroupedResidualVQ`.
        commitment, codebook_weight: of its loss.

    Raises:
        ValueError: a kernel whose difference to its stride is odd: lengths would drift.
    """

    trains = True
    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("xlsr.*", "km.*", "lm.*")
    """Of the checkpoint that it lies in."""

    def __init__(self, sample_rate: int = 16000, encoder_filters: int = 32, decoder_filters: int = 32, dim: int = 512,
                 rates: list[int] = (8, 5, 2, 2), kernels: list[int] = (16, 11, 4, 4),
                 block_kernels: list[int] = (3, 7, 11), block_dilations: list[list[int]] = DILATIONS,
                 num_codes: int = 8192, num_layers: int = 1, num_groups: int = 1, commitment: float = 0.25,
                 codebook_weight: float = 1.0) -> None:
        super().__init__()
        for rate, kernel in zip(rates, kernels, strict=True):
            if kernel < rate or (kernel - rate) % 2:
                raise ValueError(f"a kernel must be an even number of samples longer than its stride, got {kernel} and "
                                 f"{rate}")
        stages = {"rates": rates, "kernels": kernels, "block_kernels": block_kernels,
                  "block_dilations": block_dilations}
        self.encoder = SimEncoder(encoder_filters, dim, **stages)
        self.bottleneck = GroupedResidualVQ(dim, num_codes, num_layers, num_groups, beta=commitment,
                                            codebook_weight=codebook_weight)
        self.decoder = SimDecoder(decoder_filters, dim, **stages)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours, of SimCodec alone or within the checkpoint of GenSE."""
        state = rename_keys(fold_weight_norm(state), [(rf"^{PREFIX}", "")])
        return rename_keys(state, [
            (r"^encoder\.ups\.", "encoder.downs."), (r"^encoder\.normalize\.", "encoder.norms."),
            (r"^generator\.", "decoder."), (r"\.resblocks\.", ".blocks."),
            (r"^quantizer\.quantizer_modules\.(\d+)\.(\d+)\.embedding\.weight$",
             r"bottleneck.layers.\1.codebooks.\2.codebook")])

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.rates)

    def latents(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is quantized, (B, N, dim), of audio (B, 1, T), filled up to whole hops."""
        lengths = None if lengths is None else self.token_lengths(lengths) * self.hop_length
        return map_equal_lengths(self.encoder, audio.to(self.dtype), lengths).transpose(1, 2)

    def forward(self, audio: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of audio (B, 1, T) of whole hops."""
        output = self.bottleneck(self.latents(audio), noise=noise)
        audio = self.decoder(output.values.transpose(1, 2)).float()
        return Reconstruction(audio, output.loss, output.metrics, output.values)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        """An unfinished last hop is filled up with silence."""
        return Tokens(self.bottleneck.encode(self.latents(self.whole_hops(audio, lengths), lengths)))

    def _decode(self, tokens: Tokens) -> Tensor:
        """Rows of different length run apart."""
        values = self.bottleneck.decode(tokens.values).to(self.dtype).transpose(1, 2)
        return map_equal_lengths(self.decoder, values, tokens.lengths).float()
