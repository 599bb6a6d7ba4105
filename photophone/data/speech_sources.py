"""Where speech comes from: recordings that are decoded, sentences that a voice speaks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from photophone.core.limits import MAX_CLIP_SECONDS
from photophone.data.audio import read_audio
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
