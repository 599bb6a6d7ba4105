"""Multipart forms: fields and files, checked by the same models as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from typing import Annotated, Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from photophone.core.limits import SERVER_REQUEST_BYTES
from photophone.server.answers import LEFT
from photophone.server.lines import Refused

FORM = "multipart/form-data"
CHARSETS = ("utf-8", "utf8", "us-ascii")
"""Starlette would take any codec of Python, and some of them are slow, or break."""
MOST_FILES, MOST_FIELDS = 4, 64
Model = TypeVar("Model", bound=BaseModel)


def as_file(value: Any) -> UploadFile:
    """Refuse what is no uploaded file, for pydantic."""
    if not isinstance(value, UploadFile):
        raise PydanticCustomError("file_expected", "a file is expected, this is text")
    return value


BINARY = {"type": "string", "format": "binary"}
Upload = Annotated[UploadFile, PlainValidator(as_file), WithJsonSchema(BINARY)]
"""A file of a form."""


class FormRoute(APIRoute):
    """A route for multipart forms. Other requests go to the next route of the same path, which takes JSON."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As its base, but for requests of another kind."""
        match, child = super().matches(scope)
        if match is Match.FULL and media_type(Headers(scope=scope)) != FORM:
            return Match.NONE, {}
        return match, child


def media_type(headers: Headers) -> str:
    """The kind of a request's body, without what comes behind it."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def read_form(request: Request, model: type[Model]) -> AsyncIterator[Model]:
    """The fields of a form; its files are closed behind the block, and with it are gone.

    Fields are text: numbers and switches are read from it. A name that ends in ``[]`` is that of a list, as clients of
    OpenAI write it.

    Raises:
        HTTPException: it is no form that can be read, or of too many parts.
        RequestValidationError: a field is missing, unknown, given twice, or outside its limits.
    """
    form = await whole_form(request)
    try:
        try:
            fields = model.model_validate(values_of(form, model))
        except ValidationError as error:
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error
        yield fields
    finally:
        await form.close()


async def whole_form(request: Request) -> FormData:
    """A form when it has arrived.

    Raises:
        HTTPException: it is none that can be read, has too many parts, or its client left.
    """
    if (charset := charset_of(request.headers)) not in CHARSETS:
        raise HTTPException(400, f"forms are read as utf-8, not as {charset[:40]!r}")
    try:
        return await request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=SERVER_REQUEST_BYTES)
    except HTTPException:
        raise
    except ClientDisconnect as error:
        raise HTTPException(LEFT, "the client left") from error
    except Exception as error:  # whatever the reader of forms did not foresee: it is the client's form
        raise HTTPException(400, "the form cannot be read") from error


def charset_of(headers: Headers) -> str:
    """What the text of a form is said to be written in."""
    message = Message()
    message["content-type"] = headers.get("content-type", "")
    return str(message.get_content_charset("utf-8"))


def values_of(form: FormData, model: type[BaseModel]) -> dict[str, Any]:
    """Values by the names of fields; those of fields that are lists as lists.

    Raises:
        Refused: a field that has one value was given twice.
    """
    values: dict[str, Any] = {}
    for sent, value in form.multi_items():
        name = sent.removesuffix("[]")
        field = model.model_fields.get(name)
        if field is not None and is_list(field.annotation):
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Refused(f"{name[:40]} is given twice; give one")
        elif value != "":  # as a form is sent whose field was left empty
            values[name] = value
    return values


def is_list(annotation: Any) -> bool:
    """Whether a field takes several values."""
    return "list[" in str(annotation)


def form_schema(model: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI schema of a route says of its form, for ``openapi_extra``."""
    return {"requestBody": {"required": True, "content": {FORM: {"schema": model.model_json_schema()}}}}


def whole_number(value: Any) -> Any:
    """Digits as their number, for choices among numbers; all else as it is."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10 else value


async def upload_bytes(file: UploadFile, limit: int, name: str) -> bytes:
    """What an upload holds.

    Args:
        file: as it was sent.
        limit: bytes at most.
        name: of its field.

    Raises:
        Refused: it holds more.
    """
    data = await file.read(limit + 1)
    if len(data) > limit:
        raise Refused(f"{name} is over the limit of {limit / 1e6:g} MB")
    return data

