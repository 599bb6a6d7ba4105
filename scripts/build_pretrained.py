"""Put trained parts together into a pipeline folder with 16-bit weights, as it ships in the wheel."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from photophone.generators.flow_ar.model import FlowARGenerator
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.tokenizers.latent1d.model import Latent1DTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-tokenizer", type=Path, required=True, help="export/ of the tokenizer's run")
    parser.add_argument("--generator", type=Path, required=True, help="export/ of the generator's run")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", default="photophone/tiny-image", help="what the pipeline is called")
    parser.add_argument("--revision", required=True, help="version of these weights, such as 1.0")
    arguments = parser.parse_args()
    pipeline = TextToImagePipeline(
        PreTrainedTokenizerFast.from_pretrained(arguments.generator / "text_tokenizer"),
        FlowARGenerator.from_pretrained(arguments.generator / "token_generator", dtype=torch.float16),
        Latent1DTokenizer.from_pretrained(arguments.image_tokenizer, dtype=torch.float16))
    for model in (pipeline.token_generator, pipeline.image_tokenizer):
        model.register_to_config(_name_or_path=arguments.name)  # else the folder of the training run
    pipeline.save_pretrained(arguments.output)
    (arguments.output / "revision.txt").write_text(arguments.revision + "\n")
    weights = sum(file.stat().st_size for file in arguments.output.rglob("*.safetensors"))
    print(f"{arguments.output}: {weights / 1e6:.2f} MB of weights")


if __name__ == "__main__":
    main()
