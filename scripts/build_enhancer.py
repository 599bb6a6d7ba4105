"""Put a trained enhancer into a pipeline folder with 16-bit weights, as in the wheel."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from photophone.generators.enhancer.model import SpeechEnhancer
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline

CARD = """---
license: apache-2.0
language: en
pipeline_tag: audio-to-audio
---
# {name}

Noisy speech to clean speech at {rate} Hz with {parameters:.1f} million parameters ({megabytes:.1f} MB in 16 bits).

- Enhancer: `SpeechEnhancer`, noisy spectrum to clean codec tokens and, by a filter, to clean speech.
- Revision: {revision}

Sources and licences of the training data, the numbers and the limits: `docs/enhancement.md`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--enhancer", type=Path, required=True, help="export/ of the enhancer's run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", default="photophone/tiny-enhance", help="what the pipeline is called")
    parser.add_argument("--revision", required=True, help="version of these weights, such as 1.0")
    arguments = parser.parse_args()
    enhancer = SpeechEnhancer.from_pretrained(arguments.enhancer, dtype=torch.float16)
    enhancer.register_to_config(_name_or_path=arguments.name)  # else the folder of the training run
    SpeechEnhancementPipeline(enhancer).save_pretrained(arguments.output)
    (arguments.output / "revision.txt").write_text(arguments.revision + "\n")
    megabytes = sum(file.stat().st_size for file in arguments.output.rglob("*.safetensors")) / 1e6
    parameters = sum(p.numel() for p in enhancer.parameters()) / 1e6
    card = arguments.output / "README.md"
    if not card.exists():  # a card that was written by hand stays
        card.write_text(CARD.format(name=arguments.name, rate=enhancer.config.sample_rate, parameters=parameters,
                                    megabytes=megabytes, revision=arguments.revision), encoding="utf-8")
    print(f"{arguments.output}: {megabytes:.2f} MB of weights")


if __name__ == "__main__":
    main()
