"""The routes of pictures: from a prompt, from a picture, and a part of a picture drawn anew."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image
from starlette.datastructures import UploadFile

from photophone.core.limits import SERVER_PICTURE_BYTES
from photophone.data.uploads import run_decoder
from photophone.pipelines.picture_edit import Edit, read_mask, read_picture
from photophone.server.answers import all_parts, while_connected
from photophone.server.errors import RESPONSES
from photophone.server.fields import EditForm, ImageFields, PictureOptions, VariationForm
from photophone.server.forms import form_schema, read_form, upload_bytes
from photophone.server.lines import Job, Refused
from photophone.server.orders import ImageOrder, chosen_seed
from photophone.server.workers import Worker

SAMPLER = {"num_inference_steps", "guidance_scale", "temperature", "negative_prompt"}
"""Fields that are options of the pipeline by the same name."""
STRENGTH, ROUNDS = 0.6, 8
"""Of edits that do not say, as on the command line."""

router = APIRouter(responses=RESPONSES)


@router.post("/v1/images/generations")
async def images(fields: ImageFields, request: Request) -> dict[str, Any]:
    """Draw a prompt."""
    worker = painter(fields, request)
    if fields.to_prompt is not None and fields.n < 2:
        raise Refused("to_prompt makes pictures on the way from one prompt to another; n must be 2 at least")
    return await drawn(fields, worker, fields.prompt, None, request, fields.to_prompt)


@router.post("/v1/images/edits", openapi_extra=form_schema(EditForm))
async def edits(request: Request) -> dict[str, Any]:
    """Draw a part of a picture anew, or a picture like one that is given."""
    async with read_form(request, EditForm) as fields:
        worker = painter(fields, request)
        if fields.mask is None and fields.rounds is not None:
            raise Refused("rounds belong to a mask; give one, or strength in their place")
        if fields.mask is not None and fields.strength is not None:
            raise Refused("strength belongs to edits of the whole picture; with a mask give rounds")
        edit = await while_connected(request.receive, edit_of(fields, fields.mask, fields.rounds or ROUNDS, worker))
    return await drawn(fields, worker, fields.prompt, edit, request)


@router.post("/v1/images/variations", openapi_extra=form_schema(VariationForm))
async def variations(request: Request) -> dict[str, Any]:
    """Draw pictures like one that is given."""
    async with read_form(request, VariationForm) as fields:
        worker = painter(fields, request)
        edit = await while_connected(request.receive, edit_of(fields, None, 1, worker))
    return await drawn(fields, worker, fields.prompt, edit, request)


def painter(fields: PictureOptions, request: Request) -> Worker:
    """The worker that draws what is asked for.

    Raises:
        HTTPException: there is no such model.
        Refused: it does not draw this.
        Full: too many wait.
    """
    worker = request.app.state.models.worker("image", fields.model)
    known = ["auto", *(f"{size}x{size}" for size in worker.pipeline.sizes)]
    if fields.size not in known:
        raise Refused(f"size must be {' or '.join(known)}, which this model makes")
    if fields.transparent and fields.background == "opaque":
        raise Refused("transparent and background 'opaque' contradict each other; give one of them")
    if is_transparent(fields) and fields.output_format == "jpeg":
        raise Refused("jpeg cannot hold a transparent picture; give output_format png or webp")
    worker.line.check_room()
    return worker


async def drawn(fields: PictureOptions, worker: Worker, prompt: str | None, edit: Edit | None, request: Request,
                to_prompt: str | None = None) -> dict[str, Any]:
    """The answer with the pictures."""
    size = worker.pipeline.sizes[0] if fields.size == "auto" else int(fields.size.partition("x")[0])
    options = fields.model_dump(include=SAMPLER) | {"transparent": is_transparent(fields), "height": size,
                                                    "width": size}
    seed = chosen_seed(fields.seed)
    seeds = tuple(range(seed, seed + fields.n))
    job = Job(ImageOrder(prompt, seeds, options, edit, to_prompt), request.app.state.settings.seconds)
    worker.line.join(job)
    (made,) = await while_connected(request.receive, all_parts(job.parts()))
    told = seeds if to_prompt is None else [seed] * fields.n
    data = [{"b64_json": picture_text(image, fields.output_format), "seed": own} for image, own in zip(made, told)]
    return {"created": int(time.time()), "data": data, "output_format": fields.output_format,
            "background": "transparent" if is_transparent(fields) else "opaque"}


def is_transparent(fields: PictureOptions) -> bool:
    """Whether the ground is cut away."""
    return fields.transparent or fields.background == "transparent"


async def edit_of(fields: VariationForm, mask: UploadFile | None, rounds: int, worker: Worker) -> Edit:
    """The edit that a form asks for.

    Raises:
        Refused: a picture that cannot be read, or a mask of nothing or of everything.
    """
    size = worker.pipeline.image_tokenizer.image_size
    picture = await decoded_picture(fields.image, "image", size)
    region = None if mask is None else await decoded_picture(mask, "mask", size)
    strength = STRENGTH if fields.strength is None else fields.strength
    try:
        if region is None:
            return Edit(read_picture(picture, size), strength)
        return Edit(read_picture(picture, size), 1.0, read_mask(region, size), rounds)
    except ValueError as error:
        raise Refused(str(error)) from error


async def decoded_picture(file: UploadFile, kind: str, size: int) -> Image.Image:
    """An uploaded picture or mask at the model's size.

    Raises:
        Refused: it is none that is read; names the field.
    """
    data = await upload_bytes(file, SERVER_PICTURE_BYTES, kind)
    try:
        array, _ = await asyncio.to_thread(run_decoder, kind, data, size)
    except ValueError as error:
        raise Refused(f"{kind}: {error}") from error
    return Image.fromarray(array)


def picture_text(image: Image.Image, name: str) -> str:
    """A picture as a file of a format in base64."""
    file = io.BytesIO()
    image.save(file, format=name)
    return base64.b64encode(file.getvalue()).decode("ascii")
