"""Answers that are written while work goes on, and work that ends when its client leaves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import numpy as np
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from photophone.server.errors import error_facts, log_failure, told
from photophone.server.lines import Refused, TooLate
from photophone.server.sounds import SoundStream

LEFT = 499
"""The status of a request whose client left; nobody reads it but the metrics."""
Result = TypeVar("Result")


async def while_connected(receive: Receive, work: Awaitable[Result]) -> Result:
    """What ``work`` gives; it is cancelled when the client leaves.

    Args:
        receive: of a request whose body was read.

    Raises:
        HTTPException: the client left.
    """
    task, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(LEFT, "the client left")
        return task.result()
    finally:
        for one in (task, leaving):
            one.cancel()
            with suppress(BaseException):
                await one


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class WatchedStream(StreamingResponse):
    """A streamed answer that stops at once when its client leaves, not with the next part, and that breaks off when its
    time is over."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI asks."""
        with suppress(HTTPException, TooLate, Refused):  # of an answer that has begun: uvicorn breaks it off
            await while_connected(receive, self.stream_response(send))


async def first_part(parts: AsyncIterator[np.ndarray]) -> np.ndarray:
    """The first part of speech, float32 (T,); without samples where there is none."""
    return await anext(parts, np.zeros(0, np.float32))


async def all_parts(parts: AsyncGenerator[Any, None]) -> list[Any]:
    """All parts of a job."""
    async with aclosing(parts):
        return [part async for part in parts]


async def encoded(first: np.ndarray, parts: AsyncGenerator[np.ndarray, None], sound: SoundStream
                  ) -> AsyncIterator[bytes]:
    """Speech as the bytes of a format, as it is made.

    Raises:
        Exception: what ended the work; the answer then breaks off, so that nobody takes it for whole.
    """
    async with aclosing(parts):
        if data := sound.add(first):
            yield data
        async for part in parts:
            if data := sound.add(part):
                yield data
        if data := sound.end():
            yield data


async def events(chunks: AsyncIterator[bytes], last: Callable[[], dict[str, Any]]) -> AsyncIterator[str]:
    """The same bytes as server-sent events, in the form of OpenAI's: deltas in base64, then what was used.

    Args:
        chunks: of :func:`encoded`.
        last: what the last event says; asked at the end.
    """
    try:
        async for data in chunks:
            yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode("ascii")})
    except Exception as error:  # the answer has begun: its status cannot tell any more
        if not isinstance(error, TooLate | Refused):
            log_failure(error)
        yield _event({"type": "error", **error_facts(*told(error))})
        return
    yield _event({"type": "speech.audio.done", **last()})


def _event(facts: dict[str, Any]) -> str:
    return f"data: {json.dumps(facts)}\n\n"
