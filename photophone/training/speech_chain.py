"""What the small systems that are made of sentences share: files, prepared speech, and a listener.

A system (:class:`SpeechChain`) lies in one folder: ``data``, the run of each part under its name, and ``release``,
which has the names and formats of the authors' release, so what runs it is what runs theirs.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from photophone.data.mixed_sentences import mix_sentences, read_words, write_sentences
from photophone.data.speech import prepare_speech, resample_prepared
from photophone.data.speech_sources import read_sentences
from photophone.evaluation.metrics.audio import edit_distance
from photophone.evaluation.metrics.judges import Transcriber
from photophone.evaluation.metrics.spoken_words import spoken_words
from photophone.text.phonemes import phonemize
from photophone.training.tasks.guided_lm import guides_of

SPLITS = ("train", "val")


class SpeechChain(ABC):
    """A published system in small sizes.

    Args:
        folder: of everything.
    """

    configs: ClassVar[str]
    """What the names of its configs begin with."""
    stages: ClassVar[tuple[str, ...]]
    """All that is to be done between speech and folder, in order."""
    rates: ClassVar[tuple[int, ...]]
    """Of the speech it learns from, in Hz; the teacher's voice is made at the first."""
    codecs: ClassVar[dict[str, int]]
    """The trainings among the stages that read speech, and its rate."""
    models: ClassVar[tuple[str, ...]]
    """Those that read examples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def speech(self, split: str, rate: int) -> Path:
        """The prepared file of a split."""
        return self.folder / "data" / f"voice-{split}-{rate // 1000}k.safetensors"

    def examples(self, split: str, part: str) -> Path:
        """The file of examples of a part."""
        return self.folder / "data" / f"{part}-{split}.safetensors"

    def export(self, part: str) -> Path:
        """The folder of a trained part."""
        return self.folder / part / "export"

    def make_speech(self, sentences: Path) -> None:
        """Speech of all sentences at all rates."""
        for split in SPLITS:
            first = self.speech(split, self.rates[0])
            if not first.exists():
                prepare_speech([sentences], first, self.rates[0], split, phonemize=phonemize)
            for rate in self.rates[1:]:
                if not self.speech(split, rate).exists():
                    resample_prepared(first, self.speech(split, rate), rate)

    def settings(self, part: str) -> list[str]:
        """What the training of a part is told beside its config, ``key=value``."""
        train, val = (self.speech(split, self.codecs[part]) if part in self.codecs else self.examples(split, part)
                      for split in SPLITS)
        told = [f"data={train}", f"validation={val}"]
        return [*told, f"task.guides=[{guides_of(train)}]"] if guides_of(train).exists() else told

    @property
    def mixed(self) -> Path:
        """Speech of mixed sentences at the last rate, which only the language model reads; need not be there."""
        return self.speech("mixed", self.rates[-1])

    def mix_speech(self, sentences: Path, count: int, words: Path | None) -> None:
        """Speech of sentences that are mixed of those to train on, see :func:`mix_sentences`."""
        if self.mixed.exists():
            return
        texts = [text for text, _ in read_sentences(sentences, "train", phonemize=str)]
        listed = self.folder / "data" / "mixed.csv"
        write_sentences(listed, mix_sentences(texts, count, read_words(words) if words else ()), "train")
        prepare_speech([listed], self.mixed, self.rates[-1], phonemize=phonemize)

    @abstractmethod
    def make(self, stage: str) -> None:
        """A stage that is no training."""

    @abstractmethod
    def write_release(self) -> None:
        """Write ``release``."""

    @abstractmethod
    def voice(self, **options: Any) -> Callable[[str], tuple[np.ndarray, int]]:
        """What ``release`` says, through the public pipeline: text to samples (T,) and their rate."""


def hear_words(speak: Callable[[str], tuple[np.ndarray, int]], sentences: Sequence[str]) -> dict[str, Any]:
    """How well Whisper base understands what a voice says of sentences.

    Args:
        speak: a sentence to samples (T,) and their rate.
        sentences: English.

    Returns:
        ``wer`` over all words, ``seconds`` of speech, ``real_time_factor``, and ``rows``: of each sentence text, heard,
        errors and words.
    """
    listener, rows, seconds, spent = Transcriber(), [], 0.0, 0.0
    for text in sentences:
        started = time.perf_counter()
        audio, rate = speak(text)
        spent += time.perf_counter() - started
        seconds += len(audio) / rate
        heard = listener(audio, rate) if len(audio) else ""
        wanted = spoken_words(text)
        rows.append({"text": text, "heard": heard, "errors": edit_distance(wanted, spoken_words(heard)),
                     "words": len(wanted)})
    return {"wer": sum(row["errors"] for row in rows) / sum(row["words"] for row in rows), "seconds": seconds,
            "real_time_factor": spent / max(seconds, 1e-9), "rows": rows}
