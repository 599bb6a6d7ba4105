"""Sentences spoken by several teachers, written part by part: what a generator of several voices learns from.

A folder of parts holds ``part-0000.safetensors`` with ``part-0000.jsonl``, a prepared file of
:mod:`photophone.data.speech`, ``part-0000.refused.tsv``, and ``plan.json`` with what was asked for. Sentences are dealt
out to the voices in turn, so that any number of parts has as much of each; once all are spoken, each goes to the next
voice.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from photophone.core.files import atomic_write
from photophone.data.audio_write import to_whole
from photophone.data.clip_cleaning import check_clip, levelled
from photophone.data.speech import FIELDS, SpeechDataset, speakers_of, write_prepared
from photophone.data.speech_sources import Clip

MEDIUM = (0.2, 0.9)
"""Sentences between these shares of the lengths come first."""
SLACK_SECONDS = 0.03
"""The durations of the phonemes add up to the clip within this."""
Speak = Callable[[str, str, str, int], Clip]
"""Voice, text, phonemes or "", and seed to a clip with the times of its phonemes."""


@dataclass(frozen=True)
class Plan:
    """What a folder of parts is to hold.

    Args:
        sentences: text and phonemes of each; phonemes may be empty.
        voices: names for ``speak``.
        sample_rate: in Hz.
        part: sentences of a part.
        seed: of the order of the sentences.
    """

    sentences: list[tuple[str, str]]
    voices: list[str]
    sample_rate: int
    part: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sentences or not self.voices or len(set(self.voices)) != len(self.voices) or self.part < 1:
            raise ValueError(f"a plan needs sentences, voices that differ, and parts of at least 1, got "
                             f"{len(self.sentences)} sentences, {self.voices} and {self.part}")

    def order(self) -> list[tuple[str, int]]:
        """Voice and number of the sentence, for all voices and sentences."""
        rng, total = np.random.default_rng(self.seed), len(self.sentences)
        sizes = np.asarray([len(text) for text, _ in self.sentences])
        low, high = np.quantile(sizes, MEDIUM)
        mixed = rng.permutation(total)
        medium = (sizes[mixed] >= low) & (sizes[mixed] <= high)
        mixed = [*mixed[medium].tolist(), *mixed[~medium].tolist()]
        many = len(self.voices)
        return [(self.voices[(place + turn) % many], row) for turn in range(many) for place, row in enumerate(mixed)]

    def described(self) -> dict:
        """What must not change between two calls for one folder."""
        told = asdict(self)
        told["sentences"] = zlib.crc32(json.dumps(self.sentences, ensure_ascii=False).encode())
        return told


def check_spoken(clip: Clip) -> None:
    """Refuse what a teacher said wrongly.

    Raises:
        ValueError: samples that are not finite, times that do not fit the length, or see
            :func:`photophone.data.clip_cleaning.check_clip`.
    """
    if not np.isfinite(clip.audio).all():
        raise ValueError("it has samples that are not finite")
    told, seconds = sum(clip.fields["seconds_per_phoneme"]), len(clip.audio) / clip.sample_rate
    if abs(told - seconds) > SLACK_SECONDS:
        raise ValueError(f"its phonemes take {told:.2f} s, its samples {seconds:.2f} s")
    check_clip(clip.audio, clip.sample_rate, clip.fields.get("text", ""))


def speak_parts(plan: Plan, folder: Path, speak: Speak, minutes: float | None = None) -> dict[str, tuple[int, float]]:
    """Write the parts that are missing, each with its refusals, and return clips and seconds of each speaker.

    Args:
        plan: of the folder, the same in each call.
        folder: of the parts.
        speak: see :data:`Speak`.
        minutes: ends after the part with which every voice has so many; None: after all sentences of all voices.

    Raises:
        ValueError: the folder was begun with another plan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_plan(plan, folder / "plan.json")
    order, spoken = plan.order(), dict.fromkeys(plan.voices, 0.0)
    for number in tqdm(range(-(-len(order) // plan.part)), unit="part", dynamic_ncols=True):
        if minutes is not None and min(spoken.values()) >= 60 * minutes:
            break
        path = folder / f"part-{number:04d}.safetensors"
        if not path.exists():
            _write_part(plan, order[number * plan.part:(number + 1) * plan.part], path, speak)
        part = SpeechDataset(path)
        for fields, length in zip(part.fields, part.lengths.tolist(), strict=True):
            spoken[fields["clip"].rpartition("-")[0]] += length / plan.sample_rate
    whole = SpeechDataset(folder)
    return speakers_of(whole.fields, whole.lengths, whole.sample_rate)


def _check_plan(plan: Plan, path: Path) -> None:
    told = plan.described()
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in told if begun.get(name) != told[name]]
        if other:
            raise ValueError(f"{path.parent} was begun with other {', '.join(other)}; give the same, or another folder")
    else:
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _write_part(plan: Plan, jobs: list[tuple[str, int]], path: Path, speak: Speak) -> None:
    audio, lines, refused = [], [], []
    for voice, row in jobs:
        text, phonemes = plan.sentences[row]
        name = f"{voice}-{row:05d}"
        try:
            clip = speak(voice, text, phonemes, row)
            check_spoken(clip)
        except ValueError as error:
            refused.append(f"{name}\t{error}\n")
            continue
        audio.append(to_whole(levelled(clip.at(plan.sample_rate), plan.sample_rate)))
        lines.append({"clip": name, **{field: clip.fields[field] for field in FIELDS if clip.fields.get(field)}})
    if not audio:
        raise ValueError(f"no sentence of {path.name} was spoken: {refused[0].strip()}")
    with atomic_write(path.with_suffix(".refused.tsv")) as partial:
        partial.write_text("".join(refused), encoding="utf-8")
    write_prepared(path, audio, lines, plan.sample_rate)
