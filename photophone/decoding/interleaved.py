"""Answers of text and images in any order: ids are drawn one by one, and one of them starts an image."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from photophone.core.limits import MAX_ANSWER_IDS, MAX_IMAGES_PER_CALL
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify

KINDS = ("any", "image", "text")
Part = Tensor | Tokens  # text as ids Long (n,), or the tokens of one image


class Session(Protocol):
    """A request that a model has read and goes on with."""

    def logits(self) -> Tensor:
        """Logits (1, V) of the next id, -inf for those that are no text."""

    def read(self, id: int) -> None:
        """Go on behind an id."""

    def draw_image(self, callback: Callback | None) -> Tokens:
        """The tokens of an image, one row, whose start was read; the session goes on behind it."""


@dataclass(frozen=True)
class AnswerPlan:
    """What an answer may hold.

    Args:
        kind: "any": the model decides; "image": one image and nothing else; "text": no image.
        max_ids: ids of text, those that start an image included.
        max_images: images.

    Raises:
        ValueError: a value outside its limits.
    """

    kind: str = "any"
    max_ids: int = 512
    max_images: int = 4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        for name, most in (("max_ids", MAX_ANSWER_IDS), ("max_images", MAX_IMAGES_PER_CALL)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ValueError(f"{name} must be 1 to {most}, got {value!r}")


class Progress:
    """Counts ids and tokens of images as the steps of one answer.

    Args:
        callback: see :func:`photophone.decoding.loop.notify`.
        total: the most steps that there can be.
    """

    def __init__(self, callback: Callback | None, total: int) -> None:
        self.callback, self.total, self.done = callback, total, 0

    def step(self) -> None:
        """One more step is done."""
        self.done += 1
        notify(self.callback, self.done, self.total)

    def of_image(self, step: int, total: int) -> bool:
        """The callback of an image's steps."""
        self.step()
        return False


def write_answer(session: Session, choose: Callable[[Tensor], Tensor], plan: AnswerPlan, *, image_start: int,
                 ends: Collection[int], image_steps: int, callback: Callback | None = None) -> list[Part]:
    """The parts of an answer in their order, none of them empty.

    Args:
        session: has read the request.
        choose: draws ids Long (1,) from logits (1, V).
        plan: what the answer may hold.
        image_start: the id behind which an image follows.
        ends: ids that end the answer.
        image_steps: steps of an image, for the callback.
        callback: see :func:`photophone.decoding.loop.notify`; an answer may end before ``total``.
    """
    if plan.kind == "image":
        session.read(image_start)
        return [session.draw_image(callback)]
    images_left = plan.max_images if plan.kind == "any" else 0
    progress = Progress(callback, plan.max_ids + images_left * image_steps)
    parts: list[Part] = []
    text: list[int] = []
    for _ in range(plan.max_ids):
        logits = session.logits()
        if not images_left:
            logits = logits.index_fill(-1, torch.tensor([image_start], device=logits.device), -torch.inf)
        made = int(choose(logits))
        if made in ends:
            break
        session.read(made)
        if made == image_start:
            parts += [torch.tensor(text)] if text else []
            parts.append(session.draw_image(progress.of_image))
            text, images_left = [], images_left - 1
        else:
            text.append(made)
        progress.step()
    return [*parts, torch.tensor(text)] if text else parts
