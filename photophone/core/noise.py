"""Every random draw of every sampler.

A sampler asks a :class:`Noise` for draws whose first axis is the batch. :class:`SeededNoise` draws each row from
its own CPU generator, so a sample depends on its own seed and on nothing else: not on the batch it is in, not on
the device. :class:`ReplayNoise` feeds recorded draws. :class:`GlobalNoise` uses torch's global state: training.

**Lengths.** torch draws 16 and more normal numbers in blocks: a longer draw of the same seed is other noise, from its
first number on, and float64 is another sequence than float32. What must not depend on a length, such as streams that
equal the whole, is therefore drawn in steps of one size: a frame, a patch or a block of frames a call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class Noise(ABC):
    """A source of random draws; shapes start with the batch axis B."""

    @abstractmethod
    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal draws of ``shape`` (B, ...)."""

    @abstractmethod
    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform draws in [0, 1) of ``shape`` (B, ...)."""

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draws of mean 1 of ``shape`` (B, ...), from :meth:`uniform`."""
        return -torch.log(self.uniform(*shape, dtype=dtype).clamp(min=torch.finfo(dtype).tiny))

    def gumbel(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard Gumbel draws of ``shape`` (B, ...), from :meth:`exponential`."""
        return -torch.log(self.exponential(*shape, dtype=dtype).clamp(min=torch.finfo(dtype).tiny))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Long draws in ``low .. high - 1`` of ``shape`` (B, ...), from :meth:`uniform`."""
        return low + (self.uniform(*shape, dtype=torch.float64) * (high - low)).long()

    def permutation(self, rows: int, length: int) -> Tensor:
        """Long ``(rows, length)``: a random order of ``range(length)`` for each row, from :meth:`uniform`."""
        return self.uniform(rows, length, dtype=torch.float64).argsort(dim=1)

    def branch(self) -> Noise:
        """A source for a part of the sampler that makes as many draws as it needs.

        Rows of a batch need different numbers of draws there; what a row draws afterwards must not depend on them.
        """
        return self

    def parts(self, counts: Sequence[int]) -> Noise:
        """A source for parts of rows that lie one behind the other on the first axis.

        Args:
            counts: how many of them belong to each row; a draw has their sum on its first axis.
        """
        return self


class SeededNoise(Noise):
    """One CPU generator a row; draws move to ``device`` afterwards.

    Args:
        generators: one ``torch.Generator`` on the CPU for each row of the batch.
        device: where the draws are needed.
    """

    def __init__(self, generators: Sequence[torch.Generator], device: torch.device | str = "cpu") -> None:
        for row, generator in enumerate(generators):
            if generator.device.type != "cpu":
                raise ValueError(f"generator {row} is on {generator.device}; draws are made on the CPU: "
                                 "torch.Generator().manual_seed(seed)")
        self.generators = list(generators)
        self.device = torch.device(device)

    @classmethod
    def from_seeds(cls, seeds: Iterable[int], device: torch.device | str = "cpu") -> SeededNoise:
        """One fresh generator for each seed."""
        return cls([torch.Generator().manual_seed(int(seed)) for seed in seeds], device)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self._draw(torch.randn, shape, dtype)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self._draw(torch.rand, shape, dtype)

    def branch(self) -> SeededNoise:
        """Fresh generators, seeded by one draw of each row's own."""
        return self.from_seeds([draw_seed(generator) for generator in self.generators], self.device)

    def parts(self, counts: Sequence[int]) -> Noise:
        """The parts of a row are drawn from its own generator; see :meth:`Noise.parts`."""
        return _PartNoise(self.generators, counts, self.device)

    def _draw(self, function, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if shape[0] != len(self.generators):
            raise ValueError(f"asked for {shape[0]} rows of noise, but there are {len(self.generators)} generators")
        rows = [function(shape[1:], generator=generator, dtype=dtype) for generator in self.generators]
        return torch.stack(rows).to(self.device)


class _PartNoise(SeededNoise):
    """``counts[b]`` rows of each draw come from generator b."""

    def __init__(self, generators: Sequence[torch.Generator], counts: Sequence[int],
                 device: torch.device | str) -> None:
        super().__init__(generators, device)
        self.counts = list(counts)

    def _draw(self, function, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if shape[0] != sum(self.counts):
            raise ValueError(f"asked for {shape[0]} parts of noise, but the rows have {sum(self.counts)}")
        rows = [function((count, *shape[1:]), generator=generator, dtype=dtype)
                for generator, count in zip(self.generators, self.counts, strict=True)]
        return torch.cat(rows).to(self.device)


class ReplayNoise(Noise):
    """Recorded draws in the order in which they were made; asking for another shape or too many is an error.

    Axes of length 1 at the front do not count: a recorded number serves a batch of one.

    Args:
        normal, uniform: the recorded tensors of each kind.
        permutation: recorded orders, Long ``(rows, length)`` each.
        exponential: without any, they are made of ``uniform``. Those of ``torch.multinomial``, which picks the largest
            probability over them, pick the same as Gumbel draws.
        integers: Long; without any, they are made of ``uniform``.
    """

    def __init__(self, normal: Iterable[Tensor] = (), uniform: Iterable[Tensor] = (),
                 permutation: Iterable[Tensor] = (), exponential: Iterable[Tensor] = (),
                 integers: Iterable[Tensor] = ()) -> None:
        self.records = {"normal": list(normal), "uniform": list(uniform), "permutation": list(permutation),
                        "exponential": list(exponential), "integers": list(integers)}
        self.used = dict.fromkeys(self.records, 0)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self._next("normal", shape).to(dtype)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self._next("uniform", shape).to(dtype)

    def permutation(self, rows: int, length: int) -> Tensor:
        return self._next("permutation", (rows, length))

    def exponential(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        if not self.records["exponential"]:
            return super().exponential(*shape, dtype=dtype)
        return self._next("exponential", shape).to(dtype)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        if not self.records["integers"]:
            return super().integers(low, high, *shape)
        index, draws = self.used["integers"], self._next("integers", shape)
        if draws.numel() and not low <= int(draws.min()) <= int(draws.max()) < high:
            raise ValueError(f"integers draw {index} was recorded as {draws.tolist()}, the sampler asks for "
                             f"{low}..{high - 1}")
        return draws

    def _next(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        index = self.used[kind]
        if index >= len(self.records[kind]):
            raise ValueError(f"only {index} {kind} draws were recorded")
        draw = self.records[kind][index]
        if _without_front(draw.shape) != _without_front(shape):
            raise ValueError(f"{kind} draw {index} was recorded as {tuple(draw.shape)}, the sampler asks for {shape}")
        self.used[kind] = index + 1
        return draw.reshape(shape)

    @property
    def exhausted(self) -> bool:
        """True when every recorded draw was used: a replay that leaves some over took another path."""
        return all(self.used[kind] == len(draws) for kind, draws in self.records.items())


class GlobalNoise(Noise):
    """Draws from torch's global state on ``device``: for losses in training, where rows need no seeds."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, dtype=dtype, device=self.device)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.rand(shape, dtype=dtype, device=self.device)


def _without_front(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its axes of length 1 at the front."""
    sizes = list(shape)
    while sizes and sizes[0] == 1:
        sizes.pop(0)
    return tuple(sizes)


def draw_seed(generator: torch.Generator) -> int:
    """A seed in 0 .. 2**62 - 1 for a further generator; advances ``generator``."""
    return int(torch.randint(2**62, (), generator=generator))
