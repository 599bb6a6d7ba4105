"""Speed of text to image on this machine, and the share of text, backbone, head and decoder.

A batch is compared with the same images one by one in the same run. "text" is the embedding of the captions; the
backbone's blocks read captions and positions once, the head runs the solver's steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tables import Table, add_json_option, forget_peak, peak_megabytes, publish

from photophone.pipelines.text_to_image import TextToImagePipeline

PROMPTS = ["a red apple, 3d emoji", "birthday cake, flat emoji", "blue rocket, silhouette icon",
           "human woman wearing red robe holding staff, pixel art"]

BATCHES = (1, 4, 16)
PARTS = ("text", "backbone", "head", "decoder")


class Stopwatch:
    """Adds up the seconds spent in wrapped callables, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, owner: object, attribute: str, name: str) -> None:
        """Time every call of ``owner.attribute`` under ``name``."""
        function = getattr(owner, attribute)

        def timed(*args, **kwargs):
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

        object.__setattr__(owner, attribute, timed)


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall time of ``function`` after one warm-up call."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def watched(pipeline: TextToImagePipeline) -> Stopwatch:
    """A stopwatch on the parts of a pipeline."""
    watch, model = Stopwatch(), pipeline.token_generator
    watch.wrap(model, "encode_text", "text")
    watch.wrap(model, "run_cached", "backbone")
    watch.wrap(model.token_head, "sample", "head")
    watch.wrap(pipeline.image_tokenizer, "decode", "decoder")
    return watch


def measure(pipeline: TextToImagePipeline, repeats: int) -> Table:
    """Seconds and peak memory of each batch size, how much faster an image is than alone, and the percent of each
    part."""
    def run(batch: int) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(batch)]
        pipeline([PROMPTS[i % len(PROMPTS)] for i in range(batch)], generator=generators)

    times, peaks = {}, {}
    for batch in BATCHES:
        forget_peak()
        times[batch] = median_seconds(lambda batch=batch: run(batch), repeats)
        peaks[batch] = peak_megabytes()
    watch, rows = watched(pipeline), []
    for batch, seconds in times.items():
        watch.seconds.clear()
        total = median_seconds(lambda batch=batch: run(batch), 1) * 2  # a call to warm up is watched too
        shares = [100 * watch.seconds[name] / total for name in PARTS]
        rows.append([batch, seconds, batch / seconds, batch * times[1] / seconds, peaks[batch],
                     *(round(share) for share in (*shares, 100 - sum(shares)))])
    columns = ["images at a time", "seconds", "images a second", "times as fast as one by one", "peak MB"]
    return [*columns, *(f"{name} %" for name in (*PARTS, "rest"))], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photophone/tiny-image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pipeline = TextToImagePipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    publish({"image": measure(pipeline, arguments.repeats)}, arguments.json, threads=arguments.threads)


if __name__ == "__main__":
    main()
