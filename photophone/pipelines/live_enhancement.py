"""Speech that is made clean while it comes in: any rate, one or two channels, chunks of any size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from photophone.data.audio_checks import check_samples
from photophone.data.quick_resampling import QuickResampler
from photophone.generators.enhancement import Enhancer

UPPER_HZ = 4000.0
"""The weakening of what lies above the model's band is that of its part from here on."""


class LiveSpeech:
    """A recording that is still going on.

    All that comes out, put together, does not depend on the chunks, but for rounding, and is as long as what came in.
    A chunk costs as much at the end of a day as at its beginning.

    Args:
        enhancer: one that streams.
        sample_rate: of the recording in Hz.
        channels: 1 or 2.
        mix: share of the clean speech in the output, 0 to 1; the rest is the recording itself.
    """

    def __init__(self, enhancer: Enhancer, sample_rate: int, channels: int, mix: float) -> None:
        own = enhancer.sample_rate
        self.enhancer, self.rates, self.mix = enhancer, (sample_rate, own), mix
        self.stream = enhancer.stream(channels)
        self.down = QuickResampler(sample_rate, own, channels)
        self.up = QuickResampler(own, sample_rate, channels)
        self.upper = UpperBand(channels, self.rates, self.stream.hop) if sample_rate > own else None
        self.noisy = torch.zeros(channels, 0)  # what came in and has not gone out yet
        self.narrow = torch.zeros(channels, 0)  # the same at the model's rate
        self.largest = torch.ones(channels, 1)  # of the samples so far, and at least full scale

    @property
    def delay_seconds(self) -> float:
        """How far the output lies behind the input, at most."""
        return self.stream.model.delay / self.rates[1] + self.down.delay_seconds + self.up.delay_seconds

    @torch.no_grad()
    def push(self, chunk: np.ndarray) -> np.ndarray:
        """The next samples float32 (C, n), n from 0 on, to those that are ready, float32 (C, m).

        Raises:
            ValueError: another number of channels, NaN, infinity, or samples that are no sound.
        """
        if chunk.ndim != 2 or len(chunk) != len(self.noisy):
            raise ValueError(f"a chunk must have shape ({len(self.noisy)}, n), got {chunk.shape}")
        check_samples(chunk, "a chunk")
        audio = torch.from_numpy(np.ascontiguousarray(chunk, np.float32))
        self.noisy = torch.cat([self.noisy, audio], dim=1)
        narrow = self.down.push(audio)
        return self._goes_out(narrow, self.stream.push(narrow))

    @torch.no_grad()
    def finish(self) -> np.ndarray:
        """The rest, float32 (C, m), where nothing more comes."""
        narrow = self.down.finish()
        made = torch.cat([self.stream.push(narrow), self.stream.finish()], dim=1)
        return self._goes_out(narrow, made, last=True)

    def _goes_out(self, narrow: Tensor, made: Tensor, last: bool = False) -> np.ndarray:
        """Enhanced speech at the model's rate, and what went into the model, to the output."""
        self.narrow = torch.cat([self.narrow, narrow], dim=1)
        heard, self.narrow = self.narrow[:, :made.shape[1]], self.narrow[:, made.shape[1]:]
        wide = advance(self.up, made, last)
        count = self.noisy.shape[1] if last else wide.shape[1]
        noisy, self.noisy = self.noisy[:, :count], self.noisy[:, count:]
        wide = wide[:, :count]
        if self.upper is not None:
            wide = wide + self.upper.weakened(noisy, heard, made, last)
        limits = torch.cat([self.largest, noisy.abs()], dim=1).cummax(dim=1).values
        self.largest = limits[:, -1:]
        mixed = self.mix * wide + (1 - self.mix) * noisy
        return mixed.clamp(-limits[:, 1:], limits[:, 1:]).numpy()


class UpperBand:
    """What lies above the model's band, weakened as the uppermost part of the band is, hop by hop.

    Args:
        channels: 1 or 2.
        rates: of the recording and of the model in Hz; the first is higher.
        hop: samples at the model's rate, after which the weakening is measured anew.
    """

    def __init__(self, channels: int, rates: tuple[int, int], hop: int) -> None:
        self.hop, (_, self.own) = hop, rates
        self.up = QuickResampler(rates[1], rates[0], channels)
        self.window = torch.hann_window(hop)
        self.pending = torch.zeros(2, channels, 0)  # heard and made, less than a hop
        self.energies: Tensor | None = None
        self.gain = torch.ones(channels, 1)
        self.curve = torch.zeros(channels, 0)  # gains of samples at the model's rate from ``first`` on
        self.first = self.given = 0

    def weakened(self, noisy: Tensor, heard: Tensor, made: Tensor, last: bool) -> Tensor:
        """The upper band of the samples (C, n) that go out now; ``heard`` and ``made`` (C, m) are what went into the
        model since the last call, and what it made of that."""
        below = advance(self.up, heard, last)[:, :noisy.shape[1]]
        self.pending = torch.cat([self.pending, torch.stack([heard, made])], dim=2)
        while self.pending.shape[2] >= self.hop or (last and self.pending.shape[2]):
            self._follow(self.pending[..., :self.hop])
            self.pending = self.pending[..., self.hop:]
        numbers = torch.arange(self.given, self.given + noisy.shape[1])
        places = numbers * self.up.source // self.up.target - self.first
        self.given += noisy.shape[1]
        result = (noisy - below) * self.curve[:, places.clamp(max=max(0, self.curve.shape[1] - 1))]
        done = max(0, self.given * self.up.source // self.up.target - self.first)
        self.curve, self.first = self.curve[:, done:], self.first + done
        return result

    def _follow(self, parts: Tensor) -> None:
        """Append the gains of a hop (2, C, n), from that of the one before it to its own."""
        padded = torch.nn.functional.pad(parts, (0, self.hop - parts.shape[2]))
        bins = torch.fft.rfft(padded * self.window).abs().square()
        now = bins[..., round(UPPER_HZ * self.hop / self.own):].sum(dim=-1)  # (2, C)
        begins = self.energies is None
        self.energies = now if begins else (self.energies + now) / 2
        gain = (self.energies[1] / self.energies[0].clamp(min=1e-12)).sqrt().clamp(max=1)[:, None]
        before = gain if begins else self.gain
        share = torch.arange(1, self.hop + 1) / self.hop
        self.curve = torch.cat([self.curve, before + (gain - before) * share], dim=1)
        self.gain = gain


def advance(resampler: QuickResampler, audio: Tensor, last: bool) -> Tensor:
    """The next samples through a resampler, and its rest where they are the last."""
    made = resampler.push(audio)
    return torch.cat([made, resampler.finish()], dim=1) if last else made
