"""What stands before the routes: the token, sizes, times, and a count of what is being answered.

It is plain ASGI: nothing of a request is read before it is let through.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import threading
import time
from base64 import b64decode
from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from photophone.core.limits import (
    SERVER_BODY_SECONDS,
    SERVER_HEADER_BYTES,
    SERVER_REQUEST_BYTES,
    SERVER_SEND_SECONDS,
    SERVER_UPLOAD_BYTES,
    SERVER_VOICE_BYTES,
)
from photophone.server.errors import RETRY_SECONDS, error_answer
from photophone.server.metrics import Metrics

OPEN = ("/healthz", "/readyz")
"""What everybody may ask, without a token and while the server ends."""
LIMITS = {"/v1/audio/enhance": SERVER_UPLOAD_BYTES, "/v1/audio/speech": SERVER_REQUEST_BYTES + SERVER_VOICE_BYTES,
          "/v1/images/edits": SERVER_UPLOAD_BYTES, "/v1/images/variations": SERVER_UPLOAD_BYTES}
"""Bytes of requests to routes that take recordings or pictures."""
PAGES = "/demo"
"""Where the demo is mounted; browsers send the token as a password, and it has a guard of its own for sizes."""


class State:
    """What is going on in one server.

    Attributes:
        open: requests that are being answered, but for pages of the demo that wait for events.
        is_ending: nothing new is taken up.
        followers: are set with it.
    """

    def __init__(self) -> None:
        self.open = 0
        self.is_ending = False
        self.followers: list[threading.Event] = []

    def end(self) -> None:
        """Take up nothing new."""
        self.is_ending = True
        for event in self.followers:
            event.set()


class Guard:
    """ASGI middleware before an app.

    Args:
        app: what it protects.
        token: that requests must bring, or None.
        state: of the server; it is kept here.
        metrics: of the server.
    """

    def __init__(self, app: ASGIApp, token: str | None, state: State, metrics: Metrics) -> None:
        self.app, self.state, self.metrics = app, state, metrics
        self.token = None if token is None else hashlib.sha256(token.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, path = time.monotonic(), scope["path"]
        status = [0]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            async with asyncio.timeout(SERVER_SEND_SECONDS):
                await send(message)

        is_page = path == PAGES or path.startswith(PAGES + "/")
        refusal = self.refusal(scope, is_page)
        if refusal is not None:
            with suppress(HTTPException):  # an answer before the end of the request would be lost with the connection
                await read_to_end(bounded(receive, body_limit(path)))
            await refusal(scope, receive, watched)
        elif is_page:
            await self.app(scope, receive, send)
            return
        else:
            self.state.open += 1
            try:
                await self.app(scope, bounded(receive, body_limit(path)), watched)
            finally:
                self.state.open -= 1
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.requests.labels(route, status[0]).inc()
        self.metrics.times.labels(route).observe(time.monotonic() - began)

    def refusal(self, scope: Scope, is_page: bool) -> ASGIApp | None:
        """The answer to a request that is not let through, or None."""
        headers = dict(scope["headers"])
        if sum(len(name) + len(value) for name, value in scope["headers"]) > SERVER_HEADER_BYTES:
            return error_answer(431, f"the headers are over the limit of {SERVER_HEADER_BYTES // 1000} kB")
        if scope["path"] in OPEN:
            return None
        if self.token is not None and not self.knows(headers.get(b"authorization", b"")):
            way = 'Basic realm="photophone"' if is_page else "Bearer"
            return error_answer(401, "this server asks for a token: Authorization: Bearer TOKEN",
                                code="invalid_api_key", headers={"www-authenticate": way})
        if self.state.is_ending and scope["method"] == "POST":
            return error_answer(503, "the server is ending; try again when it is back",
                                headers={"retry-after": str(RETRY_SECONDS), "connection": "close"})
        length = headers.get(b"content-length", b"0")
        limit = body_limit(scope["path"])
        if not is_page and (not length.isdigit() or len(length) > 12 or int(length) > limit):
            return error_answer(413, f"the request is over the limit of {limit // 1000} kB")
        return None

    def knows(self, given: bytes) -> bool:
        """Whether an Authorization header brings the token; it takes as long for a wrong one as for a right one."""
        kind, _, value = given.partition(b" ")
        if kind.lower() == b"basic":  # of a browser: any name, and the token as password
            try:
                value = b64decode(value, validate=True).partition(b":")[2]
            except ValueError:
                value = b""
        elif kind.lower() != b"bearer":
            value = b""
        return hmac.compare_digest(hashlib.sha256(value.strip()).digest(), self.token)


def body_limit(path: str) -> int:
    """Bytes that a request to a route may have."""
    return LIMITS.get(path, SERVER_REQUEST_BYTES)


async def read_to_end(receive: Receive) -> None:
    """Read what is left of a request, and forget it.

    Raises:
        HTTPException: it is too long, or takes too long.
    """
    while (await receive()).get("more_body"):
        pass


def bounded(receive: Receive, limit: int) -> Receive:
    """A ``receive`` that gives no more than a limit, and waits for the body no longer than ``SERVER_BODY_SECONDS``.

    What comes after the body, a client that leaves, it waits for as long as it takes.
    """
    deadline = time.monotonic() + SERVER_BODY_SECONDS
    seen: dict[str, Any] = {"bytes": 0, "whole": False}

    async def read() -> Message:
        if seen["whole"]:
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, f"the request did not arrive within {SERVER_BODY_SECONDS:g} s") from error
        seen["bytes"] += len(message.get("body", b""))
        seen["whole"] = not message.get("more_body", False)
        if seen["bytes"] > limit:
            raise HTTPException(413, f"the request is over the limit of {limit // 1000} kB")
        return message

    return read
