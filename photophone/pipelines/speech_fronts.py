"""What stands between a text and a speech generator: its pieces, the rows of its condition, the voice."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import Tensor

from photophone.core.limits import MAX_VOICE_SECONDS
from photophone.data.audio import read_audio
from photophone.data.audio_checks import check_rate, check_samples
from photophone.data.resampling import resample_audio
from photophone.generators.conditions import Condition
from photophone.generators.speech_ar.model import Phonemes
from photophone.layers.lengths import length_mask
from photophone.pipelines.speech_faults import Limit
from photophone.text.lexicon import Lexicon
from photophone.text.script import Directed, Script, Span, Stop, direct, read_script
from photophone.text.speech_text import PhonemeFront, SpeechPiece, check_text, unread_parts
from photophone.text.voxcpm import WrittenPiece


@dataclass(frozen=True)
class Voice:
    """A recording of the voice to speak with.

    Args:
        audio: path of an audio file, or float (T,) in [-1, 1].
        sampling_rate: of an array, in Hz; files know theirs.
        text: the words of the recording, which are then continued; None for a recording that only tells how the
            speaker sounds, which VoxCPM 2 understands.
        reference: beside a recording that is continued, one that tells how the speaker sounds, a file or an array of
            the same rate; it may be the same one. For VoxCPM 2.
    """

    audio: Any
    sampling_rate: int | None = None
    text: str | None = None
    reference: Any = None


@dataclass(frozen=True)
class SpokenVoice:
    """A voice as a generator reads it: tokens (N, D), and their words or None."""

    tokens: Tensor
    text: str | None

    def facts(self) -> dict[str, Any]:
        """What is written beside speech with this voice."""
        return {"voice": self.text, "voice_tokens": len(self.tokens)}


@dataclass(frozen=True)
class NamedVoice(SpokenVoice):
    """A voice that comes with the model, or a mixture of some.

    Args:
        shares: how much of each, with the sum 1, the largest first.
    """

    tokens: Tensor = field(default_factory=lambda: torch.zeros(0))
    text: str | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Its name, or names and shares."""
        return {"voice": next(iter(self.shares)) if len(self.shares) == 1 else dict(self.shares)}


@dataclass(frozen=True)
class Request:
    """One piece to speak, the voice to speak it with, and how fast beside the speed of the call."""

    piece: SpeechPiece | WrittenPiece
    voice: SpokenVoice | None = None
    rate: float = 1.0


class SpeechFront(ABC):
    """What a pipeline asks between a text and a generator.

    Attributes:
        takes_voices: it reads recordings of voices.
        takes_names: some voices have names.
        mixes_names: and may be mixed.
        takes_references: also one beside a recording that is continued.
        cut_frames: tokens at the beginning of a text whose sound is left out.
        reads_phonemes: words may be given with their phonemes.
        reads_markup: False where the generator has breaks of its own, and a text is one piece.
    """

    takes_voices: ClassVar[bool] = False
    takes_names: ClassVar[bool] = False
    mixes_names: ClassVar[bool] = False
    takes_references: ClassVar[bool] = False
    cut_frames: ClassVar[int] = 0
    reads_phonemes: ClassVar[bool] = False
    reads_markup: ClassVar[bool] = True

    @abstractmethod
    def check(self, text: str) -> None:
        """Raise ValueError for a text that the generator cannot speak."""

    @abstractmethod
    def pieces(self, text: str) -> list[SpeechPiece] | list[WrittenPiece]:
        """The parts of a text that are generated one by one."""

    def script(self, text: str, markup: bool | None = None) -> Script:
        """What is to be said of a text; see :func:`photophone.text.script.read_script`.

        Raises:
            ValueError: it cannot be read, or asks for what the generator cannot do.
        """
        if not self.reads_markup:
            if markup:
                raise ValueError("this generator reads breaks in the text by itself and no other markup; leave markup "
                                 "out")
            return read_script(text, markup=False)
        script = read_script(text, markup, self.reads_phonemes)
        if not self.reads_phonemes and any(isinstance(item, Span) and item.phonemes is not None
                                           for item in script.items):
            raise ValueError("this generator reads letters, no phonemes; leave <phoneme> out")
        return script

    def script_pieces(self, script: Script, lexicon: Lexicon) -> list[Directed]:
        """The pieces of a script and what is done around each.

        Raises:
            ValueError: a lexicon, for a generator that reads letters.
        """
        if lexicon.given:
            raise ValueError("this generator reads letters, no phonemes; leave pronounce out")
        return list(direct(self._directed(script)))

    def _directed(self, script: Script) -> Iterator[Directed | Stop]:
        """Each part of a script in pieces of its own."""
        for manner, group in groupby(script.items, lambda item: item.manner if isinstance(item, Span) else None):
            if manner is None:
                yield from group
                continue
            text = "".join(item.text for item in group)
            if not any(map(str.isalnum, text)):
                continue
            *pieces, last = self.pieces(text)
            yield from (Directed(piece, manner) for piece in pieces)
            # nothing says that a paragraph ends with a part
            yield Directed(last if len(script.items) == 1 else replace(last, ends="clause"), manner)

    def counts(self, condition: Condition, row: int) -> list[int] | None:
        """Tokens that each symbol of a piece takes, where a planned condition tells them."""
        return None

    @abstractmethod
    def condition(self, requests: list[Request]) -> Condition:
        """What the generator reads, a row for each request, with the limits of each."""

    def unread(self, text: str) -> tuple[str, ...]:
        """What of a text is not spoken, in order."""
        return ()

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of voices that come with the model."""
        return ()

    def normalizing(self, normalize: bool | None) -> Self:
        """The same, with written forms spelled out or not; None: as the front does by itself.

        Raises:
            ValueError: it has no switch for that.
        """
        if normalize is not None:
            raise ValueError("this generator has no switch for written forms; leave normalize out")
        return self

    def styled(self, instruction: str | None, voice: SpokenVoice | None) -> Self:
        """The same, speaking as an instruction says.

        Raises:
            ValueError: it takes none, or not with this voice.
        """
        if instruction is not None:
            raise ValueError("this generator takes no instruction; leave it out")
        return self

    def kept_voice(self, piece: SpeechPiece | WrittenPiece, tokens: Tensor) -> SpokenVoice:
        """The voice of the first piece of a text (N, D), for the rest of it."""
        words = piece.text
        return SpokenVoice(tokens, words + " " if words[-1].isascii() else words)

    def settings(self, texts: list[str]) -> dict[str, Any]:
        """What was done to texts, for the facts beside their speech."""
        return {}

    def first_decides(self, voice: SpokenVoice | None) -> bool:
        """Whether the first piece of a text finds the voice that speaks the others."""
        return self.takes_voices and voice is None

    def limit(self, condition: Condition, row: int) -> Limit | None:
        """Where a piece is cut that does not end by itself; None: nowhere."""
        return None

    def spoken_words(self, text: str) -> str:
        """What of a piece is said."""
        return text

    def longest_pause(self, text: str) -> float:
        """Seconds of silence that a piece asks for."""
        return 0.0

    def limits(self, requests: list[Request]) -> list[int] | None:
        """How much each request speaks at most, in the generator's own measure; None where the text tells it."""
        return None

    def read_voice(self, voice: Voice) -> SpokenVoice:
        """A recording as the generator reads it.

        Raises:
            ValueError: the generator has one voice of its own, or cannot read this one.
        """
        raise ValueError("this generator has one voice of its own; leave voice out")

    def read_turns(self, voices: Sequence[Voice]) -> SpokenVoice:
        """Voices of several who speak in turns.

        Raises:
            ValueError: the generator speaks a text with one voice, or cannot read these.
        """
        raise ValueError("this generator speaks a text with one voice; give one, not several")

    def named_voice(self, given: str | Mapping[str, float]) -> SpokenVoice:
        """A voice that comes with the model, or a mixture of some.

        Args:
            given: its name, or names and how much of each.

        Raises:
            ValueError: there is none of this name.
        """
        raise ValueError("this generator has no names for voices; leave voice out, or give a Voice")

    def speaking_with(self, voice: SpokenVoice | None) -> Self:
        """The same, reading texts in the accent of a voice."""
        return self

    def no_voice(self) -> SpokenVoice | None:
        """What stands for a voice where none is given.

        Raises:
            ValueError: the generator needs one.
        """
        return None

    def lead_in(self, voice: SpokenVoice) -> Tensor | None:
        """Tokens (1, n, D) that the codec decodes in front, so that speech joins the recording; None: nothing."""
        return None


class PhonemeSpeech(SpeechFront):
    """English phonemes, for :class:`photophone.SpeechFlowAR`.

    Args:
        front: text to pieces of phonemes and their ids.
        accents: of each named voice, "american" or "british"; None where there is one without a name.
    """

    reads_phonemes = True
    mixes_names = True

    def __init__(self, front: PhonemeFront | None = None, accents: Mapping[str, str] | None = None) -> None:
        self.front, self.accents = front or PhonemeFront(), dict(accents or {})
        self.takes_names = bool(self.accents)

    @property
    def voices(self) -> tuple[str, ...]:
        """Of the generator; the first speaks where none is asked for."""
        return tuple(self.accents)

    def named_voice(self, given: str | Mapping[str, float]) -> NamedVoice:
        """A voice of the generator, or a mixture: ``{"emma": 2, "george": 1}`` or "emma=2,george=1"."""
        return NamedVoice(shares=voice_shares(given, self.voices))

    def read_voice(self, voice: Voice) -> NoReturn:
        """Recordings are not read.

        Raises:
            ValueError: always.
        """
        if self.accents:
            raise ValueError(f"this generator reads no recordings; its voices are {', '.join(self.voices)}: voice=one "
                             "of these names")
        raise ValueError("this generator has one voice of its own; leave voice out")

    def no_voice(self) -> NamedVoice | None:
        """The first one."""
        return self.named_voice(self.voices[0]) if self.accents else None

    def speaking_with(self, voice: SpokenVoice | None) -> PhonemeSpeech:
        """With the phonemes of its accent; of a mixture that of the largest part."""
        if not isinstance(voice, NamedVoice):
            return self
        british = self.accents[next(iter(voice.shares))] == "british"
        return PhonemeSpeech(PhonemeFront(british), self.accents)

    def check(self, text: str) -> None:
        """Refuse what is not English; see :func:`photophone.text.speech_text.check_text`."""
        check_text(text)

    def pieces(self, text: str) -> list[SpeechPiece]:
        """Sentences of a text."""
        return self.front.pieces(text)

    def script_pieces(self, script: Script, lexicon: Lexicon) -> list[Directed]:
        """Sentences, cut where the manner changes or speech stops."""
        if script.is_plain and not lexicon.given:
            return [Directed(piece) for piece in self.pieces(script.plain)]
        return self.front.script_pieces(script, lexicon)

    def unread(self, text: str) -> tuple[str, ...]:
        """Such as the query of a web address; see :func:`photophone.text.speech_text.unread_parts`."""
        return unread_parts(text)

    def condition(self, requests: list[Request]) -> Phonemes:
        """Phonemes; how long each lasts the generator tells."""
        ids = [self.front.ids(request.piece) for request in requests]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        rates, voices = [request.rate for request in requests], None
        if self.accents:
            spoken = [request.voice or self.no_voice() for request in requests]
            voices = torch.tensor([[voice.shares.get(name, 0.0) for name in self.voices] for voice in spoken])
        return Phonemes(padded, length_mask(torch.tensor([len(row) for row in ids]), padded.shape[1]),
                        speeds=None if set(rates) == {1.0} else torch.tensor(rates), voices=voices)

    def counts(self, condition: Phonemes, row: int) -> list[int] | None:
        """Of the pause in front, each phoneme, and the pause behind."""
        if condition.durations is None:
            return None
        return condition.durations[row, condition.mask[row]].tolist()


def voice_shares(given: str | Mapping[str, float], known: Sequence[str]) -> dict[str, float]:
    """How much of each named voice speaks, with the sum 1, the largest share first.

    Args:
        given: a name, "NAME=WEIGHT,NAME=WEIGHT", or weights by name.
        known: names.

    Raises:
        ValueError: an unknown name, or weights that are not over 0.
    """
    if isinstance(given, str):
        parts = [part.partition("=") for part in given.split(",")]
        weights = {name.strip(): weight if sign else "1" for name, sign, weight in parts}
    else:
        weights = dict(given)
    unknown = [name for name in weights if name not in known]
    if unknown or not weights:
        raise ValueError(f"no voice is named {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    try:
        numbers = {name: float(weight) for name, weight in weights.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights of voices are numbers, as in emma=0.7,george=0.3, got {given!r:.60}") from error
    total = sum(numbers.values())
    if not all(0 < number < math.inf for number in numbers.values()):
        raise ValueError(f"weights of voices must be over 0 and finite, got {given!r:.60}")
    return {name: number / total for name, number in sorted(numbers.items(), key=lambda item: -item[1])}


def voice_samples(voice: Voice, rate: int) -> Tensor:
    """The recording of a voice, float (T,) at a rate.

    Raises:
        ValueError: it cannot be read, is no sound, or too long.
    """
    if isinstance(voice.audio, str | Path | bytes):
        return torch.from_numpy(read_audio(voice.audio, rate, max_seconds=MAX_VOICE_SECONDS)[0])
    audio = torch.as_tensor(voice.audio)
    if audio.ndim != 1 or not audio.is_floating_point() or not len(audio) or not audio.isfinite().all():
        raise ValueError(f"the voice must be a file or float (T,) in [-1, 1] without NaN, got {audio.dtype} "
                         f"{tuple(audio.shape)}")
    if voice.sampling_rate is None:
        raise ValueError("an array of a voice needs its sampling_rate")
    check_rate(voice.sampling_rate, "the voice")
    check_samples(audio.float().numpy(), "the voice")
    if len(audio) > MAX_VOICE_SECONDS * voice.sampling_rate:
        raise ValueError(f"the voice lasts {len(audio) / voice.sampling_rate:.0f} s, over the limit of "
                         f"{MAX_VOICE_SECONDS} s; a few seconds are enough")
    return resample_audio(audio.float(), voice.sampling_rate, rate)
