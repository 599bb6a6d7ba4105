"""An edit of a picture: what is noised, drawn again and put back, and the limits of what users ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from photophone.core.limits import MAX_EDIT_ROUNDS, MAX_IMAGES_PER_CALL
from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.data.image_decoding import square_pixels
from photophone.decoding.loop import Callback
from photophone.generators.base import Generator
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler
from photophone.tokenizers.base import ImageTokenizer

LEAST_STRENGTH = 0.3
"""Noise of the last round of inpainting; the first one has noise alone."""
Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Edit:
    """How the tokens of an image are made, where the generator does not make them from a caption alone.

    Args:
        picture: (1, 3, H, W) in [-1, 1], what is edited; or (B, 3, H, W), one for each row of a batch.
        strength: share of noise, over 0 up to 1.
        mask: bool (1, 1, H, W) or (B, 1, H, W), True where the picture is drawn anew; None: everywhere.
        rounds: of drawing and putting the picture back, with a mask.
    """

    picture: Tensor
    strength: float
    mask: Tensor | None = None
    rounds: int = 1

    @classmethod
    def together(cls, edits: Sequence[Edit], counts: Sequence[int]) -> Edit:
        """Edits of equal strength and rounds, all with masks or none, as one of a batch.

        Args:
            edits: of one picture each.
            counts: rows of each.
        """
        def rows(parts: list[Tensor]) -> Tensor:
            return torch.cat([part.expand(count, -1, -1, -1) for part, count in zip(parts, counts, strict=True)])

        mask = None if edits[0].mask is None else rows([edit.mask for edit in edits])
        return replace(edits[0], picture=rows([edit.picture for edit in edits]), mask=mask)

    def tokens(self, model: Generator, tokenizer: ImageTokenizer, condition: Condition, noise: Noise, sampler: Sampler,
               callback: Callback | None) -> Tokens:
        """Tokens of B edited pictures, for B rows of the condition."""
        rows = len(condition)
        picture = self.picture.expand(rows, -1, -1, -1)
        if self.mask is not None:
            picture = torch.where(self.mask, torch.ones_like(picture), picture)  # what lies there shall not be seen
        tokens = tokenizer.encode(picture)
        for index, strength in enumerate(self.strengths()):
            if index:
                tokens = tokenizer.encode(self.put_back(tokenizer.decode(tokens)))
            tokens = model.redraw(tokens, condition, strength=strength, noise=noise, sampler=sampler,
                                  callback=whole_edit(callback, index, self.rounds))
        return tokens

    def strengths(self) -> list[float]:
        """Share of noise of each round, from much to little."""
        last = min(self.strength, LEAST_STRENGTH)
        return np.linspace(self.strength, last, self.rounds).tolist()

    def put_back(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) with the given picture outside the mask."""
        if self.mask is None:
            return images
        return torch.where(self.mask.to(images.device), images, self.picture.to(images))


def whole_edit(callback: Callback | None, done: int, rounds: int) -> Callback | None:
    """A callback that counts the steps of all rounds, of which ``done`` were made before."""
    if callback is None:
        return None
    return lambda step, total: callback(done * total + step, rounds * total)


def check_strength(strength: Any) -> float:
    """Refuse a strength that there is not.

    Raises:
        ValueError: it does not lie over 0 and up to 1.
    """
    if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 < strength <= 1:
        raise ValueError(f"strength must be over 0 and at most 1, got {strength!r}")
    return float(strength)


def check_number(count: Any, least: int) -> None:
    """Refuse a number of images outside its limits.

    Raises:
        ValueError: it is.
    """
    if isinstance(count, bool) or not isinstance(count, Integral) or not least <= count <= MAX_IMAGES_PER_CALL:
        raise ValueError(f"the number of images must be {least} to {MAX_IMAGES_PER_CALL}, got {count!r}")


def read_mask(mask: Image.Image | Region, size: int) -> Tensor:
    """Bool (1, 1, size, size), True where something new is drawn.

    Args:
        mask: see :meth:`ImageEdits.inpaint`.
        size: pixels per side of the model's images.

    Raises:
        ValueError: neither a picture nor a box inside the image, or nothing or everything would be drawn.
    """
    if isinstance(mask, Image.Image):
        bright = torch.from_numpy(square_pixels(mask, size).copy()).float().mean(dim=2)
        region = bright > 127
    else:
        box = tuple(mask) if isinstance(mask, Sequence) else ()
        whole = len(box) == 4 and all(isinstance(side, Integral) and not isinstance(side, bool) for side in box)
        if not whole or min(box) < 0 or min(box[2:]) < 1 or box[0] + box[2] > size or box[1] + box[3] > size:
            raise ValueError(f"a region must be left, top, width and height inside {size}x{size} pixels, got {mask!r}")
        left, top, width, height = box
        region = torch.zeros(size, size, dtype=torch.bool)
        region[top:top + height, left:left + width] = True
    if region.all() or not region.any():
        raise ValueError("the mask must be white in a part of the picture, where something new is drawn, and black in "
                         f"the rest; this one is {'white' if region.all() else 'black'} everywhere")
    return region[None, None]


def check_rounds(rounds: Any) -> int:
    """Refuse rounds of inpainting that there are not.

    Raises:
        ValueError: they lie outside 1 to ``MAX_EDIT_ROUNDS``.
    """
    if isinstance(rounds, bool) or not isinstance(rounds, Integral) or not 1 <= rounds <= MAX_EDIT_ROUNDS:
        raise ValueError(f"rounds must be a whole number from 1 to {MAX_EDIT_ROUNDS}, got {rounds!r}")
    return int(rounds)


def read_picture(image: Any, size: int) -> Tensor:
    """(1, 3, size, size) in [-1, 1] of the middle square of a picture.

    Raises:
        ValueError: it is no picture of Pillow, or of a mode without an agreed white.
    """
    if not isinstance(image, Image.Image):
        raise ValueError(f"the picture must be a PIL.Image, got {type(image).__name__}")
    pixels = torch.from_numpy(square_pixels(image, size).copy())
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
