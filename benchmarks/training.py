"""Seconds of one training step of the built-in image models, in float32 and under bfloat16 autocast.

    python benchmarks/training.py

Forward and backward pass of 48 images (tokenizer) and 96 captions (generator), without the optimizer; the fastest of
several runs. "compiled" is what configs/tiny_image_generator.yaml compiles: the blocks of the flow head.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from tables import add_json_option, forget_peak, peak_megabytes, publish
from torch import Tensor

import photophone as pp


def seconds(step: Callable[[], Tensor], repeats: int) -> float:
    """The fastest of ``repeats`` forward and backward passes, after one to warm up."""
    best = float("inf")
    for index in range(repeats + 1):
        start = time.perf_counter()
        step().backward()
        if index:
            best = min(best, time.perf_counter() - start)
    return best


def steps(pipeline: pp.TextToImagePipeline) -> dict[str, Callable[[], Tensor]]:
    """Functions that give the loss of one batch, by the model's name."""
    generator = torch.Generator().manual_seed(0)
    tokenizer, model = pipeline.image_tokenizer.train(), pipeline.token_generator.train()
    images = torch.rand(48, 3, 64, 64, generator=generator) * 2 - 1
    captions = torch.randint(5, model.config.vocab_size, (96, 12), generator=generator)
    tokens = torch.randn(96, model.config.num_tokens, model.config.token_dim, generator=generator)
    condition = pp.CaptionIds(captions, torch.ones_like(captions, dtype=torch.bool), captions[0])
    return {"tokenizer": lambda: (tokenizer(images).media.float() - images).square().mean(),
            "generator": lambda: model(pp.Tokens(tokens), condition).loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4, help="timed runs of each (default 4)")
    add_json_option(parser)
    arguments = parser.parse_args()
    pipeline = pp.TextToImagePipeline.from_pretrained("photophone/tiny-image").to(torch.float32)
    rows = []
    for compiled in (False, True):
        if compiled:
            for block in pipeline.token_generator.token_head.net.blocks:
                block.compile()
        for name, step in steps(pipeline).items():
            if compiled and name == "tokenizer":
                continue
            times, peaks = [], []
            for bf16 in (False, True):
                forget_peak()
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    times.append(seconds(step, arguments.repeats))
                peaks.append(peak_megabytes())
            rows.append([f"{name}{', compiled' * compiled}", *times, times[0] / times[1], *peaks])
    columns = ("model", "float32 s a step", "bfloat16 s a step", "times as fast", "peak MB, float32", "bfloat16")
    publish({"training": (columns, rows)}, arguments.json, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
