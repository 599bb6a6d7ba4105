"""Errors as clients of OpenAI read them; none of them tells of files or of code."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from photophone.server.lines import Full, Refused, TooLate
from photophone.server.workers import Failed

LONGEST = 500
"""Characters of a message."""
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 500: "server_error",
         503: "server_error", 504: "timeout_error"}
RETRY_SECONDS = 5
"""After which it is worth to ask again when the server ends."""


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorFacts


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": words} for status, words in (
        (400, "the request is malformed, or asks for what cannot be done"), (401, "the token is missing or wrong"),
        (404, "there is no such model"), (413, "the request is too large"), (429, "too many requests wait"),
        (500, "something went wrong"), (503, "the server ends"), (504, "the deadline came first"))}
"""For the schema: what every route that works may answer beside its result."""


def error_answer(status: int, message: str, param: str | None = None, code: str | None = None,
                 headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer in the form of OpenAI's errors."""
    return JSONResponse(error_facts(status, message, param, code), status, headers)


def error_facts(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Its content, also that of an event when the answer has begun."""
    kind = TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message[:LONGEST], "type": kind, "param": param, "code": code}}


def told(error: Exception) -> tuple[int, str]:
    """Status and words for what a worker ended with."""
    if isinstance(error, Refused):
        return 400, str(error)
    if isinstance(error, TooLate):
        return 504, str(error)
    return 500, "something went wrong here; the log of the server says more"


def answer_for(request: Request, error: Exception) -> JSONResponse:
    """The answer to a request that ended with an error."""
    if isinstance(error, RequestValidationError):
        return _for_validation(error)
    if isinstance(error, Full):
        return error_answer(429, str(error), headers={"retry-after": str(error.seconds)})
    if isinstance(error, HTTPException):
        return error_answer(error.status_code, str(error.detail), headers=error.headers)
    status, words = told(error)
    return error_answer(status, words)


def _for_validation(error: RequestValidationError) -> JSONResponse:
    """Names the field and the rule; what was given is not repeated."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, str))[:100]
    message = json.dumps(first["msg"])[1:-1] if first["type"] == "json_invalid" else first["msg"]
    if first["type"] == "extra_forbidden":
        message = "there is no such field"
    return error_answer(400, f"{place}: {message}" if place else message, place or None)


def add_error_answers(app: FastAPI) -> None:
    """Let an app answer every error so."""
    for kind in (RequestValidationError, HTTPException, Full, Refused, TooLate, Failed, Exception):
        app.add_exception_handler(kind, answer_for)


def log_failure(error: Exception) -> None:
    """Note what a client was not told, where an answer had begun."""
    logging.getLogger("photophone").error("an answer was broken off", exc_info=error)
