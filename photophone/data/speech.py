"""Speech for training: a prepared file, how it is made, how it is read.

The prepared format is ``NAME.safetensors`` with ``audio`` int16 (all samples of all clips), ``offsets`` int64
(clips + 1) and ``sample_rate`` int64 (), and beside it ``NAME.jsonl`` with one object a clip: clip (its name), text,
speaker, source, licence, and for aligned speech phonemes, seconds_per_phoneme and pitch (Hz, 80 values a second, 0
without voice).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from photophone.core.files import atomic_write
from photophone.core.limits import MAX_CLIP_SECONDS
from photophone.data.audio_write import to_whole
from photophone.data.image_sources import read_lines
from photophone.data.recording_layouts import names_recordings, read_recordings
from photophone.data.resampling import resample_audio
from photophone.data.speech_sources import Clip, TeacherVoice, decode_clip, read_sentences

FIELDS = ("clip", "text", "speaker", "source", "licence", "phonemes", "seconds_per_phoneme", "pitch", "caption", "kind")


def clips_of(sources: Iterable[Path], split: str | None = None, max_seconds: float = MAX_CLIP_SECONDS,
             phonemize: Callable[[str], str] | None = None) -> Iterator[tuple[str, Clip | ValueError]]:
    """Name and clip of recordings, or of sentences (a .csv without a column of recordings) that the teacher voice
    speaks; an error for one that is damaged or longer than ``max_seconds``. ``phonemize`` is of
    :func:`photophone.data.speech_sources.read_sentences`."""
    for source in sources:
        if source.suffix == ".csv" and not names_recordings(source):
            teacher = TeacherVoice()
            for seed, (text, phonemes) in enumerate(read_sentences(source, split, phonemize)):
                yield text, teacher.speak(text, phonemes, seed)
            continue
        for number, (audio, fields) in enumerate(read_recordings(source)):
            name = fields.get("clip") or f"{source.name} row {number}"
            try:
                yield name, decode_clip(audio, fields, max_seconds)
            except ValueError as error:
                yield name, error


def prepare_speech(sources: list[Path], output: Path, sample_rate: int, split: str | None = None,
                   max_seconds: float = MAX_CLIP_SECONDS, phonemize: Callable[[str], str] | None = None,
                   clean: Callable[[Clip], Clip | None] | None = None,
                   refused: dict[str, str] | None = None) -> tuple[int, int]:
    """Write the prepared format atomically.

    Args:
        sources: parquet files, tars, tables, folders, or a .csv of sentences for the teacher voice.
        output: the ``.safetensors`` file to write; the ``.jsonl`` goes beside it.
        sample_rate: of the prepared audio, in Hz.
        split: of the rows of a .csv, or None for all.
        max_seconds: longer recordings are skipped.
        phonemize: gives the phonemes of sentences of a .csv that has none.
        clean: makes the clip that is written, None for one that is not asked for; a ValueError refuses it. Such as
            :class:`photophone.data.clip_cleaning.VoiceClips`; None takes recordings as they are.
        refused: gets the reason for each clip that is skipped, by its name.

    Returns:
        (clips written, clips skipped)
    """
    audio, lines, refused = [], [], {} if refused is None else refused
    for name, clip in tqdm(clips_of(sources, split, max_seconds, phonemize), unit="clip", dynamic_ncols=True):
        try:
            if isinstance(clip, ValueError):
                raise clip
            made = clean(clip) if clean else clip
        except ValueError as error:
            refused[name] = str(error)
            continue
        if made is None:
            continue
        audio.append(to_whole(made.at(sample_rate)))
        lines.append({field: made.fields[field] for field in FIELDS if made.fields.get(field)})
    if not audio:
        raise ValueError(f"no readable clip in {', '.join(map(str, sources))} ({len(refused)} corrupt)"
                         + "".join(f"; {name}: {reason}" for name, reason in list(refused.items())[:1]))
    write_prepared(output, audio, lines, sample_rate)
    return len(lines), len(refused)


def speakers_of(fields: list[dict], lengths: Tensor, sample_rate: int) -> dict[str, tuple[int, float]]:
    """Clips and seconds of each speaker, the longest first.

    Args:
        fields: of each clip.
        lengths: Long (N,), samples of each.
        sample_rate: in Hz.
    """
    found: dict[str, tuple[int, float]] = {}
    for one, length in zip(fields, lengths.tolist(), strict=True):
        count, seconds = found.get(one.get("speaker", ""), (0, 0.0))
        found[one.get("speaker", "")] = count + 1, seconds + length / sample_rate
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def write_prepared(output: Path, audio: list[np.ndarray], fields: list[dict], sample_rate: int) -> None:
    """Write the prepared format atomically: clips int16 (T,), and the fields of each."""
    with atomic_write(output.with_suffix(".jsonl")) as partial:
        lines = [json.dumps(one, ensure_ascii=False) for one in fields]
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    offsets = np.cumsum([0, *map(len, audio)])
    with atomic_write(output) as partial:
        save_file({"audio": torch.from_numpy(np.concatenate(audio)), "offsets": torch.from_numpy(offsets),
                   "sample_rate": torch.tensor(sample_rate)}, partial)


def resample_prepared(source: Path, output: Path, sample_rate: int) -> None:
    """Write a prepared file again, at another rate."""
    data = SpeechDataset(source)
    audio = [to_whole(resample_audio(data.clip(index), data.sample_rate, sample_rate).numpy())
             for index in tqdm(range(len(data)), unit="clip", dynamic_ncols=True)]
    write_prepared(output, audio, data.fields, sample_rate)


def parts_of(path: Path) -> list[Path]:
    """The prepared files ``part-*.safetensors`` of a folder in their order, or the path itself where it is no folder.

    Raises:
        ValueError: a folder without parts.
    """
    if not path.is_dir():
        return [path]
    parts = sorted(path.glob("part-*.safetensors"))
    if not parts:
        raise ValueError(f"{path} holds no part-*.safetensors; make them with scripts/speak_sentences.py")
    return parts


class SpeechDataset:
    """One or more prepared files, or folders of parts, in memory.

    Attributes:
        sample_rate: in Hz.
        fields: one dict per clip.
    """

    def __init__(self, *paths: str | Path) -> None:
        self.fields: list[dict] = []
        parts = []
        offsets = []
        rates = set()
        for path in (part for source in paths for part in parts_of(Path(source))):
            try:
                tensors = load_file(path)
                audio = tensors["audio"]
                bounds = tensors["offsets"]
                rate = int(tensors["sample_rate"])
                fields = read_lines(path.with_suffix(".jsonl"))
            except (OSError, SafetensorError, KeyError) as error:
                raise ValueError(f"{path} is not a prepared speech file ({error}); make one with "
                                 "scripts/prepare_speech.py") from error
            if audio.dtype != torch.int16 or audio.dim() != 1 or len(bounds) != len(fields) + 1 or (
                    len(audio) != int(bounds[-1])) or bool((bounds.diff() < 1).any()):
                raise ValueError(f"{path} is inconsistent: {len(audio)} samples of {audio.dtype}, "
                                 f"{len(bounds) - 1} clips, {len(fields)} lines; prepare it again")
            offsets.append(bounds[:-1] + sum(map(len, parts)))
            parts.append(audio)
            self.fields += fields
            rates.add(rate)
        if len(rates) != 1:
            raise ValueError(f"the files have different sample rates {sorted(rates)}; prepare them at one rate")
        self.sample_rate = rates.pop()
        self.audio = torch.cat(parts)
        self.offsets = torch.cat([*offsets, torch.tensor([len(self.audio)])])

    def __len__(self) -> int:
        return len(self.fields)

    @property
    def lengths(self) -> Tensor:
        """Samples of each clip, Long (N,)."""
        return self.offsets.diff()

    def samples(self, index: int) -> Tensor:
        """Int16 (T,), as they were written."""
        return self.audio[int(self.offsets[index]):int(self.offsets[index + 1])]

    def clip(self, index: int) -> Tensor:
        """Float (T,) in [-1, 1]."""
        return self.samples(index).float() / 32768

    def crops(self, indices: np.ndarray, length: int, rng: np.random.Generator) -> Tensor:
        """A random part of each clip, float (B, 1, length); shorter clips are padded with zeros at a random place."""
        crops = torch.zeros(len(indices), 1, length)
        for row, index in enumerate(indices):
            first = int(self.offsets[index])
            last = int(self.offsets[index + 1])
            space = last - first - length
            if space >= 0:
                start = first + int(rng.integers(space + 1))
                crops[row, 0] = self.audio[start:start + length].float() / 32768
            else:
                start = int(rng.integers(-space + 1))
                crops[row, 0, start:start + last - first] = self.audio[first:last].float() / 32768
        return crops
