"""What the tabs share: seeds, errors, pictures of sound, the record of a result."""

from __future__ import annotations

import base64
import html
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from photophone.core.limits import DEMO_SEED
from photophone.core.pictures import spectrogram
from photophone.data.audio_write import to_whole
from photophone.demo.live import LiveAudio
from photophone.demo.models import Choice, Shelf

SPECTRUM_SIZE = (960, 220)
THUMBNAIL = 72


@dataclass(frozen=True)
class Demo:
    """What every tab is built with.

    Args:
        choice: the models.
        shelf: loads them.
        live: streams of speech.
        jobs: jobs of one model that gradio starts at a time; its worker runs them one by one.
    """

    choice: Choice
    shelf: Shelf
    live: LiveAudio
    jobs: int = 1


def for_visitors(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A handler (a generator) whose refusals become short messages, and whose other failures go to the log only."""
    @wraps(handler)
    def safe(*arguments: Any, **options: Any) -> Iterator[Any]:
        try:
            yield from handler(*arguments, **options)
        except (ValueError, OSError, RuntimeError, TypeError, KeyError) as error:
            if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
                raise gr.Error(html.escape(str(error)), print_exception=False) from None
            traceback.print_exception(error, file=sys.stderr)
            raise gr.Error("Something went wrong here. The server's log says more.", print_exception=False) from None
    return safe


def seed_row() -> tuple[gr.Number, gr.Checkbox]:
    """A seed box and whether to draw a new one."""
    with gr.Row(elem_classes="seed-row"):
        seed = gr.Number(7, label="Seed", precision=0, minimum=0, maximum=DEMO_SEED, min_width=120, scale=2)
        random = gr.Checkbox(True, label="random", min_width=90, scale=1, elem_classes="seed-random")
    return seed, random


def choose_seed(seed: Any, random: Any, count: int = 1) -> int:
    """The first of ``count`` seeds that are used.

    Raises:
        ValueError: it is no whole number, or they do not lie in 0 to ``DEMO_SEED``.
    """
    if random:
        return int.from_bytes(os.urandom(4), "big") % (DEMO_SEED - count + 2)
    return whole(seed, "the seed", 0, DEMO_SEED - count + 1)


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A slider's value as a whole number within its bounds.

    Raises:
        ValueError: it is outside, or no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or int(value) != value:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
    return int(value)


def number(value: Any, name: str, low: float, high: float) -> float:
    """A slider's value within its bounds.

    Raises:
        ValueError: it is outside, NaN, or no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must lie in {low:g} to {high:g}, got {value!r}")
    return float(value)


def facts_line(*facts: str) -> str:
    """HTML of what was made and how."""
    return '<p class="facts">' + " · ".join(html.escape(fact) for fact in facts) + "</p>"


def record(kind: str, text: str, seed: int | None, picture: Image.Image, **settings: Any) -> dict[str, Any]:
    """What the browser's history keeps of a result: words, seed, settings and a thumbnail inside the record."""
    small = picture.convert("RGB")
    small.thumbnail((3 * THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    small.save(data, format="PNG")
    return {"kind": kind, "text": text, "seed": seed, "settings": settings,
            "picture": "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")}


def to_pcm(audio: np.ndarray, sample_rate: int) -> tuple[int, np.ndarray]:
    """float (T,) or (C, T) as gradio's audio wants it, 16-bit (T,) or (T, C); gradio would bring floats to one peak."""
    return sample_rate, np.ascontiguousarray(to_whole(audio).T)


def spectrum(audio: np.ndarray, sample_rate: int) -> Image.Image:
    """Spectrogram of float (T,) or (C, T), the channels' mean."""
    mono = torch.from_numpy(np.atleast_2d(audio).mean(axis=0))
    return spectrogram(mono, sample_rate, SPECTRUM_SIZE)


def buttons(label: str, name: str) -> tuple[gr.Button, gr.Button]:
    """The button that starts and the one that cancels."""
    with gr.Row(elem_classes="go-row"):
        start = gr.Button(label, variant="primary", elem_id=f"{name}-go", min_width=120, scale=3)
        stop = gr.Button("Cancel", elem_id=f"{name}-cancel", min_width=90, scale=1)
    return start, stop
