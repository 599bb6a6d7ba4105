"""The page, and the server that shows it."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.middleware import Middleware

from photophone.core.limits import DEMO_KEEP_SECONDS, DEMO_QUEUE, DEMO_UPLOAD_BYTES
from photophone.demo import GRADIO_FOLDER, WAS_THERE
from photophone.demo.edit_tab import build_edit_tab
from photophone.demo.ending import Ending
from photophone.demo.enhance_tab import build_enhance_tab
from photophone.demo.guard import Guard, stored_files
from photophone.demo.history import build_history
from photophone.demo.image_tab import build_image_tab
from photophone.demo.live import LiveAudio
from photophone.demo.microphone_tab import build_microphone_tab
from photophone.demo.models import Choice, Shelf, installed, sort_tokenizers
from photophone.demo.parts import Demo
from photophone.demo.speech_tab import build_speech_tab
from photophone.demo.tokens_tab import build_picture_part, build_recording_part
from photophone.pipelines.text_to_image import TextToImagePipeline

STYLE = (Path(__file__).parent / "assets" / "style.css").read_text(encoding="utf-8")
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
MASTHEAD = ('<div class="masthead"><h1>photophone</h1><p>Images and speech as sequences of tokens, by small models '
            "that run on this computer.</p></div>")
SESSIONS = 256
"""Visitors whose state gradio keeps."""
WITHOUT_WEIGHTS = "dmel-16k-25ms"
"""A codec that needs none, so it is always shown."""


@dataclass(frozen=True)
class Settings:
    """How the demo is served.

    Args:
        host, port: where it listens; port 0 or None takes a free one.
        share: make gradio's public link, through its servers.
        jobs: requests of one kind that are taken up at a time.
        queue: requests that wait, beside those that run; further ones are told that it is full.
        keep_seconds: after so long uploads and results are deleted.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    jobs: int = 1
    queue: int = DEMO_QUEUE
    keep_seconds: float = DEMO_KEEP_SECONDS


def build_page(demo: Demo) -> gr.Blocks:
    """All tabs whose models are there.

    Raises:
        ValueError: a chosen model cannot be loaded, or none is there.
    """
    choice = demo.choice
    shelf = demo.shelf
    images, codecs = sort_tokenizers((*choice.tokenizers, WITHOUT_WEIGHTS), shelf)
    if installed(choice.image):
        images = {choice.image: choice.image, **images}
    if installed(choice.speech):
        codecs = {choice.speech: choice.speech, **codecs}
    with gr.Blocks(title="photophone", analytics_enabled=False) as page:
        gr.HTML(MASTHEAD)
        parts: dict[str, list[dict[str, Any]]] = {}
        with gr.Tabs() as tabs:
            for name, label, build in (("image", "Image", build_image_tab), ("speech", "Speech", build_speech_tab)):
                if installed(getattr(choice, name)):
                    with gr.Tab(label, id=name):
                        parts[name] = [build(demo)]
            if "image" in parts and demo.shelf.pipeline(TextToImagePipeline, choice.image).token_generator.edits:
                with gr.Tab("Edit", id="edit"):
                    parts["edit"] = [build_edit_tab(demo)]
            if installed(choice.enhance) or installed(choice.live):
                with gr.Tab("Enhancement", id="enhance"), gr.Tabs():
                    if installed(choice.enhance):
                        with gr.Tab("File", id="file"):
                            parts["enhance"] = [build_enhance_tab(demo)]
                    if installed(choice.live):
                        with gr.Tab("Microphone", id="microphone"):
                            build_microphone_tab(demo)
            with gr.Tab("Tokens", id="tokens"), gr.Tabs():
                parts["tokens"] = []
                if images:
                    with gr.Tab("Picture", id="picture"):
                        parts["tokens"].append(build_picture_part(demo, images))
                with gr.Tab("Recording", id="recording"):
                    parts["tokens"].append(build_recording_part(demo, codecs))
            with gr.Tab("History", id="history"):
                build_history(tabs, parts, page)
    return page


@contextmanager
def serving(choice: Choice, settings: Settings) -> Iterator[str]:
    """The demo while the context lasts; gives its address. Afterwards nothing of it is on the disk.

    When the context ends, by an exception too, the demo takes up nothing new, and waits for a few seconds until all
    visitors have a result or a sentence.

    Raises:
        ValueError: a chosen model cannot be loaded, or the port is taken.
    """
    with prepared(choice, settings) as (page, folder, ending):
        yield launch(page, settings, folder, ending)


@contextmanager
def mounted(app: FastAPI, path: str, choice: Choice, settings: Settings) -> Iterator[Ending]:
    """The demo as a part of another app, under a path, while the context lasts; gives what ends it.

    It ends as in :func:`serving`.

    Raises:
        ValueError: a chosen model cannot be loaded.
    """
    with prepared(choice, settings) as (page, folder, ending):
        gr.mount_gradio_app(app, page, path, **look(), **guarded(page, folder, ending))
        yield ending


@contextmanager
def prepared(choice: Choice, settings: Settings) -> Iterator[tuple[gr.Blocks, Path, Ending]]:
    """The page, its folder and its end, while the context lasts; see :func:`serving`."""
    with own_folder() as folder:
        ending = Ending()
        shelf = Shelf(choice.device, ending)
        done = threading.Event()
        page = None
        try:
            page = build_page(Demo(choice, shelf, LiveAudio(), settings.jobs))
            page.queue(max_size=settings.queue, default_concurrency_limit=settings.jobs, api_open=False)
            threading.Thread(target=sweep, args=(folder, settings.keep_seconds, done), daemon=True).start()
            yield page, folder, ending
        finally:
            ending.wait()
            done.set()
            shelf.close()
            if page is not None:
                page.close(verbose=False)


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for all that gradio and Python write while the context lasts; afterwards it is gone."""
    before = tempfile.tempdir
    former = os.environ.get("GRADIO_TEMP_DIR")
    os.environ.pop("GRADIO_NUM_WORKERS", None)  # would serve files on further ports, with no guard before them
    with tempfile.TemporaryDirectory(prefix="photophone-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        try:
            tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = str(folder)  # gradio keeps uploads and results there
            yield folder
        finally:
            tempfile.tempdir = before
            os.environ.pop("GRADIO_TEMP_DIR", None)
            if former is not None:
                os.environ["GRADIO_TEMP_DIR"] = former
            if not WAS_THERE:
                for place in (*sorted(GRADIO_FOLDER.rglob("*"), reverse=True), GRADIO_FOLDER):
                    with suppress(OSError):
                        place.rmdir()  # refuses files, and folders with something in them


def launch(page: gr.Blocks, settings: Settings, folder: Path, ending: Ending) -> str:
    """Start the server in a thread; its address, or the public one where sharing was asked for.

    Raises:
        ValueError: the port is taken, or the host is none of this computer.
    """
    try:
        _, local, public = page.launch(
            server_name=settings.host, server_port=settings.port or None, share=settings.share, quiet=True,
            prevent_thread_lock=True, inbrowser=False, state_session_capacity=SESSIONS, **look(),
            **guarded(page, folder, ending))
    except OSError as error:
        raise ValueError(f"the demo cannot listen on {settings.host}, port {settings.port or 'any'}: {error}; choose "
                         "another --host or --port") from error
    return public or local


def look() -> dict[str, Any]:
    """Options of gradio for how the page looks."""
    theme = gr.themes.Base(primary_hue="indigo", neutral_hue="slate", radius_size="md", font=FONT, font_mono=MONO)
    return {"theme": theme, "css": STYLE, "footer_links": []}


def guarded(page: gr.Blocks, folder: Path, ending: Ending) -> dict[str, Any]:
    """Options of gradio for what it must not do, and the guard before it."""
    inputs = {handler.api_name: len(handler.inputs) for handler in page.fns.values()
              if handler.api_name and handler.api_visibility != "private"}
    functions = {function.__name__ for part in page.blocks.values() if isinstance(part, gr.HTML)
                 for function in part.server_fns}
    guard = Middleware(Guard, folder=folder, inputs=inputs, functions=functions, ending=ending)
    return {"show_error": False, "ssr_mode": False, "run_history": False, "enable_monitoring": False,
            "mcp_server": False, "max_file_size": DEMO_UPLOAD_BYTES, "allowed_paths": [],
            "app_kwargs": {"middleware": [guard]}}


def sweep(folder: Path, keep_seconds: float, done: threading.Event) -> None:
    """Delete what is older than ``keep_seconds``, again and again until ``done``."""
    while not done.wait(min(30.0, keep_seconds / 4)):
        limit = time.time() - keep_seconds
        for file, told in stored_files(folder).items():
            if told.st_mtime < limit:
                file.unlink(missing_ok=True)
        for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            try:
                if place.stat().st_mtime < limit:  # a new one waits for its file
                    place.rmdir()  # refuses folders with something in them
            except OSError:
                continue
