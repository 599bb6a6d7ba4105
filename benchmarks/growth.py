"""How cost grows with tokens, codebook, batch and audio length, on the processor: a table and a picture.

    python benchmarks/growth.py -o docs/pictures/growth.png

Each number is the least of some repeats, in seconds. Decoding has a picture of its own: ``decode_growth.py``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from tables import add_json_option, publish

from photophone import SpeechEnhancementPipeline, TextToImagePipeline, TextToSpeechPipeline
from photophone.codecs.vocos.model import Vocos
from photophone.core.tokens import Tokens
from photophone.kernels.vq import nearest_code

REPEATS = 3
AXES = {"lookup among 16,384 codes": "rows", "lookup of 4,096 rows, by codes": "codes",
        "tiny-image, by images": "images", "audio, by seconds": "seconds of audio"}
SENTENCE = "Light carries sound over the hill to the other side of the valley. "


def seconds(run: Callable[[], object]) -> float:
    """The least time of some repeats, after one that is not counted."""
    run()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def lookup() -> Iterator[tuple[str, str, int, Callable[[], object]]]:
    generator = torch.Generator().manual_seed(0)
    x, book = torch.randn(16384, 32, generator=generator), torch.randn(65536, 32, generator=generator)
    for channels in (8, 32):
        for rows in (512, 2048, 8192, 16384):
            yield ("lookup among 16,384 codes", f"{channels} channels", rows,
                   partial(nearest_code, x[:rows, :channels], book[:16384, :channels]))
        for codes in (1024, 4096, 16384, 65536):
            yield ("lookup of 4,096 rows, by codes", f"{channels} channels", codes,
                   partial(nearest_code, x[:4096, :channels], book[:codes, :channels]))


def pipelines() -> Iterator[tuple[str, str, int, Callable[[], object]]]:
    image = TextToImagePipeline.from_pretrained("photophone/tiny-image")
    image.set_progress_bar_config(disable=True)
    for rows in (1, 4, 16, 32):
        yield "tiny-image, by images", "", rows, partial(image, ["a red apple, 3d emoji"] * rows)
    speak = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    enhance = SpeechEnhancementPipeline.from_pretrained("photophone/tiny-enhance")
    vocos = Vocos().eval()
    for pipeline in (speak, enhance):
        pipeline.set_progress_bar_config(disable=True)
    for sentences in (1, 4, 12):
        length = round(len(speak(SENTENCE * sentences).audio[0]) / speak.sample_rate)
        yield "audio, by seconds", "tiny-speech", length, partial(speak, SENTENCE * sentences)
    for length in (4, 15, 60):
        noise = torch.randn(length * 16000, generator=torch.Generator().manual_seed(0)) / 10
        yield "audio, by seconds", "tiny-enhance", length, partial(enhance, noise, sampling_rate=16000)
        mels = torch.randn(1, round(length * 93.75), 100, generator=torch.Generator().manual_seed(0))
        yield "audio, by seconds", "Vocos, 13.5 M", length, partial(vocos.decode, Tokens(mels))


def draw(rows: list[tuple[str, str, int, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = list(dict.fromkeys(row[0] for row in rows))
    figure, places = pyplot.subplots(2, 2, figsize=(8, 6), constrained_layout=True)
    for place, title in zip(places.flat, titles):
        for name in dict.fromkeys(row[1] for row in rows if row[0] == title):
            points = [(row[2], row[3]) for row in rows if row[:2] == (title, name)]
            place.loglog(*zip(*points), marker="o", label=name or None)
        # the measured sizes, and no labels between them, which would lie upon each other
        sizes = sorted({row[2] for row in rows if row[0] == title})
        sizes = [size for before, size in zip([0, *sizes], sizes) if size > 1.4 * before]
        place.set_xticks(sizes, [f"{size:,}" for size in sizes])
        place.set_xticks([], minor=True)
        place.yaxis.set_major_formatter("{x:g}")
        place.yaxis.set_minor_formatter("")
        place.set_xlabel(AXES[title], fontsize=8)
        place.set_title(title, fontsize=10)
        place.set_ylabel("seconds", fontsize=8)
        place.grid(alpha=0.3, which="both")
        if place.get_legend_handles_labels()[0]:
            place.legend(fontsize=8)
    figure.savefig(path, dpi=80)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs/growth.png"), help="the picture")
    parser.add_argument("--threads", type=int, default=2)
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for title, name, size, run in (*lookup(), *pipelines()):
        rows.append((title, name, size, seconds(run)))
    draw(rows, arguments.output)
    publish({"growth": (("what grows", "of", "size", "seconds"), rows)}, arguments.json, threads=arguments.threads)


if __name__ == "__main__":
    main()
