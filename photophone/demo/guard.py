"""What stands before gradio's server: only the routes that the page needs, bounded requests, no paths from visitors."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse

from photophone.core.limits import DEMO_DISK_BYTES, DEMO_REQUEST_BYTES, DEMO_UPLOAD_BYTES

CALL_ROUTE = "/gradio_api/call/"
READ_ROUTES = ("/assets/", "/static/", "/svelte/", "/config", "/theme.css", "/favicon.ico", "/manifest.json",
               "/robots.txt", "/pwa_icon", "/gradio_api/info", "/gradio_api/queue/data", "/gradio_api/queue/status",
               "/gradio_api/heartbeat/", "/gradio_api/file=", "/gradio_api/upload_progress",
               "/gradio_api/startup-events", "/gradio_api/theme.css", "/gradio_api/app_id", CALL_ROUTE)
WRITE_ROUTES = ("/gradio_api/queue/join", "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/component_server")
UPLOAD_ROUTE = "/gradio_api/upload"
FORM_BYTES = 4_000
"""Of what surrounds a file in an upload."""
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
                               "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
                               "media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
                               "connect-src 'self' data: blob:; object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Sent with everything: the page loads nothing from elsewhere."""


class Refused(Exception):
    """A request that is not passed on.

    Args:
        status: of HTTP.
        message: for the visitor.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Guard:
    """ASGI middleware before gradio's application.

    Args:
        app: what it protects.
        folder: where uploads and results lie; requests may name files there only.
        inputs: how many values each named handler takes; gradio would drop further ones.
    """

    def __init__(self, app: Any, folder: Path, inputs: dict[str, int]) -> None:
        self.app, self.folder, self.inputs = app, folder.resolve(), inputs

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            receive = await self.check(scope, receive)
        except Refused as refusal:
            await JSONResponse({"detail": refusal.message}, refusal.status, HEADERS)(scope, receive, send)
            return

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    async def check(self, scope: dict, receive: Any) -> Any:
        """What the application receives of a request that is let through.

        Raises:
            Refused: the route, the size or the content is not allowed.
        """
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD"):
            if path != "/" and not path.startswith(READ_ROUTES):
                raise Refused(404, "not found")
            return receive
        if method != "POST" or not path.startswith((*WRITE_ROUTES, CALL_ROUTE, UPLOAD_ROUTE)):
            raise Refused(404, "not found")
        if path.startswith(UPLOAD_ROUTE):
            return self.check_upload(scope, receive)
        body = await read_body(receive, DEMO_REQUEST_BYTES)
        try:
            content = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Refused(400, "the request is no JSON") from error
        if path.startswith(CALL_ROUTE):
            self.check_call(path.removeprefix(CALL_ROUTE), content)
        for file in named_files(content):
            if not self.is_stored(file):
                raise Refused(400, "files must be uploaded first")
        return replay(body, receive)

    def check_call(self, name: str, content: Any) -> None:
        """A call must name a handler, and give it no more values than it takes.

        Raises:
            Refused: it does not.
        """
        if name not in self.inputs:
            raise Refused(404, "not found")
        given = content.get("data") if isinstance(content, dict) else None
        if isinstance(given, list) and len(given) > self.inputs[name]:
            raise Refused(400, f"{len(given)} values were given, {name} takes {self.inputs[name]}")

    def check_upload(self, scope: dict, receive: Any) -> Any:
        """An upload must tell its size, and fit.

        Raises:
            Refused: it does not.
        """
        told = dict(scope["headers"]).get(b"content-length", b"")
        if not told.isdigit():
            raise Refused(411, "an upload must tell its length")
        if int(told) > DEMO_UPLOAD_BYTES + FORM_BYTES:
            raise Refused(413, f"the file is over the limit of {DEMO_UPLOAD_BYTES // 10**6} MB")
        if sum(told.st_size for told in stored_files(self.folder).values()) > DEMO_DISK_BYTES:
            raise Refused(503, "the demo is busy; try again in some minutes")
        return receive

    def is_stored(self, file: Any) -> bool:
        """Whether a visitor's path names a file that this demo stored."""
        if not isinstance(file, str) or "\0" in file:
            return False
        try:
            return Path(file).is_absolute() and Path(file).resolve().is_relative_to(self.folder)
        except (OSError, RuntimeError):
            return False


def stored_files(folder: Path) -> dict[Path, os.stat_result]:
    """Files under a folder and what the disk tells of them; those that vanish meanwhile are left out."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            with suppress(FileNotFoundError):
                found[file] = file.lstat()
    return found


async def read_body(receive: Any, limit: int) -> bytes:
    """All of a request's body.

    Raises:
        Refused: it is longer than ``limit``, or the visitor left.
    """
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request ended early")
        body += message.get("body", b"")
        if len(body) > limit:
            raise Refused(413, f"the request is over the limit of {limit // 1000} kB")
        more = message.get("more_body", False)
    return body


def replay(body: bytes, receive: Any) -> Any:
    """A ``receive`` that gives a body that was read already, and then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> dict:
        return messages.pop() if messages else await receive()

    return replayed


def named_files(content: Any) -> list[Any]:
    """All values of the key ``path`` in decoded JSON, however deep: gradio reads mappings with it as files."""
    found, waiting = [], [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if item.get("path") is not None:
                found.append(item["path"])
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found
