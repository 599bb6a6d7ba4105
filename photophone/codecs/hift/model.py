"""HiFT: the vocoder of CosyVoice 1, 2 and 3, mel frames to speech.

Papers: HiFTNet (arXiv 2309.09493) in CosyVoice (2407.05407), CosyVoice 2 (2412.10117) and CosyVoice 3 (2505.17589).
Origin: github.com/FunAudioLLM/CosyVoice; code Apache-2.0, weights Apache-2.0 as their hub pages state.

A network reads the pitch from the mel frames, sines at the pitch excite a trunk that filters them, and an inverse STFT
makes the samples. As a codec its tokens are the mel frames. Samples depend on a bounded number of frames around them
(and on the phase, which is carried along), so :meth:`HiFT.stream` gives exactly what the whole gives, at a cost that
does not grow, but some frames late; the random parts are drawn frame by frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from photophone.codecs.base import MelVocoder
from photophone.codecs.hift.harmonic_source import HarmonicSource, SourceState
from photophone.codecs.hift.network import HiFTTrunk, PitchPredictor, trunk_reach
from photophone.core.noise import Noise, SeededNoise
from photophone.core.threads import fitting_threads
from photophone.core.tokens import Tokens
from photophone.layers.mel import MelSpectrogram
from photophone.layers.rows import equal_rows
from photophone.loading.checkpoints import WEIGHT_NORM, OriginalCheckpoint, State, rename_keys

THREE = ((1, 3, 5), (1, 3, 5), (1, 3, 5))


class HiFT(OriginalCheckpoint, MelVocoder):
    """Log-mel frames (B, F, num_mels) to speech (B, 1, F * hop).

    Args:
        sample_rate: in Hz.
        num_mels: mel bands.
        channels, rates, kernels: of the trunk, see :class:`photophone.codecs.hift.network.HiFTTrunk`.
        n_fft, spectrum_hop: of the trunk's spectra; a frame has ``prod(rates) * spectrum_hop`` samples.
        block_kernels, block_dilations, source_kernels, source_dilations, slope, limit: of the trunk.
        causal: version 3: the trunk sees ``look_ahead`` frames ahead, the pitch 3.
        pitch_channels: of the pitch predictor.
        harmonics, amplitude, noise_std, voiced_threshold, phase, uniform_noise: of
            :class:`photophone.codecs.hift.harmonic_source.HarmonicSource`.
        mel_n_fft: points of the mel transform of :meth:`encode`.
        mel_f_max: upper end of the mel bands in Hz; None: half the sample rate.
    """

    streams = True
    decode_options = ("noise",)
    CONTAINERS = ("state_dict",)
    original_file = "hift.pt"

    def __init__(self, sample_rate: int = 24000, num_mels: int = 80, channels: int = 512,
                 rates: tuple[int, ...] = (8, 5, 3), kernels: tuple[int, ...] = (16, 11, 7), n_fft: int = 16,
                 spectrum_hop: int = 4, block_kernels: tuple[int, ...] = (3, 7, 11),
                 block_dilations: tuple[tuple[int, ...], ...] = THREE, source_kernels: tuple[int, ...] = (7, 7, 11),
                 source_dilations: tuple[tuple[int, ...], ...] = THREE, slope: float = 0.1, limit: float = 0.99,
                 causal: bool = False, look_ahead: int = 4, pitch_channels: int = 512, harmonics: int = 8,
                 amplitude: float = 0.1, noise_std: float = 0.003, voiced_threshold: float = 10.0,
                 phase: str = "linear", uniform_noise: bool = False, mel_n_fft: int = 1920,
                 mel_f_max: float | None = 8000.0) -> None:
        super().__init__()
        shape = (rates, kernels, n_fft, spectrum_hop, block_kernels, block_dilations, source_kernels, source_dilations)
        self.mel = MelSpectrogram(sample_rate, mel_n_fft, self.hop_length, num_mels, f_max=mel_f_max,
                                  mel_scale="slaney", norm="slaney", padding="same", magnitude_eps=1e-9, clip=1e-5)
        self.pitch = PitchPredictor(num_mels, pitch_channels, causal)
        self.source = HarmonicSource(sample_rate, self.hop_length, harmonics, amplitude=amplitude,
                                     noise_std=noise_std, voiced_threshold=voiced_threshold, phase=phase,
                                     uniform_noise=uniform_noise)
        self.trunk = HiFTTrunk(num_mels, channels, *shape, slope=slope, limit=limit, causal=causal,
                               look_ahead=look_ahead)
        self.reach = trunk_reach(*shape, causal=causal, look_ahead=look_ahead)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        shaped = {key: value.reshape(1, -1, 1) if key.endswith(".alpha") else value for key, value in state.items()}
        return rename_keys(shaped, [
            (r"^generator\.", ""),
            (r"^f0_predictor\.", "pitch."),
            (r"^m_source\.l_linear\.", "source.linear."),
            (r"^(conv_|ups\.|source_downs\.|source_resblocks\.|resblocks\.)", r"trunk.\1"),
            *WEIGHT_NORM,
        ])

    def original_state_dict(self) -> State:
        flat = {key: value.flatten() if key.endswith(".alpha") else value for key, value in self.state_dict().items()}
        return rename_keys(flat, [(r"^pitch\.", "f0_predictor."), (r"^source\.linear\.", "m_source.l_linear."),
                                  (r"^trunk\.", "")])

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.rates) * self.config.spectrum_hop

    @property
    def delay(self) -> int:
        """Frames that have come before :meth:`stream` makes the samples of the first."""
        return self.reach[1] + self.pitch.reach[1] + self.source.ahead

    def check_audio(self, audio: Tensor, lengths: Tensor | None = None) -> None:
        """As in the base, and clips of less than a frame."""
        super().check_audio(audio, lengths)
        if (audio.shape[-1] if lengths is None else int(lengths.min())) < self.hop_length:
            raise ValueError(f"audio needs at least one frame of {self.hop_length} samples")

    def _decode(self, tokens: Tokens, noise: Noise | None = None) -> Tensor:
        """Waveforms (B, 1, T). Rows of different length run one after the other, as alone.

        Args:
            tokens: log-mel frames.
            noise: of the source; None: seed 0 for each row.
        """
        rows, counts = len(tokens), tokens.mask.sum(1)
        noise = noise or SeededNoise.from_seeds([0] * rows)
        state, grain = self.source.begin(noise, rows), self.source.draw(noise, rows, int(counts.max()))
        audio = torch.zeros(rows, 1, tokens.num_tokens * self.hop_length, device=self.device)
        for count, group in equal_rows(counts.cpu()):  # state and grain lie where the noise was drawn
            mel = tokens.values[group, :count].transpose(1, 2)
            begin = SourceState(state.turns[group], state.begin[group])
            source, _ = self.source(self.pitch(mel), grain[group, :count * self.hop_length], begin)
            audio[group, :, :count * self.hop_length] = self.trunk(mel, source)
        return audio

    @torch.no_grad()
    def stream(self, pieces: Iterable[Tokens], noise: Noise | None = None) -> Iterator[Tensor]:
        """As in the base. Samples come :attr:`delay` frames late; the last waveform brings what was still missing."""
        vocoder: HiFTStream | None = None
        for piece in pieces:
            self.check_tokens(piece)
            vocoder = vocoder or HiFTStream(self, noise or SeededNoise.from_seeds([0] * len(piece)), len(piece))
            with fitting_threads(self, len(piece) * piece.num_tokens):
                audio = vocoder.push(piece.values)
            if audio.shape[-1]:
                yield audio
        if vocoder is not None:
            with fitting_threads(self, vocoder.rows * sum(self.reach)):
                audio = vocoder.push(None)
            yield audio


class HiFTStream:
    """One signal through a :class:`HiFT`, piece by piece: frames and source as far back as later samples need them.

    Args:
        model: the vocoder.
        noise: of the source, a row for each row of the pieces.
        rows: B.
    """

    def __init__(self, model: HiFT, noise: Noise, rows: int) -> None:
        self.model, self.noise, self.rows = model, noise, rows
        self.state = model.source.begin(noise, rows)
        self.mel: Tensor = torch.zeros(rows, model.config.num_mels, 0, device=model.device)
        self.pitch: Tensor = torch.zeros(rows, 0, device=model.device)  # of frames without a source
        self.source: Tensor = torch.zeros(rows, 1, 0, device=model.device)
        self.first = 0  # frame at which mel and source begin
        self.pitched = self.sourced = self.done = 0  # frames that have a pitch, a source, samples

    @torch.no_grad()
    def push(self, piece: Tensor | None) -> Tensor:
        """Samples (B, 1, k) that became certain with frames (B, n, num_mels); None ends the signal.

        Raises:
            ValueError: frames of another shape.
        """
        last = piece is None
        if piece is not None:
            if piece.dim() != 3 or len(piece) != self.rows or piece.shape[2] != self.mel.shape[1]:
                raise ValueError(f"expected frames ({self.rows}, n, {self.mel.shape[1]}), got {tuple(piece.shape)}")
            self.mel = torch.cat([self.mel, piece.transpose(1, 2).to(self.mel)], dim=2)
        total = self.first + self.mel.shape[2]
        self._find_pitch(total, last)
        self._excite(last)
        ready = total if last else max(self.done, self.sourced - self.model.reach[1])
        audio = self._filter(ready)
        keep = max(min(self.done - self.model.reach[0], self.pitched - self.model.pitch.reach[0]), self.first)
        self.mel = self.mel[:, :, keep - self.first:]
        self.source = self.source[:, :, (keep - self.first) * self.model.hop_length:]
        self.first = keep
        return audio

    def _find_pitch(self, total: int, last: bool) -> None:
        before, after = self.model.pitch.reach
        ready = total if last else max(self.pitched, total - after)
        if ready > self.pitched:
            start = max(self.pitched - before, self.first)
            pitch = self.model.pitch(self.mel[:, :, start - self.first:])
            self.pitch = torch.cat([self.pitch, pitch[:, self.pitched - start:ready - start]], dim=1)
            self.pitched = ready

    def _excite(self, last: bool) -> None:
        ahead = 0 if last else self.model.source.ahead
        count = self.pitch.shape[1] - ahead
        if count > 0:
            following = self.pitch[:, count:] if ahead else None
            grain = self.model.source.draw(self.noise, self.rows, count)
            source, self.state = self.model.source(self.pitch[:, :count], grain, self.state, following)
            self.source = torch.cat([self.source, source.to(self.source)], dim=2)
            self.pitch, self.sourced = self.pitch[:, count:], self.sourced + count

    def _filter(self, ready: int) -> Tensor:
        if ready <= self.done:
            return self.source[:, :, :0]
        hop, start = self.model.hop_length, max(self.done - self.model.reach[0], self.first)
        skipped = start - self.first
        samples = self.model.trunk(self.mel[:, :, skipped:self.sourced - self.first], self.source[:, :, skipped * hop:])
        audio = samples[:, :, (self.done - start) * hop:(ready - start) * hop]
        self.done = ready
        return audio
