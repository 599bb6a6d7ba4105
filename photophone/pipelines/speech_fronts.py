"""What stands between a text and a speech generator: its pieces, the rows of its condition, the voice."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.core.limits import MAX_VOICE_SECONDS
from photophone.data.audio import read_audio
from photophone.data.audio_checks import check_rate, check_samples
from photophone.data.resampling import resample_audio
from photophone.data.voice_prompts import end_on_pause
from photophone.generators.conditions import Condition
from photophone.generators.pocket_tts.condition import VoicedText
from photophone.generators.pocket_tts.model import PocketTTS
from photophone.generators.speech_ar.model import Phonemes
from photophone.generators.speech_sequence import SpeechSequence
from photophone.generators.voxcpm.model import VoxCPM
from photophone.layers.lengths import length_mask
from photophone.text.pocket_tts import PocketRules, frames_after, pocket_ids, pocket_pieces
from photophone.text.speech_text import PhonemeFront, SpeechPiece, check_text, unread_parts
from photophone.text.voxcpm import WrittenPiece, check_words, voxcpm_ids, written_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATCHES_PER_ID, SPARE_PATCHES, MOST_PATCHES = 6, 10, 2000
"""VoxCPM speaks at most this long: so many patches for each id of the text, and some more."""
IDS_PER_SECOND, SPARE_SECONDS = 3.0, 2.0
"""Pocket TTS speaks at most this long: so many ids of the text a second, and some more."""


@dataclass(frozen=True)
class Voice:
    """A recording of the voice to speak with.

    Args:
        audio: path of an audio file, or float (T,) in [-1, 1].
        sampling_rate: of an array, in Hz; files know theirs.
        text: the words of the recording, which are then continued; None for a recording that only tells how the
            speaker sounds, which VoxCPM 2 understands.
    """

    audio: Any
    sampling_rate: int | None = None
    text: str | None = None


@dataclass(frozen=True)
class SpokenVoice:
    """A voice as a generator reads it: tokens (N, D), and their words or None."""

    tokens: Tensor
    text: str | None

    def facts(self) -> dict[str, Any]:
        """What is written beside speech with this voice."""
        return {"voice": self.text, "voice_tokens": len(self.tokens)}


@dataclass(frozen=True)
class Request:
    """One piece to speak, and the voice to speak it with."""

    piece: SpeechPiece | WrittenPiece
    voice: SpokenVoice | None = None


class SpeechFront(ABC):
    """What a pipeline asks between a text and a generator.

    Attributes:
        takes_voices: it reads recordings of voices.
        cut_frames: tokens at the beginning of a text whose sound is left out.
    """

    takes_voices: ClassVar[bool] = False
    cut_frames: ClassVar[int] = 0

    @abstractmethod
    def check(self, text: str) -> None:
        """Raise ValueError for a text that the generator cannot speak."""

    @abstractmethod
    def pieces(self, text: str) -> list[SpeechPiece] | list[WrittenPiece]:
        """The parts of a text that are generated one by one."""

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

    def settings(self, texts: list[str]) -> dict[str, Any]:
        """What was done to texts, for the facts beside their speech."""
        return {}

    def first_decides(self, voice: SpokenVoice | None) -> bool:
        """Whether the first piece of a text finds the voice that speaks the others."""
        return self.takes_voices and voice is None

    def faults(self, condition: Condition, row: int, text: str, count: int) -> list[str]:
        """What went wrong with a piece that became ``count`` tokens, in words."""
        return []

    def limits(self, requests: list[Request]) -> list[int] | None:
        """How much each request speaks at most, in the generator's own measure; None where the text tells it."""
        return None

    def read_voice(self, voice: Voice) -> SpokenVoice:
        """A recording as the generator reads it.

        Raises:
            ValueError: the generator has one voice of its own, or cannot read this one.
        """
        raise ValueError("this generator has one voice of its own; leave voice out")

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
    """

    def __init__(self, front: PhonemeFront | None = None) -> None:
        self.front = front or PhonemeFront()

    def check(self, text: str) -> None:
        """Refuse what is not English; see :func:`photophone.text.speech_text.check_text`."""
        check_text(text)

    def pieces(self, text: str) -> list[SpeechPiece]:
        """Sentences of a text."""
        return self.front.pieces(text)

    def unread(self, text: str) -> tuple[str, ...]:
        """Such as the query of a web address; see :func:`photophone.text.speech_text.unread_parts`."""
        return unread_parts(text)

    def condition(self, requests: list[Request]) -> Phonemes:
        """Phonemes; how long each lasts the generator tells."""
        ids = [self.front.ids(request.piece) for request in requests]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return Phonemes(padded, length_mask(torch.tensor([len(row) for row in ids]), padded.shape[1]))


class PromptedSpeech(SpeechFront):
    """Words in any language and perhaps a voice, for VoxCPM.

    Args:
        generator: reads the ids.
        codec: of its tokens.
        tokenizer: of its published folder.
    """

    takes_voices = True

    def __init__(self, generator: VoxCPM, codec: AudioCodec, tokenizer: PreTrainedTokenizerBase) -> None:
        self.generator, self.codec, self.tokenizer = generator, codec, tokenizer

    def check(self, text: str) -> None:
        """Refuse what has no words."""
        check_words(text)

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text, as many together as are spoken well in one go."""
        return list(written_pieces(self.tokenizer, text))

    def condition(self, requests: list[Request]) -> SpeechSequence:
        """Words and voices.

        Raises:
            ValueError: they leave no room for speech.
        """
        prompts = [request.voice if request.voice and request.voice.text is not None else None for request in requests]
        references = [request.voice if request.voice and request.voice.text is None else None for request in requests]
        texts = [voxcpm_ids(self.tokenizer, (prompt.text if prompt else "") + request.piece.text)
                 for request, prompt in zip(requests, prompts, strict=True)]
        prompts, references = ([voice and voice.tokens for voice in voices] for voices in (prompts, references))
        sequence = self.generator.prepare(texts, prompts, references)
        most = self.generator.config.max_length
        room = most - sequence.text_ids.shape[1]
        if room < 1:
            raise ValueError(f"text and voice leave no room in the {most} positions of the model; give a shorter "
                             "recording of the voice")
        limits = torch.tensor(self.limits(requests), device=self.generator.device).clamp(max=room)
        return replace(sequence, max_patches=limits)

    def limits(self, requests: list[Request]) -> list[int]:
        """Patches: what the authors allow for a text."""
        counts = [PATCHES_PER_ID * len(voxcpm_ids(self.tokenizer, request.piece.text)) + SPARE_PATCHES
                  for request in requests]
        return [min(count, MOST_PATCHES) for count in counts]

    def faults(self, condition: SpeechSequence, row: int, text: str, count: int) -> list[str]:
        """Speech that was cut at its limit."""
        most = int(condition.max_patches[row])
        cut = count >= most * self.generator.config.get("patch_size", 1)
        return [f"stopped at the limit of {most} patches: {text!r:.40}"] if cut else []

    def lead_in(self, voice: SpokenVoice) -> Tensor | None:
        """The end of a recording that is continued."""
        return None if voice.text is None else self.generator.context(voice.tokens)[None]

    def read_voice(self, voice: Voice) -> SpokenVoice:
        """A recording as tokens: filled up to whole patches by silence, in front where it is to be continued, else
        behind.

        Raises:
            ValueError: the recording cannot be read, is too long, or has no text where the model needs it.
        """
        if voice.text is None and not self.generator.reads_references:
            raise ValueError("this model needs the words of the voice's recording: Voice(audio, text=...)")
        if voice.text is not None:
            check_words(voice.text)
        audio = voice_samples(voice, self.codec.sample_rate)
        size = self.generator.config.patch_size * self.codec.hop_length
        missing = -len(audio) % size
        audio = functional.pad(audio, (missing, 0) if voice.text is not None else (0, missing))
        return SpokenVoice(self.codec.encode(audio[None, None].to(self.codec.device)).values[0], voice.text)


class PocketSpeech(PromptedSpeech):
    """Words and perhaps a voice, for Pocket TTS.

    The words of a voice's recording are not needed, and not read.

    Args:
        generator: reads the ids.
        codec: of its tokens.
        tokenizer: of its published folder.
        rules: what its training text did not have.
    """

    def __init__(self, generator: PocketTTS, codec: AudioCodec, tokenizer: PreTrainedTokenizerBase,
                 rules: PocketRules) -> None:
        super().__init__(generator, codec, tokenizer)
        self.rules = rules

    def pieces(self, text: str) -> list[WrittenPiece]:
        """Sentences of a text, as many together as are spoken well in one go."""
        return list(pocket_pieces(self.tokenizer, text, self.rules))

    def condition(self, requests: list[Request]) -> VoicedText:
        """Words and voices.

        Raises:
            ValueError: they leave no room for speech.
        """
        texts = [pocket_ids(self.tokenizer, request.piece.text) for request in requests]
        sequence = self.generator.prepare(texts, [request.voice and request.voice.tokens for request in requests])
        most = self.generator.config.max_length
        room = most - sequence.text_ids.shape[1]
        if room < 1:
            raise ValueError(f"text and voice leave no room in the {most} positions of the model; give a shorter "
                             "recording of the voice")
        device = self.generator.device
        limits = torch.tensor(self.limits(requests), device=device).clamp(max=room)
        after = torch.tensor([frames_after(request.piece.text) for request in requests], device=device)
        return replace(sequence, max_patches=limits, frames_after=after)

    def limits(self, requests: list[Request]) -> list[int]:
        """Frames: what the authors allow for a text."""
        seconds = [len(pocket_ids(self.tokenizer, request.piece.text)) / IDS_PER_SECOND + SPARE_SECONDS
                   for request in requests]
        return [math.ceil(count * self.codec.frame_rate) for count in seconds]

    def lead_in(self, voice: SpokenVoice) -> Tensor | None:
        """Nothing: a recording is not continued."""
        return None

    def read_voice(self, voice: Voice) -> SpokenVoice:
        """A recording as tokens, ended with a pause as those of the training.

        Raises:
            ValueError: the recording cannot be read, is too long, or lasts less than a frame.
        """
        audio = voice_samples(voice, self.codec.sample_rate)
        if len(audio) < self.codec.hop_length:
            raise ValueError(f"the voice lasts {1000 * len(audio) / self.codec.sample_rate:.0f} ms; about 5 s are "
                             "good")
        audio = end_on_pause(audio, self.codec.sample_rate)
        return SpokenVoice(self.codec.encode(audio[None, None].to(self.codec.device)).values[0], voice.text)


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
