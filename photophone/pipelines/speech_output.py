"""Speech and what is needed to make it again; WAV files that are written as speech is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch import Tensor

from photophone.core.files import atomic_write
from photophone.pipelines.images import unique_names


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
class SpeechOutput:
    """Speech of texts and what is needed to make it again.

    Attributes:
        audio: one float32 array (T,) in [-1, 1] a text; with output_type "pt" a tensor each; "latent" the
            :class:`photophone.Tokens` of each, one row.
        sample_rate: in Hz.
        texts: as they were given; empty where speech is made of tokens.
        seeds: of each text; ``torch.Generator().manual_seed(seed)`` makes its speech again.
        settings: the other options of the call.
        model, revision, weights_licence: of the weights.
    """

    audio: list[Any]
    sample_rate: int
    texts: list[str]
    seeds: list[int]
    settings: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    revision: str | None = None
    weights_licence: str | None = None

    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside a file says of one text."""
        return {"text": self.texts[row], "seed": self.seeds[row], **self.settings, "sample_rate": self.sample_rate,
                "model": self.model, "revision": self.revision, "weights_licence": self.weights_licence}

    def save(self, path: str | Path) -> list[Path]:
        """Write 16-bit WAV files, each with a JSON of its settings beside it, atomically.

        Args:
            path: a ``.wav`` file for one text, else a folder, which is made when it is missing.

        Returns:
            The WAV files.

        Raises:
            ValueError: latents, or several texts for one file name.
        """
        if not all(isinstance(audio, np.ndarray | Tensor) for audio in self.audio):
            raise ValueError("only speech of output_type 'np' or 'pt' can be saved")
        files = speech_files(path, self.texts, self.seeds)
        for row, (file, audio) in enumerate(zip(files, self.audio)):
            with speech_file(file, self.sample_rate, self.facts(row)) as writer:
                writer.write(np.asarray(audio))
        return files


def speech_files(path: str | Path, texts: list[str], seeds: list[int]) -> list[Path]:
    """Names for the speech of each text: ``path`` itself if it ends in ``.wav``, else files in that folder."""
    path = Path(path)
    if path.suffix.lower() != ".wav":
        return [path / f"{name}.wav" for name in unique_names([text or "speech" for text in texts], seeds)]
    if len(texts) != 1:
        raise ValueError(f"the speech of {len(texts)} texts does not fit one file {path}; give a folder")
    return [path]


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
    path = Path(path)
    with atomic_write(path) as partial, atomic_write(path.with_suffix(".json")) as beside:
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
        facts = {**facts, "seconds": round(writer.samples / sample_rate, 3)}
        beside.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")


def pcm16(audio: np.ndarray) -> np.ndarray:
    """Float (T,) in [-1, 1] as little-endian 16-bit samples."""
    return np.round(np.clip(audio, -1, 1) * 32767).astype("<i2")
