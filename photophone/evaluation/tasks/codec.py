"""`photophone evaluate codec`: rate, quality, use of codes and robustness of codecs on the same test speech."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import phase_vocoder
from tqdm import tqdm

from photophone.codecs.base import AudioCodec
from photophone.data.recording_layouts import read_recordings
from photophone.data.resampling import resample_audio
from photophone.data.speech_sources import Clip, decode_clip
from photophone.evaluation.metrics.audio import mel_distance, pesq_wb, si_sdr, stoi
from photophone.evaluation.metrics.judges import JUDGE_RATE, Panel
from photophone.evaluation.metrics.units import (
    byte_pair_gain,
    deduplicate,
    huffman_bits,
    normalized_edit_distance,
    unit_edit_distance,
    usage,
)
from photophone.evaluation.scores import mean_scores

ROBUSTNESS_CLIPS = 10
SMOKE_CLIPS = 2
"""Clips that codecs with random weights are given, without judges: their numbers mean nothing."""
MAX_BOOKS = 8
"""Codebooks of which the figures of units are taken, spread evenly; dMel has 80."""
REPEATED_CLIPS = 12
MERGES = 64
FLOAT_BITS = 16
"""Of a channel of a continuous token as it is usually stored."""
SHORTEST = 0.5
"""Seconds; shorter clips are left out, STOI and PESQ cannot judge them."""


def read_test_clips(path: Path, limit: int) -> tuple[list[Clip], list[Clip]]:
    """``limit`` clips spread over a parquet file, over the parquet files of a folder that have "test" in their names,
    or over a folder of recordings; and the first ``REPEATED_CLIPS`` whose words another speaker says as well.

    Raises:
        ValueError: there is nothing to read.
    """
    if limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    files = [file for file in sorted(path.glob("*.parquet")) if "test" in file.name] if path.is_dir() else []
    rows = [row for file in files or [path] for row in read_recordings(file)]
    if not rows:
        raise ValueError(f"{path} holds no speech")
    places = np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)
    clips = [decode_clip(*rows[place]) for place in places]
    clips = [clip for clip in clips if len(clip.audio) >= SHORTEST * clip.sample_rate]
    if not clips:
        raise ValueError(f"all clips of {path} are shorter than {SHORTEST} s")
    speakers: dict[str, set[str]] = {}
    for _, fields in rows:
        speakers.setdefault(fields.get("text") or "", set()).add(fields.get("speaker") or "")
    repeated = [row for row in rows if row[1].get("text") and len(speakers[row[1]["text"]]) > 1]
    return clips, [decode_clip(*row) for row in repeated[:REPEATED_CLIPS]]


def evaluate_codecs(codecs: Mapping[str, AudioCodec], clips: list[Clip], *, repeated: list[Clip] = (),
                    judges: bool = True, random: Collection[str] = (), progress: bool = False) -> dict:
    """Measure codecs on the same clips.

    Args:
        codecs: by name.
        clips: test speech; its ``fields`` may have ``text`` and ``speaker``.
        repeated: clips in which several speakers say the same words; of ``clips`` where there are none.
        judges: also DNSMOS, word errors of Whisper base, and speaker similarity.
        random: names of those that have random weights; they run over ``SMOKE_CLIPS`` clips only, nobody judges them,
            and the result says so.
        progress: show a bar.

    Returns:
        ``clips`` (count and seconds), ``original`` (what the judges say of the clips themselves) and ``codecs``: a
        dict of numbers for each name; NaN where a measure does not apply; ``unscored`` names by column the clips that
        have no score and are in no mean.
    """
    panel = Panel(judges)
    seconds = sum(len(clip.audio) / clip.sample_rate for clip in clips)
    originals = [clip.at(JUDGE_RATE) for clip in clips]
    texts = [clip.fields.get("text") or "" for clip in clips]
    heard = [panel.hear(audio) for audio in originals]
    result: dict = {"clips": {"count": len(clips), "seconds": seconds}, "codecs": {},
                    "original": {**mean_scores([opinions(panel, audio) for audio in originals], names_of(clips)),
                                 "wer": panel.word_errors(texts, heard)}}
    for name, codec in codecs.items():
        smoke = name in random
        tried = tqdm(clips[:SMOKE_CLIPS] if smoke else clips, desc=name, disable=not progress)
        result["codecs"][name] = {"random_weights": smoke, **rate_of(codec), **evaluate_codec(
            codec, tried, originals, heard, Panel(False) if smoke else panel, repeated)}
    return result


def evaluate_codec(codec: AudioCodec, clips: Iterable[Clip], originals: list[np.ndarray], heard: list[str],
                   panel: Panel, repeated: list[Clip] = ()) -> dict:
    """The numbers of one codec; ``originals`` are the clips at JUDGE_RATE, ``heard`` what the panel reads from them,
    ``repeated`` are of :func:`evaluate_codecs`."""
    tried, rows, replies, units, spent = [], [], [], [], Counter()
    for clip, original in zip(clips, originals):
        audio, codes = round_trip(codec, clip, spent)
        rows.append({"pesq": pesq_wb(original, audio), "stoi": stoi(original, audio, JUDGE_RATE),
                     "si_sdr": si_sdr(original, audio), "mel_distance": mel_distance(original, audio, JUDGE_RATE),
                     "speaker_similarity": panel.similarity(original, audio), **opinions(panel, audio)})
        replies.append(panel.hear(audio))
        units.append(codes)
        tried.append(clip)
    seconds = sum(len(clip.audio) / clip.sample_rate for clip in tried)
    texts = [clip.fields.get("text") or "" for clip in tried]
    return {"clips": len(tried), **mean_scores(rows, names_of(tried)), "wer": panel.word_errors(texts, replies),
            "wer_of_original": panel.word_errors(heard[:len(tried)], replies),
            "encode_rtf": spent["encode"] / seconds, "decode_rtf": spent["decode"] / seconds,
            **({} if codec.codebook_size is None else unit_figures(codec, units, tried, repeated))}


def opinions(panel: Panel, audio: np.ndarray) -> dict[str, float]:
    """DNSMOS of 16 kHz audio, by names that say so."""
    return {f"dnsmos_{name}": value for name, value in panel.rate(audio).items()}


@torch.no_grad()
def round_trip(codec: AudioCodec, clip: Clip, spent: Counter) -> tuple[np.ndarray, Tensor]:
    """A clip through a codec: its audio at 16 kHz and the tokens' values; seconds are added to ``spent``: those of the
    processor, which do not depend on what else it does, or of the clock on other devices."""
    wave = torch.from_numpy(clip.at(codec.sample_rate))[None, None].to(codec.device)
    now = time.process_time if codec.device.type == "cpu" else time.perf_counter
    started = now()
    tokens = codec.encode(wave)
    encoded = now()
    made = codec.decode(tokens)[0, 0].float().cpu()
    spent["encode"] += encoded - started
    spent["decode"] += now() - encoded
    return resample_audio(made, codec.output_sample_rate, JUDGE_RATE).clamp(-1, 1).numpy(), tokens.values[0].cpu()


def rate_of(codec: AudioCodec) -> dict[str, float]:
    """Tokens, numbers (ids, or channels of continuous tokens) and bits per second; continuous tokens have no bits of
    their own, those of 16-bit floats are given apart."""
    if codec.codebook_size is None:
        numbers = codec.frame_rate * codec.token_dim
        return {"tokens_per_second": codec.frame_rate, "ids_per_second": numbers, "bits_per_second": math.nan,
                "float_bits_per_second": FLOAT_BITS * numbers}
    ids = codec.frame_rate * codec.num_codebooks
    return {"tokens_per_second": codec.frame_rate, "ids_per_second": ids,
            "bits_per_second": ids * math.log2(codec.codebook_size)}


def names_of(clips: Sequence[Clip]) -> list[str]:
    """How a report names clips: by what their source calls them, or by their number."""
    return [str(clip.fields.get("file") or clip.fields.get("id") or number) for number, clip in enumerate(clips, 1)]


def books_of(values: Tensor) -> list[list[int]]:
    """Units (N,) or (Q, N) of at most ``MAX_BOOKS`` codebooks."""
    rows = values[None] if values.dim() == 1 else values
    places = np.linspace(0, len(rows) - 1, min(MAX_BOOKS, len(rows))).round().astype(int)
    return [rows[place].tolist() for place in places]


@torch.no_grad()
def unit_figures(codec: AudioCodec, units: list[Tensor], clips: list[Clip], repeated: list[Clip] = ()) -> dict:
    """Use and compressibility of the units of all clips, and robustness on the first; means over codebooks."""
    clips_by_book = list(zip(*(books_of(values) for values in units)))  # Q lists of clips of units
    rows = []
    for sequences in clips_by_book:
        counts = Counter(itertools.chain(*sequences))
        size = codec.codebook_size
        single = [deduplicate(units) for units in sequences]
        half = len(sequences) // 2
        fixed = math.ceil(math.log2(size)) if size > 1 else 1
        pairs = byte_pair_gain(sequences[:half], sequences[half:], MERGES) if half else math.nan
        rows.append({**usage(counts, size), "huffman_gain": 1 - huffman_bits(counts) / fixed, "byte_pair_gain": pairs,
                     "dedup_ratio": sum(map(len, single)) / sum(map(len, sequences))})
    figures = mean_scores(rows)
    del figures["unscored"]  # these are of codebooks, not of clips
    figures["frames"] = sum(values.shape[-1] for values in units)
    figures["effective_bits_per_second"] = codec.frame_rate * codec.num_codebooks * figures["entropy"]
    said = [codec.encode(torch.from_numpy(clip.at(codec.sample_rate))[None, None].to(codec.device)).values[0].cpu()
            for clip in repeated]
    return {**figures, "robustness": robustness(codec, clips[:ROBUSTNESS_CLIPS]),
            "context_invariance": context_invariance(codec, clips[:ROBUSTNESS_CLIPS]),
            "speaker_invariance": speaker_invariance(said or units, repeated or clips)}


def stretch(wave: Tensor, factor: float, size: int = 512) -> Tensor:
    """A wave (T,) made ``factor`` times as long at the same pitch, by a phase vocoder."""
    hop, window = size // 4, torch.hann_window(size)
    spectrum = torch.stft(wave, size, hop, window=window, return_complex=True, pad_mode="constant")
    advance = torch.linspace(0, math.pi * hop, size // 2 + 1)[:, None]
    return torch.istft(phase_vocoder(spectrum, 1 / factor, advance), size, hop, window=window,
                       length=round(len(wave) * factor))


def disturbances(rate: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Changes of a wave (T,) that should not change its units much. Noise has a fixed seed."""
    def noise(decibels: float) -> Callable[[Tensor], Tensor]:
        def add(wave: Tensor) -> Tensor:
            draw = torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
            return wave + draw * wave.square().mean().sqrt() * 10 ** (-decibels / 20)
        return add

    def speed(factor: float) -> Callable[[Tensor], Tensor]:
        return lambda wave: resample_audio(wave, round(rate * factor), rate)

    def pitch(semitones: int) -> Callable[[Tensor], Tensor]:
        factor = 2 ** (semitones / 12)
        return lambda wave: resample_audio(stretch(wave, factor), round(rate * factor), rate)[:len(wave)]

    return {"white noise 25 dB": noise(25), "white noise 15 dB": noise(15), "gain 0.3": lambda wave: 0.3 * wave,
            "speed 0.9": speed(0.9), "speed 1.1": speed(1.1), "pitch -2": pitch(-2), "pitch +2": pitch(2)}


@torch.no_grad()
def units_of(codec: AudioCodec, wave: Tensor) -> list[list[int]]:
    """Units of a wave (T,), a list for each codebook."""
    return books_of(codec.encode(wave[None, None].to(codec.device)).values[0].cpu())


def robustness(codec: AudioCodec, clips: list[Clip]) -> dict[str, float]:
    """Unit edit distance under each disturbance, over the deduplicated length."""
    waves = [torch.from_numpy(clip.at(codec.sample_rate)) for clip in clips]
    plain = [units_of(codec, wave) for wave in waves]
    return {name: statistics.fmean(unit_edit_distance(first, second) for wave, books in zip(waves, plain)
                                   for first, second in zip(books, units_of(codec, change(wave))))
            for name, change in disturbances(codec.sample_rate).items()}


def context_invariance(codec: AudioCodec, clips: list[Clip]) -> float:
    """1 - normalised edit distance of the units of the middle half, alone and inside its clip."""
    scores = []
    for clip in clips:
        wave = torch.from_numpy(clip.at(codec.sample_rate))
        first, last = (len(wave) // codec.hop_length * part // 4 for part in (1, 3))
        if last - first < 2:
            continue
        alone = units_of(codec, wave[first * codec.hop_length:last * codec.hop_length])
        inside = [units[first:last] for units in units_of(codec, wave)]
        scores += [1 - normalized_edit_distance(a, b) for a, b in zip(alone, inside)]
    return statistics.fmean(scores) if scores else math.nan


def speaker_invariance(units: list[Tensor], clips: list[Clip]) -> float:
    """1 - normalised edit distance of the same words from different speakers; NaN where no words were said twice."""
    scores = []
    for (first, a), (second, b) in itertools.combinations(zip(units, clips), 2):
        text, speaker = a.fields.get("text"), a.fields.get("speaker")
        if text and text == b.fields.get("text") and speaker != b.fields.get("speaker"):
            scores += [1 - normalized_edit_distance(*pair) for pair in zip(books_of(first), books_of(second))]
    return statistics.fmean(scores) if scores else math.nan
