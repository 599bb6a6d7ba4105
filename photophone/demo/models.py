"""The models of the demo: chosen by who starts it, loaded on first use, each with its own worker."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from photophone.demo.ending import Ending
from photophone.demo.jobs import Worker
from photophone.loading.auto import base_class, load_part
from photophone.loading.registry import REGISTRY, builtin_folder
from photophone.loading.saved import is_saved_model, saved_class


@dataclass(frozen=True)
class Choice:
    """What the demo shows; all of it is chosen on the command line, nothing by visitors.

    Args:
        image, speech, enhance, live: built-in name, folder or hub id of a pipeline; None leaves its tab out.
        tokenizers: image tokenizers and codecs for the tokens tab, "NAME" or "NAME=WEIGHTS".
        device: of torch.
    """

    image: str | None = "photophone/tiny-image"
    speech: str | None = "photophone/tiny-speech"
    enhance: str | None = "photophone/tiny-enhance"
    tokenizers: tuple[str, ...] = ()
    device: str = "cpu"
    live: str | None = "photophone/tiny-enhance-live"


def installed(name: str | None) -> bool:
    """Whether a pipeline can be shown: False for a built-in whose weights are not in this installation."""
    if name is None:
        return False
    try:
        builtin_folder(name)
    except ValueError:
        return False
    return True


@dataclass
class Shelf:
    """Loads each thing once.

    Args:
        device: of torch.
        ending: of the demo, for the workers.
    """

    device: str
    ending: Ending = field(default_factory=Ending)
    things: dict[str, Any] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        """What ``load`` gave when ``key`` was first asked for."""
        with self.lock:
            if key not in self.things:
                self.things[key] = load()
            return self.things[key]

    def pipeline(self, family: type, name: str) -> Any:
        """A pipeline on the device, without progress bars."""
        def load() -> Any:
            pipeline = family.from_pretrained(name).to(self.device)
            pipeline.set_progress_bar_config(disable=True)
            return pipeline
        return self.get(f"pipeline {name}", load)

    def tokenizer(self, given: str) -> Any:
        """An image tokenizer, given as "NAME" or "NAME=WEIGHTS"."""
        name, _, weights = given.partition("=")
        return self.get(f"tokenizer {given}", lambda: load_part("image_tokenizer", name, weights or None, self.device))

    def codec(self, given: str) -> Any:
        """A codec, given as "NAME" or "NAME=WEIGHTS"."""
        name, _, weights = given.partition("=")
        return self.get(f"codec {given}", lambda: load_part("codec", name, weights or None, self.device))

    def worker(self, name: str) -> Worker:
        """The worker of a model: its jobs run one after the other."""
        with self.lock:
            return self.workers.setdefault(name, Worker(name, self.ending))

    def close(self) -> None:
        """Start no more jobs."""
        for worker in self.workers.values():
            worker.close()


def sort_tokenizers(given: tuple[str, ...], shelf: Shelf) -> tuple[dict[str, str], dict[str, str]]:
    """Image tokenizers and codecs by the names that visitors see, all of them loaded.

    Raises:
        ValueError: an unknown name, a model of another kind, or weights that cannot be found.
    """
    images = {}
    codecs = {}
    for entry in given:
        name = entry.partition("=")[0]
        kind = REGISTRY[name].kind if name in REGISTRY else None
        label = name if name in REGISTRY else Path(name).name
        if kind == "image_tokenizer" or (kind is None and holds(name, "image_tokenizer")):
            shelf.tokenizer(entry)
            images[label] = entry
        elif kind == "codec" or (kind is None and holds(name, "codec")):
            shelf.codec(entry)
            codecs[label] = entry
        else:
            raise ValueError(f"{name} is no image tokenizer or codec; `photophone models` lists them")
    return images, codecs


def holds(name: str, kind: str) -> bool:
    """Whether a folder holds a saved model of a kind."""
    if not is_saved_model(name):
        return False
    try:
        saved_class(name, base_class(kind))
    except ValueError:
        return False
    return True


def licence_line(pipeline: Any) -> str:
    """HTML that names a pipeline's weights and their licence."""
    model = str(pipeline.source["model"] or "of your own")
    revision = pipeline.source["revision"]
    if Path(model).is_dir():  # visitors learn no paths
        model = Path(model).name
    licence = pipeline.weights_licence or "licence as its owner says"
    words = f"Weights: {model}{f' {revision}' if revision else ''}. Licence: {licence}."
    return f'<p class="licence">{html.escape(words)}</p>'


def tokenizer_licence(name: str) -> str:
    """HTML that names a tokenizer's or codec's weights and their licence."""
    if name not in REGISTRY:
        return '<p class="licence">A model of your own.</p>'
    entry = REGISTRY[name]
    words = f"{name}: {entry.summary}. Licence of the weights: {entry.weights_licence}."
    return f'<p class="licence">{html.escape(words)}</p>'
