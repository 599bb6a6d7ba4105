"""What stands between a text and a delayed-streams text to speech: its words, and a published voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from photophone.pipelines.speech_fronts import Request, SpeechFront, SpokenVoice, Voice, voice_samples
from photophone.pipelines.stream_chains import load_streams
from photophone.text.delayed_streams import BREAK, check_script, script_words
from photophone.text.voxcpm import WrittenPiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.pipelines.text_to_speech import TextToSpeechPipeline

OTHERS = ()
"""Further files that are taken: none."""
MOST_SPEAKERS = 5
"""Places for voices; those that are not taken hold a learned vector."""
MOST_TURNS = 2
"""Who speak in turns: the models know a main speaker and another one."""
LEFT_OUT = 2
"""Frames at the end of a recording that the authors do not read."""
VOICES = "kyutai/tts-voices"
NO_PREFIX = "this model needs a voice: voice=Voice(recording), about ten seconds"
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
    """One published voice, or two that speak in turns.

    Attributes:
        tokens: float (M, D), frames of all places for voices.
        text: None.
        mask: bool (M,), True where there is a voice.
        names: of the files, or None.
    """

    mask: Tensor | None = None
    names: tuple[str | None, ...] = (None,)

    def facts(self) -> dict[str, Any]:
        voice = list(self.names) if len(self.names) > 1 else self.names[0]
        return {"voice": voice, "voice_frames": int(self.mask.sum())}


@dataclass(frozen=True)
class RecordedVoice(SpokenVoice):
    """A recording that speech goes on from.

    Attributes:
        tokens: Long (Q, P), its codes.
        text: None, its words are not read.
    """

    def facts(self) -> dict[str, Any]:
        return {"voice": None, "voice_frames": self.tokens.shape[1]}


class StreamedSpeech(SpeechFront):
    """Words and a published or recorded voice, for :class:`photophone.DelayedSpeech`. A text is one piece: the model
    sees a window of it, so that a long one costs as much a second as a short one.

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
        published = self.generator.voice_name is not None
        rows = [[(word.ids, word.padding) for word in
                 script_words(self.tokenizer, request.piece.text, self.codec.frame_rate, speakers=published,
                              turns=published and len(request.voice.names) > 1)] for request in requests]
        voices = [request.voice for request in requests]
        if published:
            return SpokenScript.of_rows(rows, [(voice.tokens, voice.mask) for voice in voices])
        nothing = torch.zeros(1, 0), torch.zeros(1, dtype=torch.bool)
        return SpokenScript.of_rows(rows, [nothing] * len(rows), [voice.tokens for voice in voices])

    def longest_pause(self, text: str) -> float:
        """The longest break."""
        return max(map(float, BREAK.findall(text)), default=0.0)

    def no_voice(self) -> NoReturn:
        """A voice has to be given."""
        raise ValueError(NO_VOICE if self.generator.voice_name is not None else NO_PREFIX)

    def read_voice(self, voice: Voice) -> VoiceFrames | RecordedVoice:
        """A published file of a voice, or its tensor float (1, D, N); a recording for models that go on from one.

        Raises:
            ValueError: a recording, which only the authors can turn into such a file; another file, or one that was
                made for other weights; a recording that is too short.
        """
        return self._recorded(voice) if self.generator.voice_name is None else self._published([voice])

    def read_turns(self, voices: Sequence[Voice]) -> VoiceFrames:
        """Two published voices; each line of a text is said by the next one.

        Raises:
            ValueError: not two, or as :meth:`read_voice`.
        """
        if self.generator.voice_name is None:
            raise ValueError("these weights speak with one voice, that of a recording; kyutai-tts-1.6b-en-fr knows "
                             "two in turns")
        if len(voices) != MOST_TURNS:
            raise ValueError(f"{len(voices)} voices given; {MOST_TURNS} speak in turns")
        return self._published(voices)

    def lead_in(self, voice: SpokenVoice) -> Tensor | None:
        """The codes of a recording, so that its end goes over into the speech."""
        return voice.tokens[None] if isinstance(voice, RecordedVoice) else None

    def _recorded(self, voice: Voice) -> RecordedVoice:
        audio = voice_samples(voice, self.codec.sample_rate)
        codes = self.codec.encode(audio[None, None].to(self.codec.device)).values[0, :, :-LEFT_OUT]
        if codes.shape[1] < 1:
            least = (LEFT_OUT + 1) / self.codec.frame_rate
            raise ValueError(f"the voice lasts {len(audio) / self.codec.sample_rate:.2f} s; give {least:.2f} s at "
                             "least, better ten")
        return RecordedVoice(codes.to(self.generator.device), None)

    def _published(self, voices: Sequence[Voice]) -> VoiceFrames:
        read = [self._frames(voice) for voice in voices]
        if len({len(frames) for frames in read}) > 1:
            raise ValueError(f"the voices have {' and '.join(str(len(frames)) for frames in read)} frames; take two of "
                             "one length, as all published ones are")
        count, dim = read[0].shape
        missing = read[0].new_zeros((MOST_SPEAKERS - len(read)) * count, dim)
        names = tuple(Path(voice.audio).name if isinstance(voice.audio, str | Path) else None for voice in voices)
        known = torch.arange(MOST_SPEAKERS * count) < len(read) * count
        return VoiceFrames(torch.cat([*read, missing]), None, known, names)

    def _frames(self, voice: Voice) -> Tensor:
        """Frames float (N, D) of a published voice."""
        values = self._read_file(Path(voice.audio)) if isinstance(voice.audio, str | Path) else voice.audio
        dim = self.generator.voice_dim
        if not isinstance(values, Tensor) or values.ndim != 3 or values.shape[:2] != (1, dim) or \
                not values.is_floating_point() or not values.isfinite().all() or not values.shape[2]:
            found = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"a voice must be float (1, {dim}, N) without NaN, got {found}; {NO_RECORDING}")
        return values[0].T.float()

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
