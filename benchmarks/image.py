"""Speed of text to image on this machine, and the share of text, backbone, head and decoder.

A batch is compared with the same images one by one in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from photophone.pipelines.text_to_image import TextToImagePipeline

PROMPTS = ["a red apple, 3d emoji", "birthday cake, flat emoji", "blue rocket, silhouette icon",
           "human woman wearing red robe holding staff, pixel art"]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photophone/tiny-image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()
    pipeline = TextToImagePipeline.from_pretrained(arguments.model)
    print(f"load {time.perf_counter() - started:.2f} s, {arguments.threads} threads")

    def run(batch: int) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in range(batch)]
        pipeline([PROMPTS[i % len(PROMPTS)] for i in range(batch)], generator=generators)

    results = {batch: median_seconds(lambda batch=batch: run(batch), arguments.repeats) for batch in (1, 4, 16)}
    for batch, seconds in results.items():
        print(f"batch {batch:2d}: {seconds:.3f} s, {batch / seconds:.1f} images/s")
    print(f"16 images in one batch against one by one: {16 * results[1] / results[16]:.2f} times as fast")

    watch = Stopwatch()
    model = pipeline.token_generator
    watch.wrap(model, "encode_text", "text")
    watch.wrap(model, "run_cached", "backbone")
    watch.wrap(model.token_head, "sample", "head")
    watch.wrap(pipeline.image_tokenizer, "decode", "decoder")
    for batch in (1, 16):
        watch.seconds.clear()
        started = time.perf_counter()
        run(batch)
        total = time.perf_counter() - started
        # captions are read by the backbone's blocks in its first run; "text" is embedding and text-only blocks
        shares = ", ".join(f"{name} {100 * seconds / total:.0f} %" for name, seconds in watch.seconds.items())
        rest = 100 * (1 - sum(watch.seconds.values()) / total)
        print(f"batch {batch:2d} share: {shares}, rest {rest:.0f} %")


if __name__ == "__main__":
    main()
