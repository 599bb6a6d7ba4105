"""Commands between media and files of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import DeviceOption, JsonOption, QuietOption, app

TokenizerOption = Annotated[str, typer.Option("--model", "-m", help="Registered image tokenizer, built-in name or "
                                                                    "saved folder.")]
WeightsOption = Annotated[str | None, typer.Option(help="Official checkpoint, saved folder or hub id, where --model "
                                                        "is a registered name.")]


@app.command()
def tokenize(image: Annotated[Path, typer.Argument(help="Picture; its middle square is scaled to the model's size.")],
             model: TokenizerOption = "photophone/tiny-image", weights: WeightsOption = None,
             output: Annotated[Path, typer.Option("--output", "-o", help="File of tokens.")] = Path(
                 "tokens.safetensors"), device: DeviceOption = "cpu", quiet: QuietOption = False,
             as_json: JsonOption = False) -> None:
    """Turn a picture into tokens."""
    from dataclasses import replace

    import torch

    from photophone.data.image_decoding import decode_image
    from photophone.loading.auto import load_part
    from photophone.loading.registry import REGISTRY

    tokenizer = load_part("image_tokenizer", model, weights, device)
    pixels = torch.tensor(decode_image(image.read_bytes(), tokenizer.image_size))
    images = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1  # (H, W, 3) -> (1, 3, H, W)
    tokens = tokenizer.encode(images).to("cpu")
    if model in REGISTRY:  # the path of a folder means nothing elsewhere
        tokens = replace(tokens, model=model)
    tokens.save(output)
    if as_json:
        print(json.dumps({"file": str(output), "shape": list(tokens.values.shape), "model": tokens.model,
                          "codebook_size": tokenizer.codebook_size}))
    elif not quiet:
        kind = f"codes of {tokenizer.codebook_size:,}" if tokenizer.codebook_size else "continuous"
        print(f"{output}  {tuple(tokens.values.shape)} {kind}")


@app.command()
def detokenize(tokens: Annotated[Path, typer.Argument(help="File of tokens.")],
               model: Annotated[str | None, typer.Option("--model", "-m", help="As for tokenize; the model that the "
                                                                               "file names if left out.")] = None,
               weights: WeightsOption = None,
               output: Annotated[Path, typer.Option("--output", "-o", help="The .png; several get numbers.")] = Path(
                   "image.png"), device: DeviceOption = "cpu", quiet: QuietOption = False,
               as_json: JsonOption = False) -> None:
    """Turn tokens into a picture."""
    from photophone.core.files import atomic_write
    from photophone.core.pictures import to_pil
    from photophone.core.tokens import Tokens
    from photophone.loading.auto import load_part
    from photophone.loading.registry import REGISTRY

    if output.suffix.lower() != ".png":
        raise ValueError(f"--output must be a .png file, got {output}")
    given = Tokens.load(tokens, model=model if model in REGISTRY else None)
    name = model or given.model
    if name is None:
        raise ValueError(f"{tokens} does not name the model that made it; give --model")
    images = to_pil(load_part("image_tokenizer", name, weights, device).decode(given))
    files = []
    for index, image in enumerate(images):
        file = output if len(images) == 1 else output.with_stem(f"{output.stem}-{index + 1}")
        with atomic_write(file) as png:
            image.save(png, format="PNG")
        files.append(str(file))
        if not (quiet or as_json):
            print(file)
    if as_json:
        print(json.dumps({"files": files, "model": name}))
