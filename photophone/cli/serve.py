"""The command that serves the pipelines over HTTP."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from photophone.cli.common import DeviceOption, QuietOption, app
from photophone.cli.demo import LOOPBACK
from photophone.core.limits import SERVER_BATCH, SERVER_QUEUE, SERVER_SECONDS

if TYPE_CHECKING:
    from fastapi import FastAPI

    from photophone.server.app import Settings

Engine = Literal["uvicorn", "ray"]
TOKEN = "PHOTOPHONE_TOKEN"


@app.command()
def serve(host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other computers in.")] = (
              LOOPBACK[0]),
          port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
          token_file: Annotated[Path | None, typer.Option(help="File with a token that requests must bring. Without it "
                                                          f"the variable {TOKEN}, where it is set.")] = None,
          speech_model: Annotated[str, typer.Option(help="Pipeline that speaks, or `none`.")] = (
              "photophone/tiny-speech"),
          image_model: Annotated[str, typer.Option(help="Pipeline that draws, or `none`.")] = "photophone/tiny-image",
          enhance_model: Annotated[str, typer.Option(help="Pipeline that cleans recordings, or `none`.")] = (
              "photophone/tiny-enhance"),
          queue: Annotated[int, typer.Option(min=1, max=10_000, help="Requests of one kind that wait; further ones get "
                                                                     "429.")] = SERVER_QUEUE,
          batch: Annotated[int, typer.Option(min=1, max=256, help="Sentences or images that are made together.")] = (
              SERVER_BATCH),
          deadline: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds from a request to its result.")] = (
              SERVER_SECONDS),
          engine: Annotated[Engine, typer.Option(help="One process, or replicas under Ray Serve.")] = "uvicorn",
          replicas: Annotated[int | None, typer.Option(min=1, max=1000, help="Processes of the engine ray; one a core "
                                                                            "when not given.")] = None,
          with_demo: Annotated[bool, typer.Option("--demo", help="Show the demo under /demo, too.")] = False,
          device: DeviceOption = "cpu", quiet: QuietOption = False) -> None:
    """Serve speech, images and enhancement on routes that clients of OpenAI speak. On this computer only, unless --host
    says otherwise.

    On TERM and INT (Ctrl-C) it takes up nothing new, finishes accepted requests, and ends; a second one ends it now.
    """
    token = read_token(token_file)
    check_engine(engine, replicas, with_demo)
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(f"the server needs {error.name}: pip install 'photophone[serve]'") from error
    from photophone.server.run import address_of, bound_socket
    from photophone.server.run import serve as serve_app

    listening = bound_socket(host, port)  # before the models are loaded
    from photophone.loading.auto import check_device
    from photophone.server.app import Settings, build_app

    check_device(device)
    speech, image, enhance = (None if name == "none" else name for name in (speech_model, image_model, enhance_model))
    settings = Settings(speech, image, enhance, device, token, queue, batch, deadline)
    if host not in LOOPBACK and token is None and not quiet:
        print(f"everyone who can reach {host} can use this server: give --token-file", file=sys.stderr)
    if engine == "ray":
        serve_by_ray(settings, listening, replicas, quiet)
    built = build_app(settings)
    with demo_on(built, (image, speech, enhance), device) if with_demo else nullcontext():
        listening.listen()  # from here on clients that come wait, and are not refused
        if not quiet:
            print(f"photophone serve: {address_of(listening)}  (Ctrl-C ends it)", flush=True)
        serve_app(built, listening)


def check_engine(engine: str, replicas: int | None, with_demo: bool) -> None:
    """Refuse what the engines cannot do, and one that is not there.

    Raises:
        ValueError: replicas of one process, or the demo on several.
        ImportError: ray is not there.
    """
    if engine == "uvicorn":
        if replicas is not None:
            raise ValueError("--replicas is for --engine ray; the engine uvicorn is one process, which makes batches")
        return
    if with_demo:
        raise ValueError("--demo keeps its visitors in one process; leave it out with --engine ray")
    if find_spec("ray") is None:
        raise ImportError("--engine ray needs ray: pip install 'photophone[ray]'")


def serve_by_ray(settings: Settings, listening: socket.socket, replicas: int | None, quiet: bool) -> NoReturn:
    """Serve by replicas in the place of a bound socket; see :mod:`photophone.server.replicas`."""
    from photophone.core.cores import usable_cores
    from photophone.server.replicas import Replicas, serve_replicas
    from photophone.server.run import address_of

    address, (host, port) = address_of(listening), listening.getsockname()[:2]
    listening.close()  # Ray binds it again, in a process of its own
    running = Replicas(settings, host, port, replicas or usable_cores().count)
    if not quiet:
        print(f"photophone serve: {address}  (Ctrl-C ends it)", flush=True)
    serve_replicas(running)


@contextmanager
def demo_on(app: FastAPI, names: tuple[str | None, ...], device: str) -> Iterator[None]:
    """The demo of these pipelines under /demo, while the context lasts.

    Raises:
        ImportError: gradio is not there.
    """
    try:
        from photophone.demo.app import Settings, mounted
    except ModuleNotFoundError as error:
        raise ImportError(f"--demo needs {error.name}: pip install 'photophone[demo]'") from error
    from photophone.demo.models import Choice
    from photophone.server.guard import PAGES

    with mounted(app, PAGES, Choice(*names, device=device), Settings()) as ending:
        app.state.requests.followers.append(ending.closed)
        yield


def read_token(file: Path | None) -> str | None:
    """The token of a file, or of the environment.

    Raises:
        ValueError: it is empty, or holds other than visible ASCII characters.
    """
    token = os.environ.get(TOKEN) if file is None else file.read_text(encoding="utf-8").strip()
    if token is None:
        return None
    if not token or not all("!" <= letter <= "~" for letter in token):
        place = f"the variable {TOKEN}" if file is None else str(file)
        raise ValueError(f"{place} must hold a token of visible ASCII characters without spaces")
    return token
