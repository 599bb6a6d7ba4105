"""What stands between a text and a delayed-streams text to speech: its words, and a published voice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.generators.delayed_streams.script_condition import SpokenScript
from photophone.generators.delayed_streams.speech import DelayedSpeech
from photophone.loading.entry import Chain
from photophone.pipelines.speech_fronts import Request, SpeechFront, SpokenVoice, Voice
from photophone.pipelines.stream_chains import load_streams
from photophone.text.delayed_streams import check_script, script_words
from photophone.text.voxcpm import WrittenPiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ()
"""Further files that are taken: none."""
MOST_SPEAKERS = 5
"""Places for voices; those that are not taken hold a learned vector."""
VOICES = "kyutai/tts-voices"
NO_VOICE = (f"this model needs a voice: voice=Voice('NAME.safetensors'), a file of the hub repository {VOICES} that "
            "was made for it")
NO_RECORDING = ("recordings cannot be read: the network that makes voices of them is not published, take a file of "
                f"{VOICES}")


def load_parts(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None, hub: Mapping[str, Any],
               configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The components of :class:`photophone.TextToSpeechPipeline` for a release, see
    :func:`photophone.pipelines.stream_chains.load_streams`; ``chain`` is not read, the release names its files."""
    parts, commit = load_streams("TextToSpeechPipeline", name, folder, hub, files, configs)
    return {"speech_generator": parts["lm"], "codec": parts["mimi"], "text_tokenizer": parts["text_tokenizer"]}, commit


def front(pipeline: TextToSpeechPipeline) -> StreamedSpeech:
    """What stands between texts and the generator."""
    return StreamedSpeech(pipeline.speech_generator, pipeline.codec, pipeline.text_tokenizer)


@dataclass(frozen=True)
class VoiceFrames(SpokenVoice):
    """A published voice.

    Attributes:
        tokens: float (M, D), frames of all places for voices.
        text: None.
        mask: bool (M,), True where there is a voice.
        name: of the file, or None.
    """

    mask: Tensor | None = None
    name: str | None = None

    def facts(self) -> dict[str, Any]:
        return {"voice": self.name, "voice_frames": int(self.mask.sum())}


class StreamedSpeech(SpeechFront):
    """Words and a published voice, for :class:`photophone.DelayedSpeech`. A text is one piece: the model sees a window
    of it, so that a long one costs as much a second as a short one.

    Args:
        generator: reads the words.
        codec: of its codes.
        tokenizer: of its published folder.
    """

    takes_voices = True
    reads_markup = False  # it has breaks of its own
    cut_frames = 2  # they click, as the authors found too

    def __init__(self, generator: DelayedSpeech, codec: AudioCodec, tokenizer: PreTrainedTokenizerBase) -> None:
        self.generator, self.codec, self.tokenizer = generator, codec, tokenizer

    def check(self, text: str) -> None:
        """Refuse what has no words, or a break that is too long."""
        check_script(text)

    def pieces(self, text: str) -> list[WrittenPiece]:
        """The whole text."""
        return [WrittenPiece(text, "paragraph")]

    def condition(self, requests: list[Request]) -> SpokenScript:
        """Words and voices."""
        rows = [[(word.ids, word.padding) for word in
                 script_words(self.tokenizer, request.piece.text, self.codec.frame_rate,
                              speakers=self.generator.voice_name is not None)] for request in requests]
        return SpokenScript.of_rows(rows, [(request.voice.tokens, request.voice.mask) for request in requests])

    def no_voice(self) -> NoReturn:
        """A voice has to be given."""
        raise ValueError(NO_VOICE)

    def read_voice(self, voice: Voice) -> VoiceFrames:
        """A published file of a voice, or its tensor float (1, D, N).

        Raises:
            ValueError: a recording, which only the authors can turn into such a file; another file, or one that was
                made for other weights.
        """
        if self.generator.voice_name is None:
            raise ValueError("these weights know voices by recordings in front of the speech, which is not built here; "
                             "take kyutai-tts-1.6b-en-fr")
        if isinstance(voice.audio, str | Path):
            values, name = self._read_file(Path(voice.audio)), Path(voice.audio).name
        else:
            values, name = voice.audio, None
        dim = self.generator.voice_dim
        if not isinstance(values, Tensor) or values.ndim != 3 or values.shape[:2] != (1, dim) or \
                not values.is_floating_point() or not values.isfinite().all() or not values.shape[2]:
            found = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"a voice must be float (1, {dim}, N) without NaN, got {found}; {NO_RECORDING}")
        frames = values[0].T.float()
        count = len(frames)
        missing = frames.new_zeros((MOST_SPEAKERS - 1) * count, dim)
        return VoiceFrames(torch.cat([frames, missing]), None, torch.arange(MOST_SPEAKERS * count) < count, name)

    def _read_file(self, path: Path) -> Tensor:
        """The frames in a published file, which must have been made for these weights."""
        if path.suffix != ".safetensors":
            raise ValueError(f"{path} is no published voice; {NO_RECORDING}")
        if not path.is_file():
            raise ValueError(f"no such voice: {path}; {NO_VOICE}")
        try:
            with safe_open(path, "pt") as file:
                facts, keys = file.metadata() or {}, list(file.keys())
                values = file.get_tensor(self.generator.voice_name) if self.generator.voice_name in keys else None
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        if values is None:
            raise ValueError(f"{path} holds no {self.generator.voice_name} but {', '.join(keys) or 'nothing'}; "
                             f"{NO_VOICE}")
        made_for = f"{facts['sig']}@{facts['epoch']}" if {"sig", "epoch"} <= set(facts) else None
        own = self.generator.config.signature
        if made_for and own and made_for != own:
            raise ValueError(f"{path} was made for the weights {made_for}, these are {own}; take the file of that "
                             f"voice whose name ends in .{own}.safetensors")
        return values
