"""The forms of requests: every field with its kind and its limits, those of OpenAI's API and some of our own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.datastructures import UploadFile

from photophone.core.limits import (
    MAX_EDIT_ROUNDS,
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
from photophone.server.forms import BINARY, Upload, whole_number

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


class SpeechOptions(BaseModel):
    """What is asked for speech, but for the voice."""

    model: Name
    input: Annotated[str, Field(min_length=1, max_length=SERVER_TEXT_CHARACTERS, description="What to say.")]
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


class SpeechFields(SpeechOptions, Fields):
    """``POST /v1/audio/speech``."""

    voice: Name | VoiceName | RecordedVoice = "default"


def file_or_name(value: Any) -> UploadFile | str:
    """Refuse a voice that is neither a file nor a name, for pydantic."""
    if isinstance(value, UploadFile) or (isinstance(value, str) and len(value) <= SERVER_NAME_CHARACTERS):
        return value
    raise PydanticCustomError("voice_expected", "a file, or a name of at most {most} characters, is expected",
                              {"most": SERVER_NAME_CHARACTERS})


class FormFields(BaseModel):
    """Base of multipart forms, whose fields are text: numbers and switches are read from it."""

    model_config = ConfigDict(extra="forbid")


class SpeechForm(SpeechOptions, FormFields):
    """``POST /v1/audio/speech`` as a form, with the recording of a voice as a file."""

    voice: Annotated[Any, PlainValidator(file_or_name), WithJsonSchema(
        {"anyOf": [BINARY, {"type": "string", "minLength": 1, "maxLength": SERVER_NAME_CHARACTERS}],
         "default": "default"}), Field(description="A sound file, for models that speak in any voice; or a name.")
    ] = "default"
    voice_text: Annotated[str | None, Field(max_length=SERVER_INSTRUCTION_CHARACTERS,
                                            description="The words of the recording, which models that continue it "
                                                        "need.")] = None
    sample_rate: Annotated[SampleRate | None, BeforeValidator(whole_number)] = None


class EnhanceForm(FormFields):
    """``POST /v1/audio/enhance``."""

    file: Annotated[Upload, Field(description="A recording.")]
    model: Name | None = None
    mix: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False,
                                       description="Share of the clean speech; the rest is the recording. When not "
                                                   "given, what the model is best with.")] = None
    response_format: SoundName = "wav"


class PictureOptions(BaseModel):
    """What all routes that draw take."""

    model: Name | None = None
    n: Annotated[int, Field(ge=1, le=SERVER_IMAGES)] = 1
    size: Annotated[str, Field(max_length=20, description="`auto`, or a size that the model makes, such as "
                                                         "`128x128`.")] = "auto"
    response_format: Annotated[Literal["b64_json"], Field(description="The server keeps no files, so it has no "
                                                                      "addresses to give.")] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    background: Annotated[Literal["transparent", "opaque", "auto"], Field(
        description="transparent: the white ground is cut away, for models that can; png and webp.")] = "auto"
    transparent: Annotated[bool, Field(description="The same as a switch.")] = False
    negative_prompt: Annotated[str | None, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS,
                                                 description="What the picture shall not show.")] = None
    seed: Annotated[Seed, Field(description="Of the first image; the next ones take the next seeds.")] = None
    num_inference_steps: Steps = None
    guidance_scale: Guidance = None
    temperature: Temperature = None
    user: User = None


class ImageFields(PictureOptions, Fields):
    """``POST /v1/images/generations``."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS)]
    to_prompt: Annotated[str | None, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS,
                                           description="A second prompt: the n pictures, two at least, lie on the way "
                                                       "to it, all from one seed.")] = None


class VariationForm(PictureOptions, FormFields):
    """``POST /v1/images/variations``."""

    image: Annotated[Upload, Field(description="A picture: PNG, JPEG, WebP or GIF; its middle square is taken.")]
    prompt: Annotated[str | None, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS,
                                        description="What the variations show.")] = None
    strength: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False, description="0.1 changes details, 1 keeps "
                                            "nothing; 0.6 when not given.")] = None


class EditForm(VariationForm):
    """``POST /v1/images/edits``."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS,
                                 description="What the whole picture shows then.")]
    mask: Annotated[Upload | None, Field(description="A picture of the same shape. What is transparent in it is drawn "
                                                     "anew; where nothing is, what is white. Without it the whole "
                                                     "picture changes, by its strength.")] = None
    rounds: Annotated[int | None, Field(ge=1, le=MAX_EDIT_ROUNDS, description="Of drawing, with a mask; 8 when not "
                                                                              "given, more fit better.")] = None
