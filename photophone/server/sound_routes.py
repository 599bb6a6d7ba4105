"""The routes of sound: each reads its form, makes a job, and writes what the worker gives as clients expect it."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from photophone.core.limits import SERVER_UPLOAD_BYTES, SERVER_VOICE_BYTES
from photophone.data.uploads import run_decoder
from photophone.pipelines.speech_enhancement import full_scale
from photophone.pipelines.speech_fronts import Voice
from photophone.server.answers import WatchedStream, all_parts, encoded, events, first_part, while_connected
from photophone.server.errors import RESPONSES
from photophone.server.fields import EnhanceForm, RecordedVoice, SpeechFields, SpeechForm, SpeechOptions
from photophone.server.forms import FormRoute, form_schema, read_form, upload_bytes
from photophone.server.lines import Job, Refused
from photophone.server.models import Models
from photophone.server.orders import EnhanceOrder, SpeechOrder, chosen_seed
from photophone.server.sounds import FORMATS, SoundStream, whole_sound
from photophone.server.workers import Worker

CLIENT_RATE = 24_000
"""Of pcm, which has no header that could tell another one: what clients of OpenAI play."""
VOICE_FILE_BYTES = SERVER_VOICE_BYTES * 3 // 4
"""Of a recorded voice as a file: as much as base64 has room for."""
SSE = "text/event-stream"
SOUNDS = {"content": {kind.media_type: {"schema": {"type": "string", "format": "binary"}} for kind in FORMATS.values()}}

Recording = tuple[bytes, str | None]
"""A sound file, and the words of it or None."""

router = APIRouter(responses=RESPONSES)


async def speech_form(request: Request) -> Response:
    """Speak a text that comes as a form, maybe with a voice as a file."""
    async with read_form(request, SpeechForm) as fields:
        given = fields.voice
        if not isinstance(given, UploadFile):
            if fields.voice_text is not None:
                raise Refused("voice_text belongs to a recording; give one as the file voice")
            return await spoken(fields, request, given)
        data = await upload_bytes(given, VOICE_FILE_BYTES, "voice")
    return await spoken(fields, request, (data, fields.voice_text))


router.add_api_route("/v1/audio/speech", speech_form, methods=["POST"], include_in_schema=False,
                     route_class_override=FormRoute)  # before the route that takes JSON


@router.post("/v1/audio/speech", response_class=Response, openapi_extra=form_schema(SpeechForm),
             responses={200: {"content": {**SOUNDS["content"], SSE: {"schema": {"type": "string"}},
                                          "application/json": {"schema": {"type": "object"}}}}})
async def speech(fields: SpeechFields, request: Request) -> Response:
    """Speak a text."""
    given = fields.voice
    if not isinstance(given, RecordedVoice):
        return await spoken(fields, request, given if isinstance(given, str) else given.id)
    try:
        data = base64.b64decode(given.audio, validate=True)
    except ValueError as error:
        raise Refused("voice.audio is no base64; encode the bytes of a sound file") from error
    return await spoken(fields, request, (data, given.text))


async def spoken(fields: SpeechOptions, request: Request, voice: Recording | str) -> Response:
    """The answer with the speech.

    Args:
        fields: of JSON or of a form.
        voice: a name, or the bytes of a recording and its words.
    """
    state = request.app.state
    worker = state.models.worker("speech", fields.model)
    if fields.timestamp_granularities and fields.stream_format == "audio":
        raise Refused("timestamp_granularities need stream_format sse or json: sound has no room for them")
    rate = worker.pipeline.sample_rate
    target = fields.sample_rate or (CLIENT_RATE if fields.response_format == "pcm" else rate)
    sound = sound_stream(fields.response_format, rate, target)
    worker.line.check_room()
    order = speech_order(fields, await while_connected(request.receive, voice_of(voice, state.models, worker)))
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


@router.post("/v1/audio/enhance", response_class=Response, responses={200: SOUNDS},
             openapi_extra=form_schema(EnhanceForm))
async def enhance(request: Request) -> Response:
    """Make a recording clean; it keeps its rate and channels."""
    state = request.app.state
    async with read_form(request, EnhanceForm) as fields:
        worker = state.models.worker("enhance", fields.model)
        worker.line.check_room()
        data = await upload_bytes(fields.file, SERVER_UPLOAD_BYTES, "file")
    audio, rate = await while_connected(request.receive, asyncio.to_thread(decoded, data, "file"))
    sound_stream(fields.response_format, rate, rate)
    job = Job(EnhanceOrder(audio, rate, fields.mix), state.settings.seconds)
    worker.line.join(job)
    (made,) = await while_connected(request.receive, all_parts(job.parts()))
    scale = full_scale(made)
    data = await asyncio.to_thread(whole_sound, fields.response_format, made * np.float32(scale), rate, rate)
    headers = {"x-sample-rate": str(rate), **({} if scale == 1 else {"x-scaled-by": f"{scale:.6f}"})}
    return Response(data, media_type=FORMATS[fields.response_format].media_type, headers=headers)


async def voice_of(given: Recording | str, models: Models, worker: Worker) -> str | Voice | None:
    """What a pipeline is given as voice.

    Raises:
        HTTPException: it has no voice of this name.
        Refused: the model takes no recordings, or this is none that is read.
    """
    if isinstance(given, str):
        return models.voice(worker, given)
    if not worker.pipeline.front.takes_voices:
        raise Refused("voice: this model has one voice of its own and takes no recording; leave voice out, or ask a "
                      "server whose model speaks in any voice")
    audio, rate = await asyncio.to_thread(decoded, given[0], "voice")
    return Voice(audio.mean(axis=0), rate, given[1])


def times(fields: SpeechOptions, job: Job) -> dict[str, Any]:
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


def spoken_facts(fields: SpeechOptions, audio: np.ndarray, rate: int, target: int, job: Job,
                 worker: Worker) -> dict[str, Any]:
    """Speech and what belongs to it as one object, the sound in base64."""
    data, seconds = whole_sound(fields.response_format, audio, rate, target), len(audio) / rate
    return {"object": "audio.speech", "audio": base64.b64encode(data).decode("ascii"),
            "format": fields.response_format, "sample_rate": target, "duration": round(seconds, 4),
            "seed": job.order.seed, **times(fields, job), "usage": usage(fields.input, seconds, worker)}


def speech_order(fields: SpeechOptions, voice: str | Voice | None) -> SpeechOrder:
    """What the worker is asked for."""
    options = fields.model_dump(include={"speed", "pause", "num_inference_steps", "guidance_scale", "temperature"})
    options |= {"voice": voice, "instruction": fields.instructions}
    return SpeechOrder(fields.input, chosen_seed(fields.seed), fields.stream, options)


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


def decoded(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """The samples of an upload, float32 (C, T), and their rate.

    Args:
        data: the file.
        name: of its field.

    Raises:
        Refused: it is no recording that is read.
    """
    try:
        return run_decoder("audio", data, 0)
    except ValueError as error:
        raise Refused(f"{name}: {error}") from error
