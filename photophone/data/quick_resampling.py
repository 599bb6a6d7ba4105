"""Changes of rate for signals that must not wait: a short filter, and no blocks.

:class:`photophone.data.resampling.ResamplingStream` waits for 8 ms of what follows, at 44.1 kHz for up to 10 ms more.
Here it is 2 ms at 16 kHz and above, for which the uppermost fifth of the band is weakened.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photophone.data.audio_checks import check_rate
from photophone.data.resampling import STOP_DB, exact_ratio, windowed_sinc

REACH = 32
"""Samples of the lower rate on each side that a sample of the result depends on."""
PASS_SHARE = 1 - (STOP_DB - 8) / (2.285 * math.pi * 2 * REACH)
"""Of the lower Nyquist frequency, from which on the level falls: Kaiser's rule."""


class QuickResampler:
    """Changes the rate of signals (rows, n) that come in chunks of any size. The results do not depend on the chunks,
    but for rounding; beyond its ends a signal is silent.

    Args:
        source_rate, target_rate: in Hz.
        rows: signals.

    Raises:
        ValueError: a rate outside the limits.
    """

    def __init__(self, source_rate: int, target_rate: int, rows: int = 1) -> None:
        check_rate(source_rate)
        check_rate(target_rate)
        # the way back is the exact inverse, also where odd rates are rounded
        lower, higher = sorted((source_rate, target_rate))
        self.source, self.target = sorted(exact_ratio(higher, lower), reverse=source_rate > target_rate)
        self.same = source_rate == target_rate
        self.half = math.ceil(REACH * self.source / min(self.source, self.target))
        self.rate = source_rate
        self.held = torch.zeros(rows, self.half - 1)  # from sample ``first`` of the source on
        self.first = 1 - self.half
        self.taken = self.given = 0
        place = torch.arange(2 * self.half, dtype=torch.float64) - self.half + 1
        shift = torch.arange(self.target, dtype=torch.float64)[:, None] * self.source / self.target % 1
        scale = min(self.source, self.target) / self.source
        self.taps = (windowed_sinc((place - shift) * scale, REACH, PASS_SHARE) * scale).float()  # (target, 2 half)

    @property
    def delay_seconds(self) -> float:
        """How long the samples that a result depends on come after it, at most."""
        return 0.0 if self.same else self.half / self.rate

    def push(self, audio: Tensor) -> Tensor:
        """The next samples float32 (rows, n) to those of the result that are ready, (rows, m)."""
        self.taken += audio.shape[1]
        if self.same:
            return audio
        self.held = torch.cat([self.held, audio], dim=1)
        ready = self.taken - self.half  # places before it see all that they depend on
        return self._until(max(self.given, -(-ready * self.target // self.source)) if ready > 0 else self.given)

    def finish(self) -> Tensor:
        """The rest of the result, (rows, m), where nothing more comes."""
        if self.same:
            return self.held[:, :0]
        self.held = torch.cat([self.held, torch.zeros(len(self.held), self.half + 1)], dim=1)
        return self._until(-(-self.taken * self.target // self.source))

    def _until(self, end: int) -> Tensor:
        """The samples of the result before ``end``."""
        numbers = torch.arange(self.given, end)
        begins = numbers * self.source // self.target - self.half + 1  # in the source, of what each depends on
        windows = self.held[:, (begins - self.first)[:, None] + torch.arange(2 * self.half)]  # (rows, m, 2 half)
        made = (windows * self.taps[numbers % self.target]).sum(dim=-1)
        self.given = end
        keep = max(0, end * self.source // self.target - self.half + 1 - self.first)
        self.held, self.first = self.held[:, keep:], self.first + keep
        return made
