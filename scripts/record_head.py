"""Let a pipeline generate, and record what its flow head is asked and does: the data of train_few_steps.py.

Parts are written one by one; the same command goes on behind those that are there.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from photophone.core.command import run_command
from photophone.core.noise import SeededNoise
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler
from photophone.pipelines.speech_fronts import Request, SpokenVoice
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.text.captions import encode_captions, vary_caption
from photophone.training.record import RecordingHead, record, save_part

SPEEDS = (1.0, 1.0, 1.0, 0.8, 1.25)
"""Of speech, one for each batch."""


def read_texts(path: Path, split: str | None, rng: np.random.Generator) -> list[str]:
    """Texts in random order: rows of a .csv, captions of prepared images (.jsonl; 60 % as they stand), or lines."""
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            texts = [row["text"] for row in csv.DictReader(file) if split is None or row.get("split") == split]
        elif path.suffix == ".jsonl":
            texts = [vary_caption(json.loads(line), rng) for line in file]
        else:
            texts = [line.strip() for line in file if line.strip()]
    if not texts:
        raise ValueError(f"{path} has no texts" + (f" of split {split!r}" if split else ""))
    return [texts[place] for place in rng.permutation(len(texts))]


MIXED = 0.2
"""Share of the texts that two named voices speak together, where the model has names."""


class Speech:
    """Batches of sentences of about one length, each text by a random voice of the model."""

    def __init__(self, model: str) -> None:
        self.pipeline = TextToSpeechPipeline.from_pretrained(model)
        self.generator = self.pipeline.speech_generator

    def batches(self, texts: list[str], size: int, rng: np.random.Generator) -> list[tuple[Condition, Sampler]]:
        front, requests = self.pipeline.front, []
        for text in texts:
            voice = self.voice(rng)
            requests += [Request(piece, voice) for piece in front.speaking_with(voice).pieces(text)]
        requests.sort(key=lambda request: len(request.piece.phonemes))
        groups = [requests[start:start + size] for start in range(0, len(requests), size)]
        return [(front.condition(group), self.pipeline.sampler(float(rng.choice(SPEEDS)), 0.0)) for group in groups]

    def voice(self, rng: np.random.Generator) -> SpokenVoice | None:
        """A voice of the model or a mixture of two; None where it has one without a name."""
        names = self.pipeline.voices
        if not names:
            return None
        if len(names) > 1 and rng.random() < MIXED:
            share, (first, second) = float(rng.uniform(0.1, 0.9)), rng.choice(names, 2, replace=False)
            return self.pipeline.front.named_voice({str(first): share, str(second): 1 - share})
        return self.pipeline.front.named_voice(str(rng.choice(names)))


class Images:
    """Batches of captions."""

    def __init__(self, model: str) -> None:
        self.pipeline = TextToImagePipeline.from_pretrained(model)
        self.generator = self.pipeline.token_generator

    def batches(self, texts: list[str], size: int, rng: np.random.Generator) -> list[tuple[Condition, Sampler]]:
        groups = [texts[start:start + size] for start in range(0, len(texts), size)]
        kind = self.generator.Condition
        return [(kind(*encode_captions(self.pipeline.text_tokenizer, group, truncate=True)), self.pipeline.sampler())
                for group in groups]


KINDS = {"speech": Speech, "image": Images}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("texts", type=Path, help="a .csv with the column text, the .jsonl of prepared images, or lines")
    parser.add_argument("-m", "--model", required=True, help="a built-in pipeline or a folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the parts")
    parser.add_argument("--split", help="rows of a .csv to take")
    parser.add_argument("--parts", type=int, default=8, help="parts to write (default 8)")
    parser.add_argument("--texts-per-part", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, required=True, help="solver steps of the teacher")
    parser.add_argument("--guidance-range", type=float, nargs=2, required=True, metavar=("LOW", "HIGH"))
    parser.add_argument("--null-share", type=float, default=0.0, help="of rows without a text, for generators that "
                                                                      "call their head once")
    parser.add_argument("--bfloat16", action="store_true", help="the teacher's head under autocast")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for number in range(arguments.parts):
        path = arguments.output / f"part-{number:03d}.safetensors"
        if not path.exists():
            rows = make_part(KINDS[arguments.kind](arguments.model), arguments, number, path)
            print(f"{rows} rows in {path}")


def make_part(maker: Speech | Images, arguments: argparse.Namespace, number: int, path: Path) -> int:
    """Write one part; it follows from the seed and its number."""
    rng = np.random.default_rng([arguments.seed, number])
    texts = read_texts(arguments.texts, arguments.split, np.random.default_rng(arguments.seed))
    count = arguments.texts_per_part
    chosen = [texts[place % len(texts)] for place in range(number * count, (number + 1) * count)]
    head = RecordingHead(maker.generator.token_head, arguments.steps, tuple(arguments.guidance_range),
                         arguments.null_share, bfloat16=arguments.bfloat16, seed=int(rng.integers(2**31)))
    parts = []
    for condition, sampler in tqdm(maker.batches(chosen, arguments.batch_size, rng), desc=path.name):
        noise = SeededNoise.from_seeds(rng.integers(2**31, size=len(condition)), maker.generator.device)
        parts.append(record(maker.generator, head, condition, sampler, noise))
    return save_part(parts, path)


if __name__ == "__main__":
    run_command(main)
