"""The source of a neural source-filter vocoder: sines at a pitch and its harmonics, and noise where there is no voice.

Papers: NSF (arXiv 1904.12088), HiFTNet (2309.09493). The phase is summed up in float64 and rounded to float32 where the
official code, which on a CPU does the same, has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise

PHASES = ("sample", "linear", "frame")


@dataclass(frozen=True)
class SourceState:
    """Where a signal stands: summed phase float64 (B, H) at the end of the last frame, in turns or turns over the
    samples of a frame, the angle (B, H) that each sine began at, and how many frames were made."""

    turns: Tensor
    begin: Tensor
    frames: int = 0


class HarmonicSource(nn.Module):
    """Pitch in Hz (B, F), a value a frame, to a source signal (B, 1, F * hop).

    Args:
        sample_rate: in Hz.
        hop: samples of a frame.
        harmonics: sines above the pitch itself.
        amplitude: of the sines; noise without voice has a third of it.
        noise_std: of the noise with voice.
        voiced_threshold: pitch in Hz above which there is voice.
        phase: "sample": it grows from sample to sample, and each harmonic begins anywhere (CosyVoice 1); "linear": it
            is summed up a frame and runs on a line between the middles of frames (2); "frame": as before, but it
            stands still within a frame, so the sine is a staircase (3).
        uniform_noise: the noise is in [0, 1), not normal, as CosyVoice 3 draws it.

    Raises:
        ValueError: an unknown phase.
    """

    def __init__(self, sample_rate: int, hop: int, harmonics: int = 8, *, amplitude: float = 0.1,
                 noise_std: float = 0.003, voiced_threshold: float = 10.0, phase: str = "sample",
                 uniform_noise: bool = False) -> None:
        super().__init__()
        if phase not in PHASES:
            raise ValueError(f"phase must be one of {', '.join(PHASES)}, got {phase!r}")
        self.sample_rate, self.hop, self.count = sample_rate, hop, harmonics + 1
        self.amplitude, self.noise_std, self.voiced_threshold = amplitude, noise_std, voiced_threshold
        self.phase, self.uniform_noise = phase, uniform_noise
        self.linear = nn.Linear(self.count, 1)

    def begin(self, noise: Noise, rows: int) -> SourceState:
        """The state before the first frame."""
        begin = torch.zeros(rows, self.count)
        if self.phase == "sample":  # elsewhere the random beginning falls between the samples that are read
            begin = noise.uniform(rows, self.count, 1)[..., 0] * (2 * math.pi) - math.pi
            begin[:, 0] = 0
        return SourceState(torch.zeros_like(begin, dtype=torch.float64), begin)

    def draw(self, noise: Noise, rows: int, frames: int) -> Tensor:
        """Noise of ``frames`` frames, (B, frames * hop, H); drawn a frame at a time, so pieces join."""
        if self.phase == "sample":
            parts = [noise.normal(rows, self.count, self.hop).transpose(1, 2) for _ in range(frames)]
        else:
            function = noise.uniform if self.uniform_noise else noise.normal
            parts = [function(rows, self.hop, self.count) for _ in range(frames)]
        return torch.cat(parts, dim=1)

    @property
    def ahead(self) -> int:
        """Frames of pitch ahead that a frame needs."""
        return int(self.phase == "linear")

    def forward(self, pitch: Tensor, grain: Tensor, state: SourceState,
                following: Tensor | None = None) -> tuple[Tensor, SourceState]:
        """Source (B, 1, F * hop) and the state after it.

        Args:
            grain: of :meth:`draw`.
            following: pitch (B, 1) of the frame behind, or None at the end.
        """
        angles, last = self._angles(pitch.float(), state, following)
        sines = self.amplitude * torch.sin(angles + state.begin.to(angles.device)[:, None])  # (B, T, H)
        voiced = (pitch > self.voiced_threshold).float().repeat_interleave(self.hop, dim=1)[..., None]
        level = voiced * self.noise_std + (1 - voiced) * self.amplitude / 3
        waves = sines * voiced + level * grain.to(sines)
        source = torch.tanh(self.linear(waves.to(self.linear.weight.dtype)))
        return source.transpose(1, 2), SourceState(last, state.begin, state.frames + pitch.shape[1])

    def _angles(self, pitch: Tensor, state: SourceState, following: Tensor | None) -> tuple[Tensor, Tensor]:
        """Angles float32 (B, F * hop, H) of each sine, and the summed phase at the end of the last frame."""
        pitch = pitch if following is None else torch.cat([pitch, following], dim=1)
        count = pitch.shape[1] - (following is not None)
        step = pitch[..., None] * torch.arange(1, self.count + 1, device=pitch.device) / self.sample_rate
        before = state.turns.to(step.device)[:, None]
        if self.phase == "sample":
            ends = before + (step.double() * self.hop).cumsum(dim=1)
            within = torch.arange(1, self.hop + 1, device=pitch.device, dtype=torch.float64) - self.hop
            turns = ends[:, :, None] + step.double()[:, :, None] * within[:, None]  # (B, F, hop, H)
            return 2 * math.pi * (turns.float() % 1).flatten(1, 2), ends[:, -1]
        sums = before + (step % 1).double().cumsum(dim=1)
        last = sums[:, count - 1]
        if self.phase == "frame":
            return self._angle(sums[:, :count]).repeat_interleave(self.hop, dim=1), last
        middle, behind = self._angle(sums[:, :count, None]), self._angle(sums[:, count:, None])
        left = torch.cat([self._angle(before[:, None]) if state.frames else middle[:, :1], middle[:, :-1]], dim=1)
        right = torch.cat([middle[:, 1:], middle[:, -1:] if following is None else behind], dim=1)
        place = self._places(state.frames, count).to(pitch.device)[..., None]
        share = torch.where(place < 0, place + 1, place)
        from_, to = torch.where(place < 0, left, middle), torch.where(place < 0, middle, right)
        angles = ((1 - share).double() * from_.double() + (share * to).double()).float()  # (B, F, hop, H)
        return angles.flatten(1, 2), last

    def _places(self, first: int, count: int) -> Tensor:
        """Where samples lie from the middles of their frames, in frames (F, hop), with the rounding of float32 that
        interpolation of the whole signal has: over many turns a frame it is seen in the angles."""
        samples = torch.arange(first * self.hop, (first + count) * self.hop, dtype=torch.float64)
        rate = torch.tensor(1 / self.hop, dtype=torch.float32).double()
        places = ((samples + 0.5) * rate - 0.5).clamp(min=0).float().view(count, self.hop)
        return places - torch.arange(first, first + count, dtype=torch.float32)[:, None]

    def _angle(self, sums: Tensor) -> Tensor:
        return sums.float() * (2 * math.pi) * self.hop
