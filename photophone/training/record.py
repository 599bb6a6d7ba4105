"""Conditions and paths of a flow or diffusion head, recorded while its generator runs: what few-step heads learn from.

The generator runs as it does for users, so the head is trained on just the conditions that it will see. Nothing else
is needed: neither data nor tokenizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from photophone.core.files import atomic_write
from photophone.core.noise import Noise
from photophone.generators.base import Generator
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler
from photophone.heads.base import Head
from photophone.heads.diffusion import DiffusionHead
from photophone.heads.flow import FlowHead
from photophone.kernels.solver import Guidance, combine_guidance
from photophone.layers.flow import time_grid

NAMES = ("hidden", "guidance", "times", "states")
"""Tensors of a recording: hidden (M, N, C) and states (M, K + 1, N, D) in float16, guidance (M,), times (M, K + 1)."""


LEAST_SIGNAL = 0.02
"""Paths of diffusion heads begin where this much of the signal is left: from less the noise tells nothing of it."""


class Field(ABC):
    """The velocity of a teacher on the path between noise at t = 1 and data at t = 0."""

    @abstractmethod
    def times(self, wanted: Tensor) -> Tensor:
        """Times near the wanted ones (K + 1,), which decrease from 1 to 0, at which the teacher can be asked."""

    @abstractmethod
    def velocity(self, projected: Tensor, x: Tensor, t: Tensor, scales: Tensor) -> Tensor:
        """Guided velocity (B, N, D) of x (B, N, D) at one of the times.

        Args:
            projected: conditional rows, then unconditional ones, as the head's ``project`` gave them.
            scales: guidance (B,).
        """


class FlowField(Field):
    """That of a flow head."""

    def __init__(self, head: FlowHead) -> None:
        self.head = head

    def times(self, wanted: Tensor) -> Tensor:
        return wanted

    def velocity(self, projected: Tensor, x: Tensor, t: Tensor, scales: Tensor) -> Tensor:
        cond, null = self.head.mean_velocity(projected, x.repeat(2, 1, 1), t.reshape(1), t.reshape(1)).chunk(2)
        return combine_guidance(cond, null, scales)


class DiffusionField(Field):
    """That of a diffusion head on the linear path: states divided by the sum of signal and noise.

    Euler steps of it are the steps of DDIM. The times are those of the process, of which the first stands for t = 1.
    """

    def __init__(self, head: DiffusionHead) -> None:
        self.head = head
        kept = head.tables().alphas_cumprod
        signal, noise = kept.sqrt(), (1 - kept).sqrt()
        self.last = int((signal >= LEAST_SIGNAL).sum()) - 1  # the step with the most noise that is used
        self.sums = (signal + noise).float()
        self.grid = (noise / (signal + noise)).float()

    def _step(self, t: Tensor) -> int:
        return int((self.grid[:self.last + 1] - t.cpu()).abs().argmin())

    def times(self, wanted: Tensor) -> Tensor:
        steps = [self.last] + [self._step(t) for t in wanted[1:-1]]
        inner = self.grid[sorted(set(steps), reverse=True)]
        if len(inner) != len(steps):
            raise ValueError(f"{len(steps)} steps are more than a process of {self.head.num_train_steps} steps can "
                             "tell apart")
        return torch.cat([torch.ones(1), inner[1:], torch.zeros(1)]).to(wanted)

    def velocity(self, projected: Tensor, x: Tensor, t: Tensor, scales: Tensor) -> Tensor:
        step = self.last if t == 1 else self._step(t)
        place = self.grid[step].to(x)
        output = self.head.evaluate(self.sums[step].to(x) * x.repeat(2, 1, 1), torch.tensor([step]).to(x.device),
                                    projected)
        cond, null = output[..., :self.head.token_dim].chunk(2)
        noise = combine_guidance(cond, null, scales)
        data = (x - place * noise) / (1 - place)
        if self.head.clip_denoised:
            data = data.clamp(-1, 1)
        return (x - data) / place


def field_of(head: Head) -> Field:
    """The field of a flow head without a flow map, or of a diffusion head.

    Raises:
        ValueError: another head.
    """
    if isinstance(head, FlowHead) and head.guidance_range is None:
        return FlowField(head)
    if isinstance(head, DiffusionHead):
        return DiffusionField(head)
    raise ValueError(f"paths are recorded of diffusion heads and of flow heads without a flow map, not of this "
                     f"{type(head).__name__}")


class RecordingHead(Head):
    """A flow or diffusion head that samples with Euler steps and keeps what it was asked and each state on the way.

    Args:
        head: the teacher.
        num_steps: of its solver. Times between the first and the last are shifted at random by up to 0.4 of a step, so
            that all times are seen.
        guidance_range: guidance is drawn from it, row by row, for half of the rows; the others have the sampler's.
        null_share: of rows, for which the unconditional path without guidance is recorded instead; such a row goes on
            from what was drawn for it, so this is for generators that call their head once.
        temperatures: a quarter of the rows begins at noise of a scale drawn from this range.
        bfloat16: whether the head computes under bfloat16 autocast, which is faster where processors multiply it.
        seed: of all these draws.

    Raises:
        ValueError: see :func:`field_of`.
    """

    def __init__(self, head: FlowHead | DiffusionHead, num_steps: int, guidance_range: tuple[float, float],
                 null_share: float = 0.0, temperatures: tuple[float, float] = (0.0, 1.2), bfloat16: bool = False,
                 seed: int = 0) -> None:
        super().__init__()
        self.field = field_of(head)
        self.head, self.num_steps, self.guidance_range = head, num_steps, guidance_range
        self.null_share, self.temperatures, self.bfloat16 = null_share, temperatures, bfloat16
        self.generator = torch.Generator().manual_seed(seed)
        self.calls: list[dict[str, Tensor]] = []

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)

    def _times(self) -> Tensor:
        times = time_grid(self.num_steps, dtype=torch.float32)
        times[1:-1] += (self._uniform(self.num_steps - 1) - 0.5) * 0.8 / self.num_steps
        return self.field.times(times)

    def reads_null(self, guidance: Guidance, *, scaled_guidance: bool = False) -> bool:
        return True

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *,
             noise: Noise | None = None) -> Tensor:
        return self.head.loss(hidden, target, mask, noise=noise)

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               **options: Any) -> Tensor:
        cond, null = hidden.chunk(2)
        rows, times = len(cond), self._times()
        low, high = self.guidance_range
        scales = torch.where(self._uniform(rows) < 0.5, low + (high - low) * self._uniform(rows), guidance)
        blank = self._uniform(rows) < self.null_share
        scales = torch.where(blank, 1.0, scales)
        cond = torch.where(blank[:, None, None], null, cond)
        least, most = self.temperatures
        heat = torch.where(self._uniform(rows) < 0.25, least + (most - least) * self._uniform(rows), temperature)
        x = heat[:, None, None] * noise.normal(rows, cond.shape[1], self.head.token_dim)
        states = [x]
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bfloat16):
            projected = self.head.project(torch.cat([cond, null]))
            for now, after in zip(times[:-1], times[1:]):
                x = x + (after - now) * self.field.velocity(projected, x, now, scales)
                states.append(x)
        self.calls.append({"hidden": cond.half(), "guidance": scales, "times": times.expand(rows, -1),
                           "states": torch.stack(states, dim=1).half()})
        return x


@torch.no_grad()
def record(generator: Generator, head: RecordingHead, condition: Condition, sampler: Sampler,
           noise: Noise) -> dict[str, Tensor]:
    """What the head was asked and did while the generator made one batch, by NAMES; rows that had ended are left out.

    Args:
        generator: with a ``token_head``.
        head: around that head.
        condition, noise: B rows.
        sampler: with guidance.
    """
    own, parts = generator.token_head, []
    generator.token_head = head
    head.calls.clear()
    try:
        if generator.streams:
            for tokens in generator.stream(condition, noise=noise, sampler=sampler):
                alive = tokens.mask.any(dim=1)
                parts.append({name: value[alive] for name, value in head.calls.pop().items()})
        else:
            generator.generate(condition, noise=noise, sampler=sampler)
            parts = list(head.calls)
    finally:
        generator.token_head = own
        head.calls.clear()
    return {name: torch.cat([part[name] for part in parts]) for name in NAMES}


def save_part(parts: list[dict[str, Tensor]], path: Path) -> int:
    """Write batches of :func:`record` as one file; returns its rows."""
    whole = {name: torch.cat([part[name] for part in parts]).contiguous() for name in NAMES}
    with atomic_write(path, overwrite=True) as partial:
        save_file(whole, partial)
    return len(whole["times"])


def load_recording(folder: str | Path) -> dict[str, Tensor]:
    """All parts in a folder together.

    Raises:
        ValueError: there are none, or one holds something else.
    """
    files = sorted(Path(folder).glob("part-*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no part-*.safetensors; make them with scripts/record_head.py")
    parts = [load_file(file) for file in files]
    for file, part in zip(files, parts):
        if set(part) != set(NAMES):
            raise ValueError(f"{file} holds {sorted(part)}, not {sorted(NAMES)}")
    return {name: torch.cat([part[name] for part in parts]) for name in NAMES}
