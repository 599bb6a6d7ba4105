"""One app of all parts: pipelines are loaded, workers started, routes guarded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from photophone import __version__
from photophone.core.limits import SERVER_BATCH, SERVER_QUEUE, SERVER_SECONDS
from photophone.pipelines.base import Pipeline
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.server.errors import add_error_answers
from photophone.server.guard import Guard, State
from photophone.server.metrics import Metrics
from photophone.server.models import Models
from photophone.server.routes import router
from photophone.server.workers import EnhanceWorker, ImageWorker, SpeechWorker, Worker

FAMILIES = {"speech": TextToSpeechPipeline, "image": TextToImagePipeline, "enhance": SpeechEnhancementPipeline}


@dataclass(frozen=True)
class Settings:
    """What a server serves, and how much at a time.

    Args:
        speech, image, enhance: built-in name, folder or hub id of a pipeline; None leaves its routes without a model.
        device: of torch.
        token: that requests must bring; None: none.
        queue: requests of a kind that wait.
        batch: sentences or images that are made together; 1: none are.
        seconds: from a request to its result.
        replica: name of this server among others at the same address, for its metrics.
    """

    speech: str | None = "photophone/tiny-speech"
    image: str | None = "photophone/tiny-image"
    enhance: str | None = "photophone/tiny-enhance"
    device: str = "cpu"
    token: str | None = None
    queue: int = SERVER_QUEUE
    batch: int = SERVER_BATCH
    seconds: float = SERVER_SECONDS
    replica: str | None = None


def load_pipelines(settings: Settings) -> dict[str, Pipeline]:
    """The pipelines that are served, by kind.

    Raises:
        ValueError: one cannot be loaded, or none is served.
    """
    chosen = {kind: getattr(settings, kind) for kind in FAMILIES if getattr(settings, kind) is not None}
    if not chosen:
        raise ValueError("nothing to serve: give at least one of a speech, image or enhance model")
    return {kind: FAMILIES[kind].from_pretrained(name).to(settings.device) for kind, name in chosen.items()}


def start_workers(pipelines: dict[str, Pipeline], settings: Settings, metrics: Metrics) -> dict[str, Worker]:
    """A worker for each pipeline."""
    kinds = {"speech": lambda pipeline: SpeechWorker(pipeline, settings.queue, settings.batch, metrics),
             "image": lambda pipeline: ImageWorker(pipeline, settings.queue, settings.batch, metrics),
             "enhance": lambda pipeline: EnhanceWorker(pipeline, settings.queue, metrics)}
    return {kind: kinds[kind](pipeline) for kind, pipeline in pipelines.items()}


def build_app(settings: Settings, pipelines: dict[str, Pipeline] | None = None) -> FastAPI:
    """The app; its workers end with its lifespan, after what waits is done.

    Args:
        pipelines: by kind, in the place of those that the settings name.

    Raises:
        ValueError: a pipeline cannot be loaded.
    """
    metrics, requests = Metrics(settings.replica), State()
    models = Models(start_workers(pipelines or load_pipelines(settings), settings, metrics))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        requests.end()
        models.close()

    app = FastAPI(title="photophone", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.settings, app.state.models, app.state.metrics, app.state.requests = settings, models, metrics, requests
    app.include_router(router)
    app.add_middleware(Guard, token=settings.token, state=requests, metrics=metrics)
    add_error_answers(app)
    schema = app.openapi

    def openapi() -> dict[str, Any]:
        return without_unprocessable(schema())

    app.openapi = openapi
    return app


def without_unprocessable(schema: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema without the status 422, which fastapi adds: malformed requests get 400 here."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return schema
