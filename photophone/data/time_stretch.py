"""Speech that is faster or slower at the same pitch: waveform similarity overlap-add (Verhelst and Roelands, 1993).

Frames of 40 ms are laid out anew, each taken from the place within 10 ms of its own that goes on best from the one
before.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

HALF_SECONDS, SEARCH_SECONDS = 0.02, 0.01


class TimeStretch:
    """Changes the pace of a signal that comes in chunks of any size; together the results are those of the whole.

    Args:
        sample_rate: in Hz.
        speed: 2 is twice as fast.
    """

    def __init__(self, sample_rate: int, speed: float) -> None:
        self.speed = speed
        self.half, self.search = round(HALF_SECONDS * sample_rate), round(SEARCH_SECONDS * sample_rate)
        self.rise = torch.hann_window(2 * self.half)[:self.half]  # with its mirror image it is 1
        self.held = torch.zeros(0)
        self.begin = 0  # the sample that what is held begins with
        self.came, self.gone = 0, 0
        self.frames, self.last = 0, 0
        self.tail = torch.zeros(0)

    def __call__(self, audio: Tensor) -> Tensor:
        """Float (T,), the next samples, to those of the result that are certain, float (T',)."""
        self.held = torch.cat([self.held, audio.float().cpu()])
        self.came += len(audio)
        return self._made(self.begin + len(self.held))

    def finish(self) -> Tensor:
        """The rest of the result, where nothing more comes."""
        left = round(self.came / self.speed) - self.gone
        needed = self._place(self.frames + -(-left // self.half)) + self.search + 3 * self.half
        self.held = functional.pad(self.held, (0, max(0, needed - self.begin - len(self.held))))
        return self._made(needed)[:left] if left > 0 else torch.zeros(0)

    def _place(self, frame: int) -> int:
        return round(frame * self.half * self.speed)

    def _made(self, end: int) -> Tensor:
        parts = []
        while max(self._place(self.frames) + self.search, self.last + self.half) + 2 * self.half <= end:
            parts.append(self._frame())
        keep = max(0, min(self.last + self.half, self._place(self.frames) - self.search))
        self.held, self.begin = self.held[keep - self.begin:], keep
        made = torch.cat(parts) if parts else torch.zeros(0)
        self.gone += len(made)
        return made

    def _frame(self) -> Tensor:
        start = self._best() if self.frames else 0
        frame = self.held[start - self.begin:][:2 * self.half]
        first = frame[:self.half] * self.rise + self.tail if self.frames else frame[:self.half]
        self.tail = frame[self.half:] * self.rise.flip(0)
        self.frames, self.last = self.frames + 1, start
        return first

    def _best(self) -> int:
        """Where the next frame begins: its first half is most alike what follows the first half of the last one."""
        low = max(0, self._place(self.frames) - self.search)
        wanted = self.held[self.last + self.half - self.begin:][:self.half]
        there = self.held[low - self.begin:self._place(self.frames) + self.search + self.half - self.begin]
        alike = functional.conv1d(there[None, None], wanted[None, None])[0, 0]
        energy = functional.avg_pool1d(there.square()[None, None], self.half, 1)[0, 0]
        if not alike.any():
            return self._place(self.frames)
        return low + int((alike / (energy.sqrt() + 1e-6)).argmax())
