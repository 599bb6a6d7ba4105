"""The routes: each reads its form, makes a job, and writes what the worker gives as clients expect it."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import time
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, Request, UploadFile
from PIL import Image
from starlette.responses import JSONResponse, PlainTextResponse, Response

from photophone.data.uploads import run_decoder
from photophone.pipelines.speech_enhancement import full_scale
from photophone.pipelines.speech_fronts import Voice
from photophone.server.answers import WatchedStream, all_parts, encoded, events, first_part, while_connected
from photophone.server.errors import RESPONSES
from photophone.server.fields import ImageFields, RecordedVoice, SoundName, SpeechFields, VoiceName
from photophone.server.lines import Job, Refused
from photophone.server.models import Models
from photophone.server.sounds import FORMATS, SoundStream, whole_sound
from photophone.server.workers import EnhanceOrder, ImageOrder, SpeechOrder, Worker

CLIENT_RATE = 24_000
"""Of pcm, which has no header that could tell another one: what clients of OpenAI play."""
SSE = "text/event-stream"
SOUNDS = {"content": {kind.media_type: {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS.values()}}

router = APIRouter(responses=RESPONSES)


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


@router.post("/v1/audio/speech", response_class=Response,
             responses={200: {"content": {**SOUNDS["content"], SSE: {"schema": {"type": "string"}},
                                          "application/json": {"schema": {"type": "object"}}}}})
async def speech(fields: SpeechFields, request: Request) -> Response:
    """Speak a text."""
    state = request.app.state
    worker = state.models.worker("speech", fields.model)
    if fields.timestamp_granularities and fields.stream_format == "audio":
        raise Refused("timestamp_granularities need stream_format sse or json: sound has no room for them")
    rate = worker.pipeline.sample_rate
    target = fields.sample_rate or (CLIENT_RATE if fields.response_format == "pcm" else rate)
    sound = sound_stream(fields.response_format, rate, target)
    worker.line.check_room()
    order = speech_order(fields, await while_connected(request.receive, voice_of(fields.voice, state.models, worker)))
    job = Job(order, state.settings.seconds)
    worker.line.join(job)
    parts = job.parts()
    headers = {"x-seed": str(order.seed), "x-sample-rate": str(target)}
    kind = FORMATS[fields.response_format].media_type
    if fields.stream_format == "json":
        chunks = await while_connected(request.receive, all_parts(parts))
        return JSONResponse(spoken_facts(fields, np.concatenate(chunks), rate, target, job, worker), headers=headers)
    if not fields.stream:
        chunks = await while_connected(request.receive, all_parts(parts))
        data = whole_sound(fields.response_format, np.concatenate(chunks), rate, target)
        return Response(data, media_type=kind, headers=headers)
    first = await while_connected(request.receive, first_part(parts))  # what is refused is, before the answer begins
    chunks = encoded(first, parts, sound)
    if fields.stream_format == "sse":
        return WatchedStream(events(chunks, lambda: {"usage": usage(fields.input, sound.seconds, worker),
                                                     **times(fields, job)}), media_type=SSE, headers=headers)
    return WatchedStream(chunks, media_type=kind, headers=headers)


@router.post("/v1/images/generations")
async def images(fields: ImageFields, request: Request) -> dict[str, Any]:
    """Draw a prompt."""
    state = request.app.state
    worker = state.models.worker("image", fields.model)
    size = worker.pipeline.image_tokenizer.image_size
    if fields.size not in ("auto", f"{size}x{size}"):
        raise Refused(f"size must be auto or {size}x{size}, which this model makes")
    options = fields.model_dump(include={"num_inference_steps", "guidance_scale", "temperature"})
    seed = chosen_seed(fields.seed)
    seeds = tuple(range(seed, seed + fields.n))
    job = Job(ImageOrder(fields.prompt, seeds, options), state.settings.seconds)
    worker.line.join(job)
    (drawn,) = await while_connected(request.receive, all_parts(job.parts()))
    data = [{"b64_json": picture_text(image, fields.output_format), "seed": seed} for image, seed in zip(drawn, seeds)]
    return {"created": int(time.time()), "data": data, "output_format": fields.output_format}


@router.post("/v1/audio/enhance", response_class=Response, responses={200: SOUNDS})
async def enhance(request: Request, file: Annotated[UploadFile, File(description="A recording.")],
                  mix: Annotated[float, Form(ge=0, le=1, allow_inf_nan=False, description="Share of the clean speech; "
                                             "the rest is the recording.")] = 1.0,
                  response_format: Annotated[SoundName, Form()] = "wav") -> Response:
    """Make a recording clean; it keeps its rate and channels."""
    state = request.app.state
    worker = state.models.worker("enhance", None)
    worker.line.check_room()
    audio, rate = await while_connected(request.receive, asyncio.to_thread(decoded, await file.read()))
    sound_stream(response_format, rate, rate)
    job = Job(EnhanceOrder(audio, rate, mix), state.settings.seconds)
    worker.line.join(job)
    (made,) = await while_connected(request.receive, all_parts(job.parts()))
    scale = full_scale(made)
    data = await asyncio.to_thread(whole_sound, response_format, made * np.float32(scale), rate, rate)
    headers = {"x-sample-rate": str(rate), **({} if scale == 1 else {"x-scaled-by": f"{scale:.6f}"})}
    return Response(data, media_type=FORMATS[response_format].media_type, headers=headers)


async def voice_of(given: str | VoiceName | RecordedVoice, models: Models, worker: Worker) -> str | Voice | None:
    """What a pipeline is given as voice.

    Raises:
        HTTPException: it has no voice of this name.
        Refused: the recording is none that is read.
    """
    if not isinstance(given, RecordedVoice):
        return models.voice(worker, given if isinstance(given, str) else given.id)
    try:
        data = base64.b64decode(given.audio, validate=True)
    except ValueError as error:
        raise Refused("voice.audio is no base64; encode the bytes of a sound file") from error
    audio, rate = await asyncio.to_thread(decoded, data)
    return Voice(audio.mean(axis=0), rate, given.text)


def times(fields: SpeechFields, job: Job) -> dict[str, Any]:
    """When what was said, in seconds, as far as it was asked for; null where the model does not tell."""
    asked = fields.timestamp_granularities or ()
    words = [word for piece in job.told or () for word in piece.words]
    told = {}
    if "word" in asked:
        told["words"] = [{"word": word.text, "start": word.start, "end": word.end} for word in words] or None
    if "phoneme" in asked:
        told["phonemes"] = [{"phoneme": one.text, "start": one.start, "end": one.end}
                            for word in words for one in word.phonemes] or None
    return told


def spoken_facts(fields: SpeechFields, audio: np.ndarray, rate: int, target: int, job: Job,
                 worker: Worker) -> dict[str, Any]:
    """Speech and what belongs to it as one object, the sound in base64."""
    data, seconds = whole_sound(fields.response_format, audio, rate, target), len(audio) / rate
    return {"object": "audio.speech", "audio": base64.b64encode(data).decode("ascii"),
            "format": fields.response_format, "sample_rate": target, "duration": round(seconds, 4),
            "seed": job.order.seed, **times(fields, job), "usage": usage(fields.input, seconds, worker)}


def speech_order(fields: SpeechFields, voice: str | Voice | None) -> SpeechOrder:
    """What the worker is asked for."""
    options = fields.model_dump(include={"speed", "pause", "num_inference_steps", "guidance_scale", "temperature"})
    options |= {"voice": voice, "instruction": fields.instructions}
    return SpeechOrder(fields.input, chosen_seed(fields.seed), fields.stream, options)


def chosen_seed(given: int | None) -> int:
    """The seed that was asked for, or one drawn from the operating system."""
    return int.from_bytes(os.urandom(4), "big") if given is None else given


def sound_stream(name: str, source_rate: int, sample_rate: int) -> SoundStream:
    """What writes an answer.

    Raises:
        Refused: the format does not have the rate.
    """
    try:
        return SoundStream(name, source_rate, sample_rate)
    except ValueError as error:
        raise Refused(str(error)) from error


def usage(text: str, seconds: float, worker: Worker) -> dict[str, int]:
    """What OpenAI's clients expect at the end: characters that were read, and tokens that were made."""
    made = round(seconds * worker.pipeline.codec.frame_rate)
    return {"input_tokens": len(text), "output_tokens": made, "total_tokens": len(text) + made}


def picture_text(image: Image.Image, name: str) -> str:
    """A picture as a file of a format in base64."""
    file = io.BytesIO()
    image.convert("RGB").save(file, format=name)
    return base64.b64encode(file.getvalue()).decode("ascii")


def decoded(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of an upload, float32 (C, T), and their rate.

    Raises:
        Refused: it is no recording that is read.
    """
    try:
        return run_decoder("audio", data, 0)
    except ValueError as error:
        raise Refused(str(error)) from error
