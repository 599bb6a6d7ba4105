"""What stands before gradio's server: only the routes that the page needs, bounded requests, no paths and no addresses
from visitors.

gradio fetches what ``file=`` and ``proxy=`` name, and files of a request by their ``url``. Visitors could reach other
computers by that, and this one's neighbours. So all routes and all fields of a request are told off here by name, files
are stored ones, and gradio gets a request that was written anew from what was checked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from starlette.responses import JSONResponse

from photophone.core.limits import DEMO_DISK_BYTES, DEMO_REQUEST_BYTES, DEMO_UPLOAD_BYTES
from photophone.demo.ending import WORDS, Ending

API = "/gradio_api/"
CALL_ROUTE = API + "call/"
HEARTBEAT_ROUTE = API + "heartbeat/"
JOIN_ROUTE = API + "queue/join"
FILE_ROUTE = API + "file="
UPLOAD_ROUTE = API + "upload"
SERVER_ROUTE = API + "component_server"
PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/pwa_icon",
         *(API + name for name in ("info", "queue/data", "queue/status", "upload_progress", "startup-events",
                                   "theme.css", "app_id"))}
"""What is read under exactly this name."""
PARTS = re.compile(r"/(assets|static|svelte)(/[A-Za-z0-9_.@+~-]+)+|/pwa_icon/[0-9]+|"
                   + API + r"(heartbeat/[A-Za-z0-9_-]+|call/[A-Za-z0-9_-]+/[A-Za-z0-9_-]+)")
"""What is read by a name of its own: files of gradio's page, and the answers to a visitor's calls."""
FIELDS = {JOIN_ROUTE: {"data", "event_data", "fn_index", "trigger_id", "session_hash", "event_id",
                               "simple_format", "batched"},
          API + "cancel": {"session_hash", "fn_index", "event_id"},
          API + "reset": {"event_id"},
          SERVER_ROUTE: {"session_hash", "component_id", "fn_name", "data"}}
"""The routes that take JSON, beside ``CALL_ROUTE``, and the fields of it that gradio gets."""
CALL_FIELDS = {"data", "session_hash"}
FILE_FIELDS = {"path", "size", "orig_name", "mime_type", "meta"}
"""Of a file that was uploaded. Without ``url`` and ``is_stream``, by which gradio would look elsewhere than in its
folder."""
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
        functions: names of the page's own functions that its scripts call on the server.
        ending: of the demo: it waits for requests, and new work is refused when it has begun.
    """

    def __init__(self, app: Any, folder: Path, inputs: dict[str, int], functions: Collection[str] = (),
                 ending: Ending | None = None) -> None:
        self.app = app
        self.folder = folder.resolve()
        self.inputs = inputs
        self.functions = frozenset(functions)
        self.ending = ending or Ending()

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """As ASGI asks."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket, which the page does not need
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            scope, receive = await self.check(scope, receive)
        except Refused as refusal:
            await JSONResponse({"detail": refusal.message}, refusal.status, HEADERS)(scope, receive, send)
            return

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        if HEARTBEAT_ROUTE in scope["path"]:  # open as long as a page is
            await self.app(scope, receive, send_with_headers)
            return
        with self.ending.request():
            await self.app(scope, receive, send_with_headers)

    async def check(self, scope: dict, receive: Any) -> tuple[dict, Any]:
        """The request that the application gets, where it is let through.

        Raises:
            Refused: the route, the size or the content is not allowed.
        """
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope["method"]
        if method in ("GET", "HEAD"):
            asked = unquote_plus(scope.get("query_string", b"").decode("latin-1"))
            if not self.is_readable(path) or "deep_link" in asked:  # which would show a state that gradio saved
                raise Refused(404, "not found")
            return scope, receive
        path = path.removesuffix("/")  # gradio has each of these routes with and without it
        if self.ending.closed.is_set() and (path.startswith(CALL_ROUTE) or path in (UPLOAD_ROUTE, JOIN_ROUTE)):
            raise Refused(503, WORDS)
        if method == "POST" and path == UPLOAD_ROUTE:
            return scope, self.check_upload(scope, receive)
        name = path.removeprefix(CALL_ROUTE)
        fields = CALL_FIELDS if name in self.inputs and path == CALL_ROUTE + name else FIELDS.get(path)
        if method != "POST" or fields is None:
            raise Refused(404, "not found")
        body = await read_body(receive, DEMO_REQUEST_BYTES)
        try:
            content = json.loads(body)
            if not isinstance(content, dict):
                raise Refused(400, "the request is no JSON object")
            content = {key: self.clean(value) for key, value in content.items() if key in fields}
            body = json.dumps(content).encode()  # gradio reads what was checked, and nothing else
        except (ValueError, RecursionError) as error:
            raise Refused(400, "the request is no JSON") from error
        function = content.get("fn_name")
        if path == SERVER_ROUTE and not (isinstance(function, str) and function in self.functions):
            raise Refused(404, "not found")
        if name in self.inputs:
            self.check_call(name, content)
        return with_length(scope, len(body)), replay(body, receive)

    def is_readable(self, path: str) -> bool:
        """Whether a visitor may read what lies under ``path``: parts of the page, answers, and stored files."""
        if path.startswith(FILE_ROUTE):
            return self.is_stored(path.removeprefix(FILE_ROUTE))
        path = path.removesuffix("/") or "/"
        return path in PAGES or (PARTS.fullmatch(path) is not None and ".." not in path)

    def clean(self, content: Any) -> Any:
        """Decoded JSON in which mappings that gradio would read as files name stored files, and no addresses.

        Raises:
            Refused: a file that this demo did not store.
        """
        if isinstance(content, list):
            return [self.clean(item) for item in content]
        if not isinstance(content, dict):
            return content
        if content.get("path") is None and content.get("url") is None:
            return {key: self.clean(value) for key, value in content.items()}
        if not self.is_stored(content.get("path")):
            raise Refused(400, "files must be uploaded first")
        return {key: self.clean(value) for key, value in content.items() if key in FILE_FIELDS}

    def check_call(self, name: str, content: dict) -> None:
        """A call must give a handler no more values than it takes.

        Raises:
            Refused: it does.
        """
        given = content.get("data")
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


def with_length(scope: dict, length: int) -> dict:
    """A request's scope that tells another length of its body."""
    lengths = (b"content-length", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in lengths]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}
