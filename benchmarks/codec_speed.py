"""Speed of codecs on one thread, in both directions, beside EnCodec in the same run.

Published sizes with random weights, which are as fast as trained ones; those of the wheel have their own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tables import add_json_option, publish

from photophone import AutoCodec, create_model
from photophone.codecs.base import AudioCodec

NAMES = ("photophone/tiny-speech", "photophone/tiny-vocoder", "dmel-16k-25ms", "encodec-24khz-6kbps", "mimi-8",
         "dac-16khz", "wavtokenizer-large-unify-40", "focalcodec-causal-2k", "vocos-mel-24khz")
PEER = "encodec-24khz-6kbps"


def load(name: str) -> AudioCodec:
    """A codec of the wheel, or one with random weights."""
    if name.startswith("photophone/"):
        return AutoCodec.from_pretrained(name)
    torch.manual_seed(0)
    return create_model(name).eval()


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Processor seconds, after a call that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return statistics.median(times)


@torch.no_grad()
def measure(name: str, seconds: int, repeats: int) -> list[float]:
    """Millions of parameters, and the real-time factors of encoding and decoding."""
    codec = load(name)
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(1, 1, seconds * codec.sample_rate, generator=generator) / 10
    tokens = codec.encode(wave)
    taken = [median_seconds(run, repeats) for run in (lambda: codec.encode(wave), lambda: codec.decode(tokens))]
    return [sum(p.numel() for p in codec.parameters()) / 1e6, *(each / seconds for each in taken)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("codecs", nargs="*", default=NAMES, help=f"registered names (default: {', '.join(NAMES)})")
    parser.add_argument("--seconds", type=int, default=4, help="of the clip")
    parser.add_argument("--repeats", type=int, default=3)
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = dict.fromkeys([*arguments.codecs, PEER])
    measured = {name: measure(name, arguments.seconds, arguments.repeats) for name in names}
    peer = measured[PEER]
    rows = [[f"`{name}`", *numbers, numbers[1] / peer[1], numbers[2] / peer[2]] for name, numbers in measured.items()]
    columns = ("codec", "million parameters", "encodes, real-time factor", "decodes", "encodes, to EnCodec",
               "decodes, to EnCodec")
    publish({"codecs": (columns, rows)}, arguments.json, threads=1)


if __name__ == "__main__":
    main()
