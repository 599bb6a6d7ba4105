"""The routes that tell of the server, and those of :mod:`~photophone.server.sound_routes` and
:mod:`~photophone.server.picture_routes`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from photophone.server import picture_routes, sound_routes
from photophone.server.errors import RESPONSES

router = APIRouter(responses=RESPONSES)
router.include_router(sound_routes.router)
router.include_router(picture_routes.router)


@router.get("/healthz", response_class=PlainTextResponse, responses={})
async def healthz() -> str:
    """Whether the process answers."""
    return "ok"


@router.get("/readyz", response_class=PlainTextResponse)
async def readyz(request: Request) -> Response:
    """Whether new requests are taken up."""
    state = request.app.state
    alive = all(worker.is_alive for worker in state.models.workers.values())
    ready = alive and not state.requests.is_ending
    return PlainTextResponse("ready" if ready else "ending", 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The models that are served."""
    return {"object": "list", "data": request.app.state.models.listed()}


@router.get("/v1/models/{name:path}")
async def model(name: str, request: Request) -> dict[str, Any]:
    """One of them."""
    return request.app.state.models.find(name)
