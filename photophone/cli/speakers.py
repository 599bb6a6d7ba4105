"""Which model speaks, in which language and with whose voice: what ``photophone speak`` asks before it loads one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from photophone.cli.common import load_pipeline, named_values

if TYPE_CHECKING:
    from photophone.loading.entry import ModelEntry
    from photophone.pipelines.speech_fronts import Voice
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

VoiceOption = Annotated[Path | None, typer.Option(
    "--voice", help="Recording of the voice to speak with, for models that take one, or the name of a voice that the "
                    "model has, or a mixture such as emma=2,george=1.")]
VoiceTextOption = Annotated[str | None, typer.Option("--voice-text", help="The words of that recording.")]
ReferenceOption = Annotated[Path | None, typer.Option(
    "--voice-reference", help="A second recording of the speaker, for VoxCPM 2; it may be the same.")]
InstructionOption = Annotated[str | None, typer.Option(
    "--instruction", help="How to speak, in words, for CosyVoice and VoxCPM 2.")]
SecondVoiceOption = Annotated[Path | None, typer.Option(
    "--second-voice", help="Of one who speaks every second line, for models that know two.")]
LanguageOption = Annotated[str | None, typer.Option(
    "--language", help="Of the text, such as french: it chooses the weights where a family has some for each (-m "
                       "pocket-tts), and is refused where the model does not speak it.")]
WeightsOption = Annotated[list[str] | None, typer.Option(
    "--weights", help="For a registered model: its published folder, or NAME=FILE for one of its files; may be "
                      "repeated. From the hub when not given.")]
BUILT_IN = "photophone/"


def speaking_entries() -> list[ModelEntry]:
    """Registered models that become a text to speech."""
    from photophone.loading.registry import REGISTRY

    return [entry for entry in REGISTRY.values()
            if entry.chain is not None and entry.chain.pipeline == "TextToSpeechPipeline"]


def choose_model(model: str, language: str | None = None) -> str:
    """The registered name for a name, the begin of several, or a hub id; others stay as they are.

    Args:
        model: what the user gave.
        language: of the text, in English; where one name of several is to be chosen, None is English.

    Raises:
        ValueError: the model does not speak the language; or a language for a folder, which does not say what it
            speaks.
    """
    wanted = None if language is None else language.lower()
    if model.startswith(BUILT_IN):
        if wanted not in (None, "english"):
            raise ValueError(f"{model} speaks English, not {language}; {_who_speaks(wanted)}")
        return model
    entries = speaking_entries()
    found = [entry for entry in entries if entry.name == model] or \
            [entry for entry in entries if entry.hub_id == model or entry.name.startswith(f"{model}-")]
    if Path(model).is_dir() or not found:
        if wanted is not None:
            raise ValueError(f"--language belongs to registered models; nothing is known of {model}. "
                             f"{_who_speaks(wanted)}")
        return model
    if len(found) == 1 and wanted is None:
        return found[0].name
    fitting = [entry for entry in found if not entry.languages or (wanted or "english") in entry.languages]
    if not fitting and wanted is None:
        raise ValueError(f"{model} may be {', '.join(entry.name for entry in found)}; give one, or --language")
    if not fitting:
        spoken = sorted({language for entry in found for language in entry.languages})
        raise ValueError(f"{model} speaks {', '.join(spoken)}, not {language}")
    return fitting[0].name


def _who_speaks(language: str | None) -> str:
    """Registered models for a language."""
    names = [entry.name for entry in speaking_entries() if language in entry.languages]
    return f"{language} is spoken by {', '.join(names)}" if names else f"no registered model names {language}"


def check_texts(texts: Sequence[str], model: str) -> None:
    """Refuse texts before a model is loaded: those without words, and for our own voices what is not English.

    Raises:
        ValueError: see :func:`photophone.text.speech_text.check_text` and :func:`photophone.text.voxcpm.check_words`.
    """
    from photophone.text.speech_text import check_text
    from photophone.text.voxcpm import check_words

    check = check_text if _reads_phonemes(model) else check_words
    for one in texts:
        check(one)


def _reads_phonemes(model: str) -> bool:
    """Whether a model is the built-in one, or a saved one without a vocabulary of its own."""
    from photophone.core.weight_files import read_json_object

    index = Path(model) / "model_index.json"
    if not index.is_file():
        return model.startswith(BUILT_IN)
    return (read_json_object(index).get("text_tokenizer") or [None])[0] is None


@dataclass(frozen=True)
class Speaker:
    """Who speaks.

    Attributes:
        model: of :func:`choose_model`.
        weights: of a registered model, see :func:`load_speaker`.
        voice, text, reference, second: recordings, or the name of a voice, and the words of the first.
        instruction: how to speak.
    """

    model: str
    weights: list[str] | None
    voice: Path | None
    text: str | None
    reference: Path | None
    second: Path | None
    instruction: str | None

    def check(self, texts: Sequence[str]) -> None:
        """Refuse what cannot be, before a model is loaded.

        Raises:
            ValueError: texts, see :func:`check_texts`; words or another recording without a first one, or for two.
        """
        check_texts(texts, self.model)
        if self.voice is None and (self.text is not None or self.reference is not None):
            raise ValueError("--voice-text and --voice-reference belong to a recording; give it with --voice")
        if self.voice is None and self.second is not None:
            raise ValueError("--second-voice speaks every second line; give --voice for the others")
        if self.second is not None and (self.text is not None or self.reference is not None):
            raise ValueError("two voices are given without words; leave out --voice-text and --voice-reference")

    def load(self, device: str, dtype: str) -> TextToSpeechPipeline:
        """See :func:`load_speaker`."""
        return load_speaker(self.model, device, dtype, self.weights)

    def voice_for(self, pipeline: TextToSpeechPipeline) -> Voice | str | list[Voice] | None:
        """What a pipeline is given: recordings, a name, or nothing."""
        from photophone.pipelines.speech_fronts import Voice

        if self.voice is None:
            return None
        if self.second is not None:
            return [Voice(self.voice), Voice(self.second)]
        if pipeline.voices and not self.voice.is_file():
            return str(self.voice)
        return Voice(self.voice, text=self.text, reference=self.reference)

    def facts(self, pipeline: TextToSpeechPipeline) -> dict[str, Any]:
        """What the JSON beside a file says of the voice."""
        told = {} if self.instruction is None else {"instruction": self.instruction}
        voice = self.voice_for(pipeline)
        if voice is None or isinstance(voice, str):
            return told if voice is None else {"voice": voice, **told}
        if isinstance(voice, list):
            return {"voice": [str(one.audio) for one in voice], **told}
        reference = {} if voice.reference is None else {"voice_reference": str(voice.reference)}
        return {"voice": str(voice.audio), "voice_text": voice.text, **reference, **told}


def load_speaker(model: str, device: str, dtype: str, weights: list[str] | None = None) -> TextToSpeechPipeline:
    """The pipeline of a built-in, saved or registered model.

    Args:
        model: see :func:`choose_model`.
        device, dtype: where and in what precision to compute.
        weights: a published folder or hub id, or NAME=FILE; for registered models.

    Raises:
        ValueError: there is no such model, or its files are missing or do not fit.
    """
    from photophone.loading.registry import REGISTRY
    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

    folder = Path(model)
    if model in REGISTRY and not model.startswith(BUILT_IN) and not folder.is_dir():
        named = [text for text in weights or [] if "=" in text]
        places = [text for text in weights or [] if "=" not in text]
        if len(places) > 1:
            raise ValueError(f"--weights names two folders: {', '.join(places)}")
        files = named_values("--weights", named) | ({"folder": places[0]} if places else {})
        return load_pipeline(TextToSpeechPipeline, model, device, dtype, files)
    if weights:
        raise ValueError(f"--weights belongs to registered models; {model} is not one")
    if folder.is_dir() and not (folder / "model_index.json").is_file():
        raise ValueError(f"{model} holds no saved pipeline; for a published folder give -m its registered name, such "
                         f"as pocket-tts-french, and --weights {model}")
    return load_pipeline(TextToSpeechPipeline, model, device, dtype)
