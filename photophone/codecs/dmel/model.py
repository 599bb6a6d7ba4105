"""dMel: each log-mel channel of each frame is rounded to one of a few levels. Nothing is trained.

Paper: dMel (arXiv 2407.15835, Apple). Official code: apple/dmel, Apple's sample-code licence; this is written from its
formulas. There are no weights: decoding finds the phases by Griffin-Lim, and :meth:`DMel.log_mels` gives the mels to a
trained vocoder of the same settings. Each clip of a batch is mirrored at its own end; official batches are mirrored at
the end of the longest clip, behind zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.codecs.dmel.griffin_lim import griffin_lim
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.constants import ConstantsModule
from photophone.layers.istft import ISTFT
from photophone.layers.lengths import length_mask
from photophone.layers.mel import MelSpectrogram
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

LOWEST_MEL = 1e-10
LOWEST_MAGNITUDE = 1e-5
STEP_DECIMALS = 4
"""The official step between levels is rounded to so many decimals."""


def special_frames(values: Tensor, lengths: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Frames of ids (B, T, C) as the official language model reads them: a frame BOS in front, EOS behind each row's
    end, and PAD as the very last frame. Ids between a row's EOS and the last frame stay what they were.

    Args:
        values: Long (B, T, C).
        lengths: Long (B,), frames of each row.
        bits: PAD is ``2 ** bits``, BOS and EOS the next two.

    Returns:
        Long (B, T + 2, C), and lengths + 2.
    """
    pad, bos, eos = 2**bits, 2**bits + 1, 2**bits + 2
    edge = values.new_zeros(len(values), 1, values.shape[2])
    framed = torch.cat([edge + bos, values, edge + pad], dim=1)
    framed[torch.arange(len(values), device=values.device), lengths + 1] = eos
    return framed, lengths + 2


class Levels(ConstantsModule):
    """The table of levels, the same in all channels."""

    def __init__(self, bits: int, lowest: float, highest: float) -> None:
        super().__init__()
        step = round((highest - lowest) / (2**bits - 1), STEP_DECIMALS)
        self.lowest, self.highest = lowest, highest
        self.add_constant("table", lowest + step * torch.arange(2**bits, dtype=torch.float32))

    def nearest(self, x: Tensor) -> Tensor:
        """Index of the nearest level, the lower one of two equally near."""
        x = x.clamp(self.lowest, self.highest)
        best, index = (x - self.table[0]).abs(), torch.zeros_like(x, dtype=torch.long)
        for level in range(1, len(self.table)):
            distance = (x - self.table[level]).abs()
            nearer = distance < best
            best, index = torch.where(nearer, distance, best), index.masked_fill(nearer, level)
        return index


class DMel(OriginalCheckpoint, AudioCodec):
    """See the module. Tokens are Long (B, num_mels, N): N is ``T // hop + 1``, and decodes to ``N - 1`` hops.

    Args:
        sample_rate: in Hz.
        n_fft: points of the transform.
        window_ms, hop_ms: milliseconds of the Hann window and between frames; the paper has 25, its example 12.5.
        num_mels, f_min, f_max: the mel bank (Slaney's scale and norm).
        bits: of a channel.
        lowest, highest: range of log10 mels that the levels span.
        iterations: of Griffin-Lim.

    Raises:
        ValueError: for bits outside 1..16 or an empty range.
    """

    needs_weights = False
    _keep_in_fp32_modules = ["mel", "levels"]

    def __init__(self, sample_rate: int = 16000, n_fft: int = 1024, window_ms: float = 50, hop_ms: float = 25,
                 num_mels: int = 80, f_min: float = 80, f_max: float = 7600, bits: int = 4, lowest: float = -7,
                 highest: float = 2, iterations: int = 32) -> None:
        super().__init__()
        if not 1 <= bits <= 16 or lowest >= highest:
            raise ValueError(f"bits must lie in 1..16 and lowest below highest, got {bits}, {lowest} and {highest}")
        window, hop = round(sample_rate * window_ms / 1000), round(sample_rate * hop_ms / 1000)
        self.mel = MelSpectrogram(sample_rate, n_fft, hop, num_mels, window_length=window, f_min=f_min, f_max=f_max,
                                  mel_scale="slaney", norm="slaney", log="10", clip=LOWEST_MEL,
                                  magnitude_floor=LOWEST_MAGNITUDE)
        self.mel.register_buffer("filters", self.mel.filters)  # the one tensor of the official state
        self.levels = Levels(bits, lowest, highest)
        self.istft = ISTFT(n_fft, hop, window_length=window)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """The mel bank is all there is; nothing is learned."""
        return rename_keys(state, [(r"^logmelfbank\.mel_func\.H$", "mel.filters")])

    @property
    def hop_length(self) -> int:
        return self.mel.hop_length

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(codebook_size=2**self.config.bits, num_codebooks=self.config.num_mels)

    def token_lengths(self, lengths: Tensor) -> Tensor:
        return self.mel.frames(lengths)

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        return (tokens.mask.sum(1) - 1).clamp(min=0) * self.hop_length

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        values = self.levels.nearest(self.mel(audio[:, 0], lengths))  # (B, num_mels, N)
        if lengths is not None:
            values = values.masked_fill(~length_mask(self.token_lengths(lengths), values.shape[-1])[:, None], 0)
        return Tokens(values)

    def log_mels(self, tokens: Tokens) -> Tensor:
        """The log10 mels (B, num_mels, N) that tokens stand for."""
        self.check_tokens(tokens)
        return self.levels.table[tokens.values.to(self.device)]

    def _decode(self, tokens: Tokens) -> Tensor:
        # in float64: Griffin-Lim makes the rounding of float32 audible, which differs with rows and threads
        mels = 10 ** self.log_mels(tokens).double().transpose(1, 2)  # (B, N, num_mels)
        magnitude = (mels @ torch.linalg.pinv(self.mel.filters.double())).clamp(min=0)  # (B, N, bins)
        audio = griffin_lim(magnitude, self.mel, self.istft, self.config.iterations,
                            mask=None if tokens.lengths is None else tokens.mask)
        return audio[:, None].float()
