"""Encode a prepared file of images with an image tokenizer, once, for the training of generators."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from photophone.core.command import run_command
from photophone.core.files import check_target
from photophone.core.tokens import Tokens
from photophone.data.images import ImageDataset
from photophone.loading.saved import open_saved
from photophone.tokenizers.base import ImageTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared .safetensors of images")
    parser.add_argument("-t", "--tokenizer", type=Path, required=True, help="folder of a saved tokenizer")
    parser.add_argument("-o", "--output", type=Path, required=True, help="token file to write")
    parser.add_argument("--flip", action="store_true", help="also encode all images mirrored, behind the others; "
                                                            "training then takes one of the two at random")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    check_target(arguments.output, arguments.overwrite)
    data = ImageDataset(arguments.data)
    tokenizer = open_saved(arguments.tokenizer, ImageTokenizer).to(arguments.device)
    parts = []
    starts = range(0, len(data), arguments.batch_size)
    for mirrored in (False, True)[:1 + arguments.flip]:
        for start in tqdm(starts, unit="batch", desc="mirrored" if mirrored else None):
            images = data.batch(np.arange(start, min(start + arguments.batch_size, len(data))))
            images = images.flip(-1) if mirrored else images
            parts.append(tokenizer.encode(images.to(arguments.device)).values.cpu())
    values = torch.cat(parts)
    Tokens(values).save(arguments.output, overwrite=arguments.overwrite)
    kind = "continuous" if values.is_floating_point() else f"codes of {tokenizer.codebook_size:,}"
    print(f"tokens {tuple(values.shape)}, {kind}, of {len(data)} images in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
