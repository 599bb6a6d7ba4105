"""Encode a prepared file of images with an image tokenizer, once, for the training of generators."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from photophone.data.images import ImageDataset
from photophone.tokenizers.latent1d import Latent1DTokenizer
from photophone.tokens import Tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared .safetensors of images")
    parser.add_argument("-t", "--tokenizer", type=Path, required=True, help="folder of a saved tokenizer")
    parser.add_argument("-o", "--output", type=Path, required=True, help="token file to write")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    try:
        data = ImageDataset(arguments.data)
        tokenizer = Latent1DTokenizer.from_pretrained(arguments.tokenizer).to(arguments.device).eval()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    parts = []
    for start in tqdm(range(0, len(data), arguments.batch_size), unit="batch"):
        images = data.batch(np.arange(start, min(start + arguments.batch_size, len(data))))
        parts.append(tokenizer.encode(images.to(arguments.device)).values.cpu())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    Tokens(torch.cat(parts)).save(arguments.output)
    print(f"tokens {tuple(torch.cat(parts).shape)} of {len(data)} images in {arguments.output}")


if __name__ == "__main__":
    main()
