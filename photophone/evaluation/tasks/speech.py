"""`photophone evaluate speech`: how well sentences are spoken, beside other voices in the same run.

WER is that of Whisper base, both sides as the words that are spoken; so it holds the recogniser's own errors, which
the row of hibari-tts shows. Similarity is the cosine between a clip's vector and the mean vector of the training
voice saying VOICE_SENTENCES, or that of recordings of a reader. Defects are those of
:mod:`photophone.evaluation.metrics.speech_defects`.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from photophone.core.files import check_source
from photophone.data.audio import write_audio
from photophone.data.recording_layouts import read_recordings
from photophone.data.speech_sources import decode_clip
from photophone.evaluation.metrics.audio import edit_distance
from photophone.evaluation.metrics.judges import Panel, SpeakerEncoder, prepare
from photophone.evaluation.metrics.speech_defects import find_defects
from photophone.evaluation.metrics.spoken_words import spoken_words
from photophone.evaluation.peers.speech import Speak, hibari
from photophone.evaluation.scores import mean_scores
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.text.phonemes import phonemize

VOICE_SENTENCES = (
    "The kettle began to sing while the rain ran down the window.", "We walked along the river until it was dark.",
    "Every morning the baker opens his shop at half past five.", "She put the letter back into the drawer unread.",
    "Nothing in the garden had changed since last summer.", "Could you tell me where the old station used to be?")
"""What the training voice says to be known by; none of it is in the training data."""
READER_CLIPS = 24
"""Recordings that a reader is known by."""
UNSPOKEN = "ˈˌːʰʲ"
ALONE = ("heard", "errors", "words")
"""Columns of a sentence that have no mean."""


def read_test_sentences(path: Path, split: str | None = "test", limit: int | None = None) -> list[str]:
    """Sentences of a CSV with a column ``text`` and perhaps ``split``, or the lines of any other text file.

    Args:
        path: the file.
        split: rows of a CSV to take, None for all.
        limit: at most so many, spread evenly.

    Raises:
        ValueError: no such file, not UTF-8, or without sentences.
    """
    spread_evenly([], limit)
    try:
        with check_source(path).open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                rows = csv.DictReader(file)
                if "text" not in (rows.fieldnames or ()):
                    raise ValueError(f"{path} has no column text, only {rows.fieldnames}")
                sentences = [row["text"] for row in rows if split is None or row.get("split", split) == split]
            else:
                sentences = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not sentences:
        raise ValueError(f"{path} has no sentences" + (f" of split {split!r}" if path.suffix == ".csv" else ""))
    return spread_evenly(sentences, limit)


def spread_evenly(sentences: list[str], limit: int | None) -> list[str]:
    """At most so many of them, None for all.

    Raises:
        ValueError: a limit under 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    if limit is None or limit >= len(sentences):
        return sentences
    return [sentences[place] for place in np.linspace(0, len(sentences) - 1, limit).round().astype(int)]


def our_voice(pipeline: TextToSpeechPipeline, seed: int, **options) -> Speak:
    """The pipeline as a voice; call ``i`` has the seed ``seed + i``."""
    calls = 0

    def speak(text: str) -> tuple[np.ndarray, int]:
        nonlocal calls
        own = torch.Generator().manual_seed(seed + calls)
        calls += 1
        return pipeline(text, generator=own, **options).audio[0], pipeline.sample_rate

    return speak


def evaluate_voices(voices: Mapping[str, Speak], sentences: Sequence[str], *, keep: dict | None = None,
                    progress: bool = False, reader: Path | None = None,
                    teachers: Mapping[str, Speak] | None = None) -> dict:
    """Measure voices on the same sentences.

    Args:
        voices: by name; each is called once to warm up, then once for each sentence, in order.
        sentences: English.
        keep: a dict that gets the audio, ``{name: [(float (T,), rate), ...]}``; None: it is dropped.
        progress: show a bar.
        reader: recordings of the person whose voice it should be, for the column ``similarity``; None compares with
            the teacher of the built-in voice.
        teachers: those of some of the voices, by the same names: they are to be like these, not like the others.

    Returns:
        ``sentences`` (count, words) and ``voices``: for each name means over sentences of the columns of the report
        (``wer`` over all words, ``rtf`` over all seconds), ``rows`` with the measures of each sentence, ``unscored``
        with the sentences that have no score, by column, and ``failed`` with those that a voice could not say.
    """
    panel = Panel()
    usual, own = voice_vector(panel.voices, reader), {}
    for name, speak in (teachers or {}).items():
        own[name] = voice_vector(panel.voices, speak=speak)
    phonemes = [sum(symbol.isalpha() and symbol not in UNSPOKEN for symbol in phonemize(text)) for text in sentences]
    result: dict = {"voices": {}}
    for name, speak in voices.items():
        target = own.get(name, usual)
        speak("Yes.")  # loads what is loaded on the first call
        rows, spent, kept, failed = [], 0.0, [], {}
        for text, count in zip(tqdm(sentences, desc=name, disable=not progress), phonemes):
            started = time.perf_counter()
            audio, rate = speak(text)
            spent += time.perf_counter() - started
            if not len(audio) or not np.isfinite(audio).all():
                failed[text] = "it made no samples, or NaN or infinite ones"
                continue
            kept.append((audio, rate))
            rows.append({"text": text} | judge(panel, target, text, audio, rate, count))
        if keep is not None:
            keep[name] = kept
        result["voices"][name] = summary(rows, spent) | {"failed": failed, "rows": rows}
    result["sentences"] = {"count": len(sentences), "words": sum(len(spoken_words(text)) for text in sentences)}
    return result


def summary(rows: list[dict], spent: float) -> dict:
    """Means over sentences of which ``spent`` seconds were needed; ``wer`` over all words, ``rtf`` over all seconds."""
    scores = [{key: row[key] for key in row if key not in ("text", *ALONE)} for row in rows]
    words = sum(row["words"] for row in rows)
    return mean_scores(scores, [row["text"] for row in rows]) | {
        "wer": sum(row["errors"] for row in rows) / words if words else math.nan,
        "rtf": spent / sum(row["seconds"] for row in rows) if rows else math.nan}


def voice_vector(encoder: SpeakerEncoder, reader: Path | None = None, speak: Speak = hibari) -> Tensor:
    """Unit vector (256,) of a teacher, or of the first READER_CLIPS recordings of a reader.

    Raises:
        ValueError: none of the recordings can be judged.
    """
    if reader is None:
        spoken = [speak(text) for text in VOICE_SENTENCES]
    else:
        spoken = [(clip.audio, clip.sample_rate) for clip in (
            decode_clip(*row) for row in islice(read_recordings(reader), READER_CLIPS))]
    vectors = [encoder.embed(*clip) for clip in spoken]
    known = [vector for vector in vectors if bool(vector.isfinite().all())]
    if not known:
        raise ValueError(f"{reader} holds no recording that is long enough to know a voice by")
    mean = torch.stack(known).mean(0)
    return mean / mean.norm()


def judge(panel: Panel, target: Tensor, text: str, audio: np.ndarray, rate: int, phonemes: int) -> dict:
    """All measures of one spoken sentence."""
    clip = prepare(audio, rate)
    heard = panel.hear(clip)
    given, understood = spoken_words(text), spoken_words(heard)
    seconds = len(audio) / rate
    found = find_defects(given, understood, seconds, phonemes)
    return {"heard": heard, "errors": edit_distance(given, understood), "words": len(given), "seconds": seconds,
            "skip": found.skip, "repeat": found.repeat, "missed_stop": found.missed_stop, "defects": found.any,
            **panel.rate(clip), "distill": panel.quality(clip),
            "similarity": float(panel.voices.embed(audio, rate) @ target)}


def write_clips(result: dict, folder: Path, audio: Mapping[str, Sequence[tuple[np.ndarray, int]]]) -> None:
    """Of each voice in ``audio`` a folder with its sentences as ``NNN.wav`` and ``NNN.txt``, which `photophone evaluate
    codec --data` reads."""
    for name, clips in audio.items():
        own = folder / Path(name).name
        for index, ((samples, rate), row) in enumerate(zip(clips, result["voices"][name]["rows"])):
            write_audio(own / f"{index:03d}.wav", samples, rate)
            (own / f"{index:03d}.txt").write_text(row["text"] + "\n", encoding="utf-8")
