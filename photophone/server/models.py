"""The models of a server: a worker for each, and the names that clients know them by."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from photophone.server.workers import Worker

USUAL_NAMES = {"speech": ("tts-1", "tts-1-hd", "gpt-4o-mini-tts"), "image": ("dall-e-2", "dall-e-3", "gpt-image-1")}
"""What programs written for OpenAI ask for: the one model that the server has of that kind."""
USUAL_VOICES = frozenset(("default", "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova",
                          "onyx", "sage", "shimmer", "verse"))
"""What they say where a voice must be named: the model's own."""


@dataclass
class Models:
    """Workers by kind: "speech", "image" and "enhance", those that are served."""

    workers: dict[str, Worker]
    since: int = field(default_factory=lambda: int(time.time()))

    def worker(self, kind: str, name: str | None) -> Worker:
        """The worker of a model.

        Raises:
            HTTPException: there is none of this kind or name.
        """
        worker = self.workers.get(kind)
        if worker is None:
            raise HTTPException(404, f"this server has no {kind} model")
        own = public_name(worker)
        if name not in (None, own, *USUAL_NAMES.get(kind, ())):
            raise HTTPException(404, f"there is no {kind} model of this name; {own} is served")
        return worker

    def voice(self, worker: Worker, name: str) -> str | None:
        """What a pipeline is given as voice: None for its own.

        Raises:
            HTTPException: it has no voice of this name.
        """
        known = worker.pipeline.voices
        if name in known:
            return name
        if name in USUAL_VOICES:
            return None
        raise HTTPException(400, f"there is no voice of this name; voices: {', '.join((*known, 'default'))}")

    def listed(self) -> list[dict[str, Any]]:
        """All models in the form of OpenAI's list, with what each is for and the licence of its weights."""
        return [self.card(kind) for kind in self.workers]

    def card(self, kind: str) -> dict[str, Any]:
        """One model of that list."""
        pipeline = self.workers[kind].pipeline
        card = {"id": public_name(self.workers[kind]), "object": "model", "created": self.since,
                "owned_by": "photophone", "kind": kind, "weights_licence": pipeline.weights_licence}
        return {**card, "voices": [*pipeline.voices, "default"]} if kind == "speech" else card

    def find(self, name: str) -> dict[str, Any]:
        """The card of a model.

        Raises:
            HTTPException: there is none of this name.
        """
        for card in self.listed():
            if card["id"] == name or name in USUAL_NAMES.get(card["kind"], ()):
                return card
        raise HTTPException(404, "there is no model of this name; GET /v1/models lists them")

    def close(self) -> None:
        """Do what waits, and end all workers."""
        for worker in self.workers.values():
            worker.close()


def public_name(worker: Worker) -> str:
    """What clients call a model; of a folder, its name: clients learn no paths."""
    model = str(worker.pipeline.source["model"] or worker.name)
    return Path(model).name if Path(model).is_dir() else model
