"""Speech and what is needed to make it again; WAV files that are written as speech is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch import Tensor

from photophone.pipelines.output import MediaOutput, file_with_facts, target_files, unique_names

SUFFIXES = (".wav",)


@dataclass
class SpeechChunk:
    """A part of speech as it is made.

    Attributes:
        audio: float32 (T,) in [-1, 1].
        sample_rate: in Hz.
    """

    audio: np.ndarray
    sample_rate: int


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

    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside a file says of one text."""
        left_out = {"unread": list(self.unread[row])} if row < len(self.unread) and self.unread[row] else {}
        return {"text": self.texts[row], **left_out, "seed": self.seeds[row], **self.settings,
                "sample_rate": self.sample_rate, **self.origin}

    def names(self) -> list[str]:
        """Words and seed."""
        return speech_names(self.texts, self.seeds)

    def save(self, path: str | Path) -> list[Path]:
        """See :meth:`MediaOutput.save`; latents cannot be saved so."""
        if not all(isinstance(audio, np.ndarray | Tensor) for audio in self.audio):
            raise ValueError("only speech of output_type 'np' or 'pt' can be saved")
        return super().save(path)

    def write(self, row: int, file: Path) -> None:
        """A 16-bit WAV file."""
        with speech_file(file, self.sample_rate, self.facts(row)) as writer:
            writer.write(np.asarray(self.audio[row]))


def speech_names(texts: list[str], seeds: list[int]) -> list[str]:
    """File names of the speech of texts."""
    return unique_names([text or "speech" for text in texts], seeds, "speech")


def speech_files(path: str | Path, texts: list[str], seeds: list[int]) -> list[Path]:
    """Names for the speech of each text: ``path`` itself if it ends in ``.wav``, else files in that folder."""
    return target_files(path, speech_names(texts, seeds), SUFFIXES, "texts")


class SpeechWriter:
    """Adds speech to an open file.

    Attributes:
        samples: written so far.
    """

    def __init__(self, sound: soundfile.SoundFile) -> None:
        self._sound = sound
        self.samples = 0

    def write(self, audio: np.ndarray) -> None:
        """Append float (T,) in [-1, 1]."""
        self._sound.write(pcm16(audio))
        self.samples += len(audio)


@contextmanager
def speech_file(path: str | Path, sample_rate: int, facts: dict[str, Any]) -> Iterator[SpeechWriter]:
    """A WAV file and a JSON beside it that take their names only when the block ends without error.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    path, facts = Path(path), dict(facts)
    with file_with_facts(path, facts) as partial:
        try:
            with soundfile.SoundFile(partial, "w", sample_rate, 1, "PCM_16", format="WAV") as sound:
                writer = SpeechWriter(sound)
                yield writer
                sound.flush()
                expected = 44 + 2 * writer.samples
            if partial.stat().st_size < expected:  # libsndfile does not say that the disk is full
                raise OSError(f"{path} could not be written: {partial.stat().st_size} of {expected} bytes fit the disk")
        except soundfile.LibsndfileError as error:
            raise OSError(f"{path} could not be written, perhaps the disk is full: {error}") from error
        facts["seconds"] = round(writer.samples / sample_rate, 3)


def pcm16(audio: np.ndarray) -> np.ndarray:
    """Float (T,) in [-1, 1] as little-endian 16-bit samples."""
    return np.round(np.clip(audio, -1, 1) * 32767).astype("<i2")
