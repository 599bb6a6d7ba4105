"""Speech and what is needed to make it again; files that are written as speech is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from photophone.data.audio_checks import WRITE_FORMATS
from photophone.data.audio_write import AudioWriter, check_format
from photophone.data.resampling import ResamplingStream, resample_audio
from photophone.pipelines.output import MediaOutput, file_with_facts, is_own_result, target_files, unique_names
from photophone.pipelines.timestamps import write_timestamps
from photophone.text.spoken_words import SpokenPiece, SpokenWord

SUFFIXES = tuple(WRITE_FORMATS)


@dataclass
class SpeechChunk:
    """A part of speech as it is made.

    Attributes:
        audio: float32 (T,) in [-1, 1].
        sample_rate: in Hz.
        start: of the chunk, in seconds from the begin of the stream.
        words: that begin in it, with their times in the stream; none where the generator does not tell them.
    """

    audio: np.ndarray
    sample_rate: int
    start: float = 0.0
    words: tuple[SpokenWord, ...] = ()


@dataclass
class SpeechOutput(MediaOutput):
    """Speech of texts and what is needed to make it again.

    Attributes:
        audio: one float32 array (T,) in [-1, 1] a text; with output_type "pt" a tensor each; "latent" the
            :class:`photophone.Tokens` of each, one row.
        sample_rate: in Hz.
        texts: as they were given; empty where speech is made of tokens.
        unread: of each text, what of it is not spoken, such as the query of a web address; one without such parts has
            none.
        faults: of each text, what went wrong, such as a sentence that did not end by itself; one that went well has
            none.
        sentences: of each text, what was read and when, piece by piece; None where the generator does not tell it.
        seeds: of each text; ``torch.Generator().manual_seed(seed)`` makes its speech again.
        settings: the other options of the call.
        model, revision, weights_licence: of the weights.
    """

    SUFFIXES = SUFFIXES
    NOUN = "texts"

    audio: list[Any]
    sample_rate: int
    texts: list[str]
    seeds: list[int]
    unread: list[tuple[str, ...]] = field(default_factory=list, kw_only=True)
    faults: list[tuple[str, ...]] = field(default_factory=list, kw_only=True)
    sentences: list[list[SpokenPiece]] | None = field(default=None, kw_only=True)

    @property
    def words(self) -> list[list[SpokenWord]] | None:
        """Of each text, the words as they were read, with their phonemes and times in seconds; None where the generator
        does not tell them."""
        if self.sentences is None:
            return None
        return [[word for piece in row for word in piece.words] for row in self.sentences]

    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside a file says of one text."""
        left_out = {"unread": list(self.unread[row])} if row < len(self.unread) and self.unread[row] else {}
        if row < len(self.faults) and self.faults[row]:
            left_out["faults"] = list(self.faults[row])
        return {"text": self.texts[row], **left_out, "seed": self.seeds[row], **self.settings,
                "sample_rate": self.sample_rate, **self.origin}

    def names(self) -> list[str]:
        """Words and seed."""
        return speech_names(self.texts, self.seeds)

    def resampled(self, sample_rate: int) -> Self:
        """The same speech at another rate, as arrays.

        Raises:
            ValueError: a rate outside the limits, or latents.
        """
        self._check_sound()
        if sample_rate == self.sample_rate:
            return self
        audio = [resample_audio(torch.as_tensor(one), self.sample_rate, sample_rate).numpy() for one in self.audio]
        return replace(self, audio=audio, sample_rate=sample_rate)

    def save(self, path: str | Path, *, overwrite: bool = False, sample_rate: int | None = None) -> list[Path]:
        """See :meth:`MediaOutput.save`; latents cannot be saved so.

        Args:
            path, overwrite: the name of a file says its format: ``.wav``, ``.flac``, ``.ogg``, ``.opus`` or ``.mp3``.
            sample_rate: of the files in Hz; None: that of the speech.
        """
        self._check_sound()
        if sample_rate is not None:
            return self.resampled(sample_rate).save(path, overwrite=overwrite)
        return super().save(path, overwrite=overwrite)

    def _check_sound(self) -> None:
        if not all(isinstance(audio, np.ndarray | Tensor) for audio in self.audio):
            raise ValueError("only speech of output_type 'np' or 'pt' can be saved")

    def save_timestamps(self, path: str | Path, row: int = 0, *, overwrite: bool = False) -> Path:
        """Write when each word of a text is said; see :func:`photophone.pipelines.timestamps.write_timestamps`.

        Args:
            path: ``.json``, ``.srt`` or ``.vtt``.
            row: of the text.
            overwrite: whether a file that is there may be replaced.

        Raises:
            ValueError: the generator does not tell times, or another suffix.
            OSError: the file cannot be written.
        """
        if self.sentences is None:
            raise ValueError(f"{self.model or 'this generator'} does not tell when it says a word")
        return write_timestamps(path, self.sentences[row], self.facts(row), overwrite=overwrite)

    def write(self, row: int, file: Path, overwrite: bool) -> None:
        """An audio file in the format of its suffix."""
        with speech_file(file, self.sample_rate, self.facts(row), overwrite=overwrite) as writer:
            writer.write(np.asarray(self.audio[row]))


def speech_names(texts: list[str], seeds: list[int]) -> list[str]:
    """File names of the speech of texts."""
    return unique_names([text or "speech" for text in texts], seeds, "speech")


def speech_files(path: str | Path, texts: list[str], seeds: list[int], sample_rate: int, *,
                 overwrite: bool = False) -> list[Path]:
    """Files for the speech of each text: ``path`` itself if its suffix says so, else files in that folder.

    Raises:
        ValueError, OSError: see :func:`photophone.pipelines.output.target_files`; or the format does not have the rate.
    """
    files = target_files(path, speech_names(texts, seeds), SUFFIXES, "texts", overwrite=overwrite)
    check_format(files[0], sample_rate, 1)
    return files


@contextmanager
def speech_file(path: str | Path, sample_rate: int, facts: dict[str, Any], *,
                overwrite: bool = False) -> Iterator[AudioWriter]:
    """A sound file and a JSON beside it that take their names only when the block ends without error.

    Raises:
        FileExistsError: one of them is there, is no own result, and ``overwrite`` is not set.
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    path, facts = Path(path), dict(facts)
    overwrite = overwrite or is_own_result(path)
    suffix = check_format(path, sample_rate, 1)
    with (file_with_facts(path, facts, overwrite=overwrite) as partial, open(partial, "wb+", buffering=0) as file):
        with closing(AudioWriter(file, suffix, sample_rate, name=str(path))) as writer:
            yield writer
        facts["seconds"] = round(writer.samples / sample_rate, 3)


def at_rate(chunks: Iterable[SpeechChunk], source_rate: int, target_rate: int | None) -> Iterator[SpeechChunk]:
    """Chunks of speech at another rate, of other lengths; each keeps its words. None: as they are.

    Raises:
        ValueError: a rate outside the limits.
    """
    if target_rate is None or target_rate == source_rate:
        yield from chunks
        return
    stream, done = ResamplingStream(source_rate, target_rate), 0
    words: tuple[SpokenWord, ...] = ()
    for chunk in chunks:
        audio, words = stream.push(torch.from_numpy(chunk.audio)).numpy(), words + chunk.words
        if len(audio):
            yield SpeechChunk(audio, target_rate, done / target_rate, words)
            done, words = done + len(audio), ()
    audio = stream.finish().numpy()
    if len(audio) or words:
        yield SpeechChunk(audio, target_rate, done / target_rate, words)
