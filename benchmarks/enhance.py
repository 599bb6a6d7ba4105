"""Speed and memory of speech enhancement on one thread, beside other enhancers in the same run."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tables import Table, add_json_option, forget_peak, peak_megabytes, publish

from photophone.data.audio_stream import AudioReader
from photophone.data.audio_write import write_pieces
from photophone.evaluation.metrics.judges import JUDGE_RATE
from photophone.evaluation.peers.enhancement import ENHANCERS
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline


def noise_pieces(seconds: int, sample_rate: int):
    """Noise (1, n), a second at a time."""
    rng = np.random.default_rng(0)
    for _ in range(seconds):
        yield 0.1 * rng.standard_normal((1, sample_rate)).astype(np.float32)


def measure_speed(pipeline: SpeechEnhancementPipeline, seconds: int) -> Table:
    """Real-time factors of the clock and of the processor, of photophone and of all peers that are installed."""
    audio = np.concatenate(list(noise_pieces(seconds, JUDGE_RATE)), axis=1)[0]
    ways = {"photophone": lambda x: pipeline(x, sampling_rate=JUDGE_RATE).audio[0], **ENHANCERS.available()[0]}
    rows: list[list] = []
    for name, enhance in ways.items():
        enhance(audio[:JUDGE_RATE])
        wall, cpu = time.perf_counter(), time.process_time()
        enhance(audio)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        ours = rows[0][2] if rows else cpu / seconds
        rows.append([name, wall / seconds, cpu / seconds, cpu / seconds / ours])
    return ("system", "real-time factor", "of the processor", "times photophone's"), rows


def measure_long(pipeline: SpeechEnhancementPipeline, seconds: int, sample_rate: int) -> Table:
    """Speed and peak memory of a long file, and what it needs above a file of a minute."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "long.flac", Path(folder) / "clean.flac"
        write_pieces(source, noise_pieces(seconds, sample_rate), sample_rate, 1)
        short = Path(folder) / "short.flac"
        write_pieces(short, noise_pieces(60, sample_rate), sample_rate, 1)
        forget_peak()
        pipeline.enhance_file(short, target)
        before, started = peak_megabytes(), time.perf_counter()
        pipeline.enhance_file(source, target, overwrite=True)
        taken = time.perf_counter() - started
        difference = AudioReader(target).told_frames - seconds * sample_rate
    columns = ("seconds of the file", "real-time factor", "peak MB", "MB above those of a minute",
               "samples of difference in length")
    return columns, [[seconds, taken / seconds, peak_megabytes(), peak_megabytes() - before, difference]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photophone/tiny-enhance")
    parser.add_argument("--seconds", type=int, default=20, help="of the clip for the speed")
    parser.add_argument("--long", type=int, default=3600, help="seconds of the long file; 0 for none")
    parser.add_argument("--sample-rate", type=int, default=16000, help="of the long file")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = SpeechEnhancementPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    tables = {"enhance": measure_speed(pipeline, arguments.seconds)}
    if arguments.long:
        tables["enhance-long"] = measure_long(pipeline, arguments.long, arguments.sample_rate)
    publish(tables, arguments.json, threads=1)


if __name__ == "__main__":
    main()
