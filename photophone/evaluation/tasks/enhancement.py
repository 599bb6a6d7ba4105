"""`photophone evaluate enhance`: our enhancer, the noisy input, the clean reference and other enhancers in one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from photophone.data.audio import read_audio
from photophone.data.degrade import telephone
from photophone.data.mixing import convolve, power, scale_to_snr
from photophone.data.rooms import random_room
from photophone.data.speech import SpeechDataset
from photophone.evaluation.metrics.audio import pesq_wb, si_sdr, stoi, word_error_rate
from photophone.evaluation.metrics.judges import JUDGE_RATE, Panel
from photophone.evaluation.scores import mean_scores
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline

SNRS_DB = (-5, 0, 5, 10, 15, math.inf)
"""Of the mixtures; the last is clean speech, of which an enhancer should change little."""
CONDITIONS = ("room", "telephone")
"""What mixtures may have gone through beside noise."""
CONDITION_SNR_DB = 10.0
MIX_SECONDS = (3.0, 10.0)
"""Clips of test speech that are mixed are of such length."""
DESTROYED = 0.1
"""A clip whose STOI falls by more is lost speech."""


@dataclass
class Pair:
    """A noisy and a clean float32 (T,) at 16 kHz, what is said, or "" where it is not known, and a name."""

    noisy: np.ndarray
    clean: np.ndarray
    text: str = ""
    name: str = ""


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
    pairs = [Pair(*(read_audio(item[kind], JUDGE_RATE)[0] for kind in ("noisy", "clean")), item["text"], name)
             for name, item in found.items() if {"noisy", "clean"} <= set(item)]
    if not pairs:
        raise ValueError(f"{path} holds no pairs of files clean_ID and noisy_ID")
    return pairs[:limit]


def mixed_pairs(speech: SpeechDataset, noise: SpeechDataset, snr_db: float, count: int, seed: int = 0,
                condition: str | None = None) -> list[Pair]:
    """Seeded mixtures of whole clips; every ratio and condition gets the same clips and noises.

    Args:
        speech, noise: test material at 16 kHz.
        snr_db: of active speech.
        count: of pairs.
        seed: of noises and rooms.
        condition: "room": the speech is heard in simulated rooms, and shall come out as if it were not. "telephone":
            the mixture goes through the band of a telephone and mu-law coding; the clean speech has that band, too.

    Raises:
        ValueError: the speech holds too few clips of ``MIX_SECONDS``, or is not at 16 kHz; an unknown condition.
    """
    if {speech.sample_rate, noise.sample_rate} != {JUDGE_RATE}:
        raise ValueError(f"test data must be at {JUDGE_RATE} Hz, got {speech.sample_rate} and {noise.sample_rate}")
    low, high = (round(seconds * JUDGE_RATE) for seconds in MIX_SECONDS)
    lengths = speech.lengths.numpy()
    usable = np.flatnonzero((lengths >= low) & (lengths <= high))
    if len(usable) < count:
        raise ValueError(f"{len(usable)} clips of {MIX_SECONDS[0]:g} to {MIX_SECONDS[1]:g} s for {count} mixtures")
    if condition not in (None, *CONDITIONS):
        raise ValueError(f"the condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")
    rng, rooms = np.random.default_rng(seed), np.random.default_rng([seed, 2])
    clips = usable[np.linspace(0, len(usable) - 1, count).astype(int)]
    noises = rng.choice(len(noise), size=count, replace=count > len(noise))
    pairs = []
    for clip, chosen in zip(clips, noises):
        clean, sound = speech.clip(int(clip)).numpy(), noise.clip(int(chosen)).numpy()
        start = int(rng.integers(len(sound)))
        sound = np.take(sound, np.arange(start, start + len(clean)), mode="wrap")
        if not power(sound):  # a pause of the recording
            sound = rng.standard_normal(len(clean)).astype(np.float32)
        spoken = convolve(clean, random_room(rooms, JUDGE_RATE)[0]) if condition == "room" else clean
        noisy = spoken + scale_to_snr(spoken, sound, snr_db, JUDGE_RATE)
        gain = min(1.0, 0.95 / float(np.abs(noisy).max()))
        noisy, clean = noisy * gain, clean * gain
        if condition == "telephone":
            noisy, clean = telephone(noisy, JUDGE_RATE), telephone(clean, JUDGE_RATE, coded=False)
        pairs.append(Pair(noisy, clean, speech.fields[int(clip)].get("text", ""),
                          f"clip {clip}"))
    return pairs


def measure(panel: Panel, pair: Pair, made: np.ndarray) -> dict[str, float]:
    """What can be computed from a pair and an enhanced clip float32 (T,), and what the judges say of it."""
    before, after = (stoi(pair.clean, audio, JUDGE_RATE) for audio in (pair.noisy, made))
    scores = {"pesq": pesq_wb(pair.clean, made), "stoi": after, "si_sdr": si_sdr(pair.clean, made),
              "destroyed": math.nan if math.isnan(after - before) else float(after < before - DESTROYED)}
    if panel.present:
        opinions = panel.rate(made)
        scores |= {name: opinions[name] for name in ("sig", "bak", "ovrl")}
        scores |= {"plcmos": panel.continuity(made), "similarity": panel.similarity(pair.clean, made)}
    return scores


def evaluate_enhancers(systems: dict[str, Callable[[np.ndarray], np.ndarray]], sets: dict[str, list[Pair]], *,
                       judges: bool = True, words: bool = True,
                       progress: bool = False) -> dict[str, dict[str, dict[str, float]]]:
    """Measure enhancers, the noisy input and the clean reference on the same pairs.

    Args:
        systems: by name, functions of float32 (T,) at 16 kHz to the same.
        sets: pairs by the name of the set.
        judges: also DNSMOS, PLCMOS, words by Whisper base, and speaker similarity.
        words: those of Whisper among them, which take most of the time.
        progress: show a bar.

    Returns:
        For each set and system means of the columns of the report. ``wer`` is against the text where it is known, else
        against what Whisper hears in the clean clip. ``destroyed`` is the number of clips whose STOI fell by more than
        ``DESTROYED``. ``unscored`` names by column the clips without a score, and ``failed`` those of which a system
        made nothing that can be measured, with the reason; neither enters a mean. ``rtf`` is processor seconds for a
        second of audio, which on one thread of a free core is the time it takes.
    """
    panel, result = Panel(judges, words), {}
    for name, pairs in sets.items():
        truths = [pair.text or panel.hear(pair.clean) for pair in pairs]
        ways = {"noisy": lambda pair: pair.noisy, "clean": lambda pair: pair.clean,
                **{system: partial(run_system, enhance) for system, enhance in systems.items()}}
        result[name] = {system: evaluate_way(panel, way, pairs, truths)
                        for system, way in tqdm(ways.items(), desc=name, disable=not progress)}
        for system in ("noisy", "clean"):
            result[name][system]["rtf"] = math.nan
    return result


def evaluate_way(panel: Panel, way: Callable[[Pair], np.ndarray], pairs: list[Pair], truths: list[str]) -> dict:
    """The numbers of one way from a pair to audio (T,); ``truths`` are the words of the pairs."""
    rows, spent, failed = [], 0.0, {}
    said, heard, names = [], [], []
    for number, (pair, truth) in enumerate(zip(pairs, truths), 1):
        names.append(pair.name or str(number))
        started = time.process_time()
        try:
            made = way(pair)
        except (ArithmeticError, OSError, RuntimeError, TypeError, ValueError) as error:
            failed[names[-1]] = str(error).splitlines()[0]
            continue
        finally:
            spent += time.process_time() - started
        rows.append(measure(panel, pair, made))
        said.append(truth)
        heard.append(panel.hear(made))
    means = mean_scores(rows, [name for name in names if name not in failed])
    means["destroyed"] = sum(row["destroyed"] == 1 for row in rows)
    if panel.hears:
        means["wer"] = word_error_rate(said, heard)
    seconds = sum(len(pair.noisy) for pair in pairs) / JUDGE_RATE
    return means | {"failed": failed, "rtf": spent / seconds, "clips": len(pairs)}


def run_system(enhance: Callable[[np.ndarray], np.ndarray], pair: Pair) -> np.ndarray:
    """The noisy clip through an enhancer.

    Raises:
        ValueError: what it made is not finite or has another shape, so that no measure means anything.
    """
    made = np.asarray(enhance(pair.noisy))
    if made.shape != pair.noisy.shape:
        raise ValueError(f"it made {made.shape} of {pair.noisy.shape}")
    if not np.isfinite(made).all():
        raise ValueError("it made NaN or infinite samples")
    return made


def our_system(pipeline: SpeechEnhancementPipeline, mix: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """The pipeline as a function of float32 (T,) at 16 kHz."""
    return lambda audio: pipeline(audio, sampling_rate=JUDGE_RATE, mix=mix).audio[0]
