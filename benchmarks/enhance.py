"""Speed and memory of speech enhancement on one thread, beside other enhancers in the same run."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from photophone.data.audio_stream import AudioReader, write_pieces
from photophone.evaluation.metrics.judges import JUDGE_RATE
from photophone.evaluation.peers.enhancement import ENHANCERS
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline


def noise_pieces(seconds: int, sample_rate: int):
    """Noise (1, n), a second at a time."""
    rng = np.random.default_rng(0)
    for _ in range(seconds):
        yield 0.1 * rng.standard_normal((1, sample_rate)).astype(np.float32)


def peak_megabytes() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photophone/tiny-enhance")
    parser.add_argument("--seconds", type=int, default=20, help="of the clip for the speed")
    parser.add_argument("--long", type=int, default=3600, help="seconds of the long file; 0 for none")
    parser.add_argument("--sample-rate", type=int, default=16000, help="of the long file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = SpeechEnhancementPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    audio = np.concatenate(list(noise_pieces(arguments.seconds, JUDGE_RATE)), axis=1)[0]
    ways = {"photophone": lambda x: pipeline(x, sampling_rate=JUDGE_RATE).audio[0], **ENHANCERS.available()[0]}
    for name, enhance in ways.items():
        enhance(audio[:JUDGE_RATE])
        wall, cpu = time.perf_counter(), time.process_time()
        enhance(audio)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{name:16s} real-time factor {wall / arguments.seconds:.3f}, processor {cpu / arguments.seconds:.3f}")
    if not arguments.long:
        return
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "long.flac", Path(folder) / "clean.flac"
        write_pieces(source, noise_pieces(arguments.long, arguments.sample_rate), arguments.sample_rate, 1)
        short = Path(folder) / "short.flac"
        write_pieces(short, noise_pieces(60, arguments.sample_rate), arguments.sample_rate, 1)
        pipeline.enhance_file(short, target)
        before, started = peak_megabytes(), time.perf_counter()
        pipeline.enhance_file(source, target)
        taken = time.perf_counter() - started
        frames = AudioReader(target).told_frames
        print(f"{arguments.long} s at {arguments.sample_rate} Hz: real-time factor {taken / arguments.long:.3f}, peak "
              f"memory {peak_megabytes():.0f} MB, {peak_megabytes() - before:.0f} MB above that of a minute, "
              f"{frames - arguments.long * arguments.sample_rate} samples of difference in length")


if __name__ == "__main__":
    main()
