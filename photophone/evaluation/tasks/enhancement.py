"""`photophone evaluate enhance`: our enhancer, the noisy input, the clean reference and other enhancers in one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from photophone.data.audio import read_audio
from photophone.data.mixing import power, scale_to_snr
from photophone.data.speech import SpeechDataset
from photophone.evaluation.metrics.audio import pesq_wb, si_sdr, stoi, word_error_rate
from photophone.evaluation.metrics.judges import JUDGE_RATE, Panel
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline

SNRS_DB = (-5, 0, 5, 10, 15, math.inf)
"""Of the mixtures; the last is clean speech, of which an enhancer should change little."""
MIX_SECONDS = (3.0, 10.0)
"""Clips of test speech that are mixed are of such length."""
DESTROYED = 0.1
"""A clip whose STOI falls by more is lost speech."""


@dataclass
class Pair:
    """A noisy and a clean float32 (T,) at 16 kHz, and what is said, or "" where it is not known."""

    noisy: np.ndarray
    clean: np.ndarray
    text: str = ""


def read_pairs(path: Path, limit: int | None = None) -> list[Pair]:
    """Pairs of a parquet file whose ``audio`` names files ``clean_ID`` and ``noisy_ID``.

    Raises:
        ValueError: there are none.
    """
    from pyarrow import parquet
    found: dict[str, dict] = {}
    for row in parquet.read_table(path).to_pylist():
        kind, _, name = Path(row["audio"]["path"] or "").stem.partition("_")
        found.setdefault(name, {"text": row.get("text") or ""})[kind] = row["audio"]["bytes"]
    pairs = [Pair(*(read_audio(item[kind], JUDGE_RATE)[0] for kind in ("noisy", "clean")), item["text"])
             for item in found.values() if {"noisy", "clean"} <= set(item)]
    if not pairs:
        raise ValueError(f"{path} holds no pairs of files clean_ID and noisy_ID")
    return pairs[:limit]


def mixed_pairs(speech: SpeechDataset, noise: SpeechDataset, snr_db: float, count: int, seed: int = 0) -> list[Pair]:
    """Seeded mixtures of whole clips; every ratio gets the same clips and noises.

    Raises:
        ValueError: the speech holds too few clips of ``MIX_SECONDS``, or is not at 16 kHz.
    """
    if {speech.sample_rate, noise.sample_rate} != {JUDGE_RATE}:
        raise ValueError(f"test data must be at {JUDGE_RATE} Hz, got {speech.sample_rate} and {noise.sample_rate}")
    low, high = (round(seconds * JUDGE_RATE) for seconds in MIX_SECONDS)
    lengths = speech.lengths.numpy()
    usable = np.flatnonzero((lengths >= low) & (lengths <= high))
    if len(usable) < count:
        raise ValueError(f"{len(usable)} clips of {MIX_SECONDS[0]:g} to {MIX_SECONDS[1]:g} s for {count} mixtures")
    rng = np.random.default_rng(seed)
    clips = usable[np.linspace(0, len(usable) - 1, count).astype(int)]
    noises = rng.choice(len(noise), size=count, replace=count > len(noise))
    pairs = []
    for clip, chosen in zip(clips, noises):
        clean, sound = speech.clip(int(clip)).numpy(), noise.clip(int(chosen)).numpy()
        start = int(rng.integers(len(sound)))
        sound = np.take(sound, np.arange(start, start + len(clean)), mode="wrap")
        if not power(sound):  # a pause of the recording
            sound = rng.standard_normal(len(clean)).astype(np.float32)
        noisy = clean + scale_to_snr(clean, sound, snr_db, JUDGE_RATE)
        gain = min(1.0, 0.95 / float(np.abs(noisy).max()))
        pairs.append(Pair(noisy * gain, clean * gain, speech.fields[int(clip)].get("text", "")))
    return pairs


def measure(panel: Panel, pair: Pair, made: np.ndarray) -> dict[str, float]:
    """What can be computed from a pair and an enhanced clip float32 (T,), and what the judges say of it."""
    clarity = stoi(pair.clean, made, JUDGE_RATE)
    scores = {"pesq": pesq_wb(pair.clean, made), "stoi": clarity, "si_sdr": si_sdr(pair.clean, made),
              "destroyed": float(clarity < stoi(pair.clean, pair.noisy, JUDGE_RATE) - DESTROYED)}
    if panel.present:
        opinions = panel.rate(made)
        scores |= {name: opinions[name] for name in ("sig", "bak", "ovrl")}
        scores |= {"plcmos": panel.continuity(made), "similarity": panel.similarity(pair.clean, made)}
    return scores


def evaluate_enhancers(systems: dict[str, Callable[[np.ndarray], np.ndarray]], sets: dict[str, list[Pair]], *,
                       judges: bool = True, progress: bool = False) -> dict[str, dict[str, dict[str, float]]]:
    """Measure enhancers, the noisy input and the clean reference on the same pairs.

    Args:
        systems: by name, functions of float32 (T,) at 16 kHz to the same.
        sets: pairs by the name of the set.
        judges: also DNSMOS, PLCMOS, words by Whisper base, and speaker similarity.
        progress: show a bar.

    Returns:
        For each set and system means of the columns of the report. ``wer`` is against the text where it is known, else
        against what Whisper hears in the clean clip. ``destroyed`` is the number of clips whose STOI fell by more than
        ``DESTROYED``. ``rtf`` is processor seconds for a second of audio, which on one thread of a free core is the
        time it takes.
    """
    panel, result = Panel(judges), {}
    for name, pairs in sets.items():
        seconds = sum(len(pair.noisy) for pair in pairs) / JUDGE_RATE
        truths = [pair.text or panel.hear(pair.clean) for pair in pairs]
        ways = {"noisy": None, "clean": None, **systems}
        result[name] = {}
        for system, enhance in tqdm(ways.items(), desc=name, disable=not progress):
            rows, heard, spent = [], [], 0.0
            for pair in pairs:
                started = time.process_time()
                made = enhance(pair.noisy) if enhance else getattr(pair, system)
                spent += time.process_time() - started
                rows.append(measure(panel, pair, made))
                heard.append(panel.hear(made))
            means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            means["destroyed"] = sum(row["destroyed"] for row in rows)
            if judges:
                means["wer"] = word_error_rate(truths, heard)
            result[name][system] = means | {"rtf": spent / seconds if enhance else math.nan, "clips": len(pairs)}
    return result


def our_system(pipeline: SpeechEnhancementPipeline, mix: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """The pipeline as a function of float32 (T,) at 16 kHz."""
    return lambda audio: pipeline(audio, sampling_rate=JUDGE_RATE, mix=mix).audio[0]
