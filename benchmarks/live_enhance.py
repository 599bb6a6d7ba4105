"""What a chunk of live enhancement costs on one thread, at the beginning of a stream and later."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from tables import Table, add_json_option, publish

from photophone.pipelines.speech_enhancement import LIVE_MODEL, SpeechEnhancementPipeline

WAYS = ((16_000, 16), (16_000, 100), (48_000, 20))
"""Rates in Hz, and milliseconds of a chunk."""


def measure(pipeline: SpeechEnhancementPipeline, seconds: int) -> Table:
    """Of streams of noise the share of a processor that they take, and the median milliseconds of it for a chunk in the
    first and last fifth."""
    rows = []
    for rate, milliseconds in WAYS:
        size = rate * milliseconds // 1000
        audio = 0.1 * np.random.default_rng(0).standard_normal((1, seconds * rate)).astype(np.float32)
        live, spent = pipeline.live(rate), []
        for place in range(0, audio.shape[1], size):
            began = time.process_time()
            live.push(audio[:, place:place + size])
            spent.append(1000 * (time.process_time() - began))
        part = len(spent) // 5
        first, last = (float(np.median(times)) for times in (spent[:part], spent[-part:]))
        rows.append([rate, milliseconds, sum(spent) / 1000 / seconds, first, last, 1000 * live.delay_seconds])
    return ("Hz", "ms of a chunk", "share of a processor", "its ms at first", "later", "delay in ms"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=LIVE_MODEL)
    parser.add_argument("--seconds", type=int, default=10, help="of each stream")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = SpeechEnhancementPipeline.from_pretrained(arguments.model)
    publish({"enhance-live": measure(pipeline, arguments.seconds)}, arguments.json, threads=1)


if __name__ == "__main__":
    main()
