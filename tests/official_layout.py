"""Weights of any size in the layout of their authors, learned from small official files of the same class.

Classes read official files, and few write them. How a small recorded file is read says where each element goes: every
element is numbered, the numbers are converted, and lie in our tensors then. The same way back, with further layers
named as the recorded ones, gives an official file of a model at its published size. Of several readings of the names
that one is taken which the class reads: this tells sizes, not whether the authors named it so.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

NUMBER = re.compile(r"(\d+)")
Choice = Callable[[list[int], int], int]
NEIGHBOURS = {"shortcut": ("conv1", "nin_shortcut")}
"""Of parts that no small model has: a part beside it that all have, and what the authors call it in its place."""
CHOICES: tuple[Choice, ...] = (lambda same, place: min(same, key=lambda i: abs(i - place)),
                               lambda same, place: same[0], lambda same, place: same[-1])
"""Which of several equal numbers of an official key is the one at a place of our name."""


@dataclass(frozen=True)
class Box:
    """A part of a tensor: for each axis where it begins and ends, as shares of the axis."""

    sides: tuple[tuple[Fraction, Fraction], ...]

    @classmethod
    def around(cls, inside: Tensor) -> Box:
        """The box of the places that are True, which it must fill.

        Raises:
            ValueError: they are no box.
        """
        places = inside.nonzero()
        first, last = places.amin(0).tolist(), places.amax(0).tolist()
        if len(places) != torch.tensor([b - a + 1 for a, b in zip(first, last)]).prod():
            raise ValueError("elements that are no box")
        return cls(tuple((Fraction(a, size), Fraction(b + 1, size)) for a, b, size in zip(first, last, inside.shape)))

    def of(self, tensor: Tensor) -> Tensor:
        """The part of a tensor, of any size."""
        for axis, (begin, end) in enumerate(self.sides):
            first, last = begin * tensor.shape[axis], end * tensor.shape[axis]
            if first.denominator > 1 or last.denominator > 1:
                raise ValueError(f"{tuple(tensor.shape)} has no part from {begin} to {end} on axis {axis}")
            tensor = tensor.narrow(axis, int(first), int(last - first))
        return tensor

    def begin(self) -> list[Fraction]:
        """Where it begins."""
        return [side[0] for side in self.sides]


@dataclass(frozen=True)
class Piece:
    """What an official tensor and one of ours share.

    Args:
        key: of the official tensor.
        ours, theirs: the part of each.
        same: whether both parts have the same shape and order.
        order: axes longer than 1 of ours in the order of theirs; None: the elements follow in one order in both, and
            the last axis of theirs is the one that has another length in larger models.
        shape: of the small official part.
    """

    key: str
    ours: Box
    theirs: Box
    same: bool
    order: tuple[int, ...] | None
    shape: tuple[int, ...]

    def official(self, tensor: Tensor) -> Tensor:
        """The part of the official tensor, of one of ours of any size."""
        part = self.ours.of(tensor)
        if self.same:
            return part
        if self.order is None:
            return part.reshape(*self.shape[:-1], -1)
        if self.order:
            part = part.squeeze().permute(self.order)
        sizes = iter(part.shape if self.order else ())
        return part.reshape([next(sizes) if size > 1 else 1 for size in self.shape])


def pieces_of(own: Tensor, key: str, numbers: Tensor) -> Piece:
    """How one of our tensors and one official tensor, both of numbered elements, belong together."""
    first, last = int(numbers.min()), int(numbers.max())
    ours, theirs = Box.around((own >= first) & (own <= last)), Box.around(torch.isin(numbers, own))
    part, official = ours.of(own), theirs.of(numbers)
    shape = tuple(official.shape)
    if torch.equal(part, official):
        return Piece(key, ours, theirs, True, None, shape)
    a, b = part.squeeze(), official.squeeze()
    for order in itertools.permutations(range(a.ndim)) if a.ndim == b.ndim else ():
        if a.permute(order).shape == b.shape and torch.equal(a.permute(order), b):
            return Piece(key, ours, theirs, False, order, shape)
    if torch.equal(part.flatten(), official.flatten()):
        return Piece(key, ours, theirs, False, None, shape)
    raise ValueError(f"{key} is rearranged")


def read_layout(model_class: type, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, list[Piece]]:
    """What each of our tensors is made of, from small official tensors and the config of the model that has them.

    Raises:
        ValueError: tensors that are computed from official ones, such as by folding a weight norm, not taken from them.
    """
    kept = model_class.split_dropped(dict(state))[0]
    numbers, count = {}, 1
    for key, value in kept.items():
        numbers[key] = torch.arange(count, count + value.numel(), dtype=torch.float64).reshape(value.shape)
        count += value.numel()
    names = list(numbers)
    owner = torch.repeat_interleave(torch.arange(len(names)), torch.tensor([kept[key].numel() for key in names]))
    pieces = {}
    for name, value in model_class.prepare_state_dict(dict(numbers), config).items():
        own = value.double()
        if own.numel() and (own.min() < 0 or own.max() >= count or (own != own.round()).any()):
            raise ValueError(f"{model_class.__name__}: {name} is computed from official tensors, not taken")
        taken = own[own > 0].long() - 1  # what is not taken is a made 0, such as the bias of keys without one
        pieces[name] = [pieces_of(own, names[index], numbers[names[index]])
                        for index in owner[taken].unique().tolist()]
    return pieces


def write_official(model_class: type, recorded: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Any]]],
                   own: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The official tensors that hold those of a model of any size.

    Args:
        model_class: reads official files.
        recorded: small official tensors, and the config of the model that has them, of one or several models.
        own: tensors of the model, by our names; on the device meta for the shapes alone.
        config: of the model.

    Raises:
        ValueError: a tensor that is like none of the small models, or names that do not follow from theirs.
    """
    layouts = [read_layout(model_class, state, small) for state, small in recorded]
    together = {name: pieces for layout in reversed(layouts) for name, pieces in layout.items()}
    wanted, reasons = {name: value.shape for name, value in own.items()}, []
    for layout, choose in itertools.product([*layouts, together], CHOICES):
        try:
            official = OfficialLayout(layout, choose).write(own)
            again = model_class.prepare_state_dict(dict(official), config)
        except (ValueError, RuntimeError) as error:
            reasons.append(str(error))
            continue
        except KeyError:
            again = {}
        if {name: value.shape for name, value in again.items()} == wanted:
            return official
        reasons.append("the official names do not follow from the recorded ones")
    raise ValueError(f"{model_class.__name__}: {reasons[-1] if reasons else 'nothing is recorded'}")


class OfficialLayout:
    """How official tensors are named and cut.

    Args:
        pieces: of each tensor of a small model, see :func:`read_layout`.
        choose: one of CHOICES.
    """

    def __init__(self, pieces: Mapping[str, list[Piece]], choose: Choice) -> None:
        self.pieces, self.choose = pieces, choose

    def write(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The official tensors that hold these of a model of any size.

        Raises:
            ValueError: a tensor that is like none of the small model.
        """
        parts: dict[str, dict[tuple, tuple[Piece, Tensor]]] = defaultdict(dict)
        for name, value in own.items():
            for key, piece in self.named(name, own):
                parts[key][tuple(piece.theirs.begin())] = piece, piece.official(value)
        return {key: joined([parts[key][begin] for begin in sorted(parts[key])]) for key in parts}

    def named(self, name: str, names: Iterable[str]) -> Iterator[tuple[str, Piece]]:
        """The official tensors that hold a part of one of our tensors, all of which have these ``names``, and which."""
        part = name.split(".")[-2] if "." in name else ""
        if part in NEIGHBOURS and not self.similar(name):
            beside, official = NEIGHBOURS[part]
            for key, piece in self.named(name.replace(f".{part}.", f".{beside}."), names):
                yield key.replace(f".{beside}.", f".{official}."), piece
            return
        like = self.nearest(name)
        given, known = NUMBER.split(name), NUMBER.split(like)
        for index, piece in enumerate(self.pieces[like]):
            words = NUMBER.split(piece.key)
            for place in range(1, len(given), 2):
                where, step = self.moved(like, place, index)
                if where and step < 0:  # counted from the last
                    words[where] = str(largest("".join(given[:place]), names) - int(given[place]))
                elif where:
                    words[where] = str(int(words[where]) + (int(given[place]) - int(known[place])) * step)
            yield "".join(words), piece

    def nearest(self, name: str) -> str:
        """The name of the small model that differs from one in the fewest numbers."""
        like = self.similar(name)
        if not like:
            raise ValueError(f"the recorded model has nothing like {name}")
        words = NUMBER.split(name)
        return min(like, key=lambda known: sum(a != b for a, b in zip(NUMBER.split(known), words)))

    def similar(self, name: str) -> list[str]:
        """Names of the small models that are equal but for numbers."""
        words = NUMBER.split(name)[::2]
        return [known for known in self.pieces if NUMBER.split(known)[::2] == words]

    def moved(self, name: str, place: int, index: int) -> tuple[int, int]:
        """Which number of an official key follows a number of our name, and by how much a step of it moves it; (0, 0)
        for none. Where no second recorded name tells, :attr:`choose` does among the equal ones."""
        words, key = NUMBER.split(name), NUMBER.split(self.pieces[name][index].key)
        for whole in (True, False):  # names that differ in this number alone, else names that begin alike up to it
            for other, pieces in self.pieces.items():
                further = NUMBER.split(other)
                ours, theirs = (words, further) if whole else (words[:place + 1], further[:place + 1])
                if [a != b for a, b in zip(ours, theirs)] != [i == place for i in range(len(theirs))]:
                    continue
                for piece in pieces if not whole else pieces[index:index + 1]:
                    second = NUMBER.split(piece.key)
                    first = next((i for i, (a, b) in enumerate(zip(key, second)) if a != b), 0)
                    if first % 2 and (not whole or key[::2] == second[::2]):
                        steps = int(second[first]) - int(key[first]), int(further[place]) - int(words[place])
                        return first, steps[0] // steps[1]
        same = [i for i in range(1, len(key), 2) if key[i] == words[place]]
        return (self.choose(same, place), 1) if same else (0, 0)


def largest(beginning: str, names: Iterable[str]) -> int:
    """The largest number that follows a beginning of names."""
    return max(int(NUMBER.match(name, len(beginning)).group()) for name in names
               if name.startswith(beginning) and NUMBER.match(name, len(beginning)))


def joined(parts: list[tuple[Piece, Tensor]]) -> Tensor:
    """An official tensor of its parts in order."""
    if len(parts) == 1:
        return parts[0][1]
    axes = {axis for piece, _ in parts for axis, side in enumerate(piece.theirs.sides) if side != (0, 1)}
    if len(axes) != 1:
        raise ValueError(f"{parts[0][0].key} is split along the axes {sorted(axes)}")
    return torch.cat([part for _, part in parts], axes.pop())
