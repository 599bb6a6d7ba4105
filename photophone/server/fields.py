"""The forms of requests: every field with its kind and its limits, those of OpenAI's API and some of our own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from photophone.core.limits import (
    MAX_GUIDANCE_SCALE,
    MAX_PAUSE_SECONDS,
    MAX_PROMPT_CHARACTERS,
    MAX_TEMPERATURE,
    SERVER_IMAGES,
    SERVER_INSTRUCTION_CHARACTERS,
    SERVER_NAME_CHARACTERS,
    SERVER_SEED,
    SERVER_STEPS,
    SERVER_TEXT_CHARACTERS,
    SERVER_VOICE_BYTES,
    SPEED_RANGE,
)

Name = Annotated[str, Field(min_length=1, max_length=SERVER_NAME_CHARACTERS)]
Seed = Annotated[int | None, Field(ge=0, le=SERVER_SEED, description="Makes the same again; drawn when not given.")]
Steps = Annotated[int | None, Field(ge=1, le=SERVER_STEPS)]
Guidance = Annotated[float | None, Field(ge=0, le=MAX_GUIDANCE_SCALE, allow_inf_nan=False)]
Temperature = Annotated[float | None, Field(ge=0, le=MAX_TEMPERATURE, allow_inf_nan=False)]
User = Annotated[str | None, Field(max_length=SERVER_NAME_CHARACTERS, description="Taken and not used.")]
SoundName = Literal["mp3", "opus", "flac", "wav", "pcm"]
SampleRate = Literal[8000, 16000, 24000, 48000]


class Fields(BaseModel):
    """Base of all forms: nothing is converted in silence, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class VoiceName(Fields):
    """A voice by its id, as OpenAI's custom voices are given."""

    id: Name


class RecordedVoice(Fields):
    """A voice by a recording of it, for models that speak in any voice."""

    audio: Annotated[str, Field(min_length=4, max_length=SERVER_VOICE_BYTES, description="A sound file in base64.")]
    text: Annotated[str | None, Field(min_length=1, max_length=SERVER_INSTRUCTION_CHARACTERS,
                                      description="The words of the recording, which models that continue it "
                                                  "need.")] = None


class SpeechFields(Fields):
    """``POST /v1/audio/speech``."""

    model: Name
    input: Annotated[str, Field(min_length=1, max_length=SERVER_TEXT_CHARACTERS, description="What to say.")]
    voice: Name | VoiceName | RecordedVoice = "default"
    instructions: Annotated[str | None, Field(max_length=SERVER_INSTRUCTION_CHARACTERS,
                                              description="How to speak, for models that take it.")] = None
    response_format: SoundName = "mp3"
    sample_rate: Annotated[SampleRate | None, Field(description="In Hz; 24000 for pcm when not given, as clients expect"
                                                                ", else the model's own.")] = None
    speed: Annotated[float, Field(ge=SPEED_RANGE[0], le=SPEED_RANGE[1], allow_inf_nan=False)] = 1.0
    stream_format: Annotated[Literal["audio", "sse", "json"],
                             Field(description="Bytes, server-sent events, or one JSON object when all is made."
                                   )] = "audio"
    timestamp_granularities: Annotated[list[Literal["word", "phoneme"]] | None,
                                       Field(max_length=2, description="When what is said, in the last event of sse or "
                                                                       "in the object of json.")] = None
    stream: Annotated[bool, Field(description="Answer while speech is made; false: one file whose header knows its "
                                              "length.")] = True
    pause: Annotated[float, Field(ge=0, le=MAX_PAUSE_SECONDS, allow_inf_nan=False,
                                  description="Seconds of silence between sentences.")] = 0.15
    seed: Seed = None
    num_inference_steps: Steps = None
    guidance_scale: Guidance = None
    temperature: Temperature = None


class ImageFields(Fields):
    """``POST /v1/images/generations``."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    model: Name | None = None
    n: Annotated[int, Field(ge=1, le=SERVER_IMAGES)] = 1
    size: Annotated[str, Field(max_length=20, description="`auto`, or the size that the model makes.")] = "auto"
    response_format: Annotated[Literal["b64_json"], Field(description="The server keeps no files, so it has no "
                                                                      "addresses to give.")] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    seed: Annotated[Seed, Field(description="Of the first image; the next ones take the next seeds.")] = None
    num_inference_steps: Steps = None
    guidance_scale: Guidance = None
    temperature: Temperature = None
    user: User = None
