"""Where speech comes from: parquet files, LJSpeech and LibriTTS folders, plain folders, sentences spoken by a voice."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from photophone.core.limits import MAX_CLIP_SECONDS
from photophone.data.audio import read_audio
from photophone.data.audio_checks import READ_SUFFIXES
from photophone.data.resampling import resample_audio


@dataclass
class Clip:
    """One recording.

    Args:
        audio: float32 (T,) in [-1, 1].
        sample_rate: of ``audio``.
        fields: text, speaker, source, licence, and for aligned speech ``phonemes`` and ``seconds_per_phoneme``.
    """

    audio: np.ndarray
    sample_rate: int
    fields: dict = field(default_factory=dict)

    def at(self, sample_rate: int) -> np.ndarray:
        """The samples at another rate, float32 (T',)."""
        if sample_rate == self.sample_rate:
            return self.audio
        return resample_audio(torch.from_numpy(self.audio), self.sample_rate, sample_rate).numpy()


def decode_clip(data: bytes | Path, fields: dict, max_seconds: float = MAX_CLIP_SECONDS) -> Clip:
    """Encoded audio, mixed to mono.

    Raises:
        ValueError: not audio, damaged, empty, not finite, or longer than ``max_seconds``.
    """
    if not isinstance(data, bytes | Path):
        raise ValueError(f"cannot read the audio: it must be bytes or a path, got {type(data).__name__}")
    try:
        audio, rate = read_audio(data, max_seconds=max_seconds)
    except OSError as error:
        raise ValueError(f"cannot read the audio: {error}") from error
    return Clip(audio, rate, fields)


def read_parquet(path: Path) -> Iterator[tuple[bytes, dict]]:
    """(bytes, fields) of a parquet file with a column ``audio`` (bytes, or a struct with bytes), perhaps ``text``."""
    from pyarrow import parquet
    file = parquet.ParquetFile(path)
    if "audio" not in file.schema_arrow.names:
        raise ValueError(f"{path} has no column 'audio', only {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(batch_size=64):
        for row in batch.to_pylist():
            audio = row.pop("audio")
            yield (audio["bytes"] if isinstance(audio, dict) else audio), row


def read_ljspeech(path: Path) -> Iterator[tuple[Path, dict]]:
    """The LJSpeech layout: ``metadata.csv`` with ``id|text|normalised text`` and ``wavs/id.wav``."""
    for line in (path / "metadata.csv").read_text(encoding="utf-8").split("\n"):
        if line.strip():
            name, *texts = line.split("|")
            yield path / "wavs" / f"{name}.wav", {"text": texts[-1] if texts else "", "speaker": path.name}


def read_folder(path: Path) -> Iterator[tuple[Path, dict]]:
    """A folder of audio files; the text from ``NAME.normalized.txt`` (LibriTTS) or ``NAME.txt``; the speaker is the
    first folder below ``path``, as in LibriTTS."""
    for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in READ_SUFFIXES):
        sidecars = (file.with_suffix(".normalized.txt"), file.with_suffix(".txt"))
        text = next((s.read_text("utf-8", "replace").strip() for s in sidecars if s.exists()), "")
        parts = file.relative_to(path).parts
        yield file, {"text": text, "speaker": parts[0] if len(parts) > 1 else path.name}


def read_recordings(path: Path) -> Iterator[tuple[bytes | Path, dict]]:
    """(audio file or its bytes, fields) of a parquet file or of a folder of any of the layouts above.

    Raises:
        ValueError: missing, of another kind, or damaged.
    """
    if path.is_dir():
        reader = read_ljspeech if (path / "metadata.csv").exists() else read_folder
    elif path.suffix == ".parquet" and path.exists():
        reader = read_parquet
    else:
        raise ValueError(f"{path} is not a folder or a .parquet file")
    try:
        yield from reader(path)
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def read_sentences(path: Path, split: str | None,
                   phonemize: Callable[[str], str] | None = None) -> Iterator[tuple[str, str]]:
    """Text and phonemes of the rows of a CSV with the columns text, phonemes and perhaps split.

    Args:
        path: the file.
        split: rows to take; None for all.
        phonemize: gives the phonemes of a text that has none; None: all must have them.

    Raises:
        ValueError: a column is missing.
    """
    needed = {"text"} if phonemize else {"text", "phonemes"}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not needed <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} must have the columns {' and '.join(sorted(needed, reverse=True))}, has "
                             f"{rows.fieldnames}")
        for row in rows:
            if split is None or row.get("split") == split:
                phonemes = row.get("phonemes") or (phonemize(row["text"]) if phonemize else "")
                yield row["text"], phonemes


class TeacherVoice:
    """The voice of the package hibari-tts (Apache-2.0), with the duration of every phoneme.

    Its network computes durations inside; they are made an extra output of the ONNX graph. Needs the packages
    hibari-tts and onnx (extra ``train``).
    """

    FRAME_SECONDS = 0.025
    PITCH_RATE = 80
    """Values of the pitch a second."""
    VOICED = 40.0
    """Hz; its network writes less where there is no voice."""
    DURATIONS = "/Clip_output_0"
    """Frames of each id, the last value of the graph that still has one entry an id."""

    def __init__(self) -> None:
        import onnx
        import onnxruntime
        from hibari import Hibari
        self.voice = Hibari()
        graph = onnx.load(self.voice.model_path)
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(self.DURATIONS))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(graph.SerializeToString(), options)

    def speak(self, text: str, phonemes: str, seed: int, speed: float = 1.0) -> Clip:
        """One sentence, how long each of its phonemes takes, and its pitch; the first and last phonemes are pauses,
        written "_"."""
        from hibari import dsp
        known = [symbol for symbol in phonemes if symbol in self.voice.vocab]
        ids = np.asarray([self.voice.ids(phonemes)], np.int64)
        outputs = self.session.run(None, {"ids": ids, "speed": np.asarray([speed], np.float32)})
        audio = dsp.synth(*(output[0] for output in outputs[:-1]), np.random.default_rng(seed)).astype(np.float32)
        frames = outputs[-1].reshape(-1)
        if len(frames) != len(known) + 2:
            raise ValueError(f"{len(frames)} durations for {len(known) + 2} phonemes; another release of hibari-tts?")
        durations = [round(float(count) * self.FRAME_SECONDS, 4) for count in frames]
        pitch = [round(float(value)) if value >= self.VOICED else 0 for value in outputs[-2].reshape(-1)]
        return Clip(audio, self.voice.sample_rate, {
            "text": text, "phonemes": "_" + "".join(known) + "_", "seconds_per_phoneme": durations,
            "pitch": pitch, "speaker": "hibari heart", "source": "hibari-tts 0.2.1 (synthetic)",
            "licence": "Apache-2.0"})
