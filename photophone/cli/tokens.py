"""Commands between media and files of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import DeviceOption, JsonOption, QuietOption, app
from photophone.cli.token_files import (
    TOKENS_FILE,
    TokensArgument,
    TokensOption,
    WeightsOption,
    load_tokens,
    maker_option,
    numbered,
    save_tokens,
)

TokenizerOption = Annotated[str, typer.Option("--model", "-m", help="Registered image tokenizer, built-in name or "
                                                                    "saved folder.")]


@app.command()
def tokenize(image: Annotated[Path, typer.Argument(help="Picture; its middle square is scaled to the model's size.")],
             model: TokenizerOption = "photophone/tiny-image", weights: WeightsOption = None,
             output: TokensOption = TOKENS_FILE, device: DeviceOption = "cpu", quiet: QuietOption = False,
             as_json: JsonOption = False) -> None:
    """Turn a picture into tokens."""
    import torch

    from photophone.data.image_decoding import decode_image
    from photophone.loading.auto import load_part

    tokenizer = load_part("image_tokenizer", model, weights, device)
    pixels = torch.tensor(decode_image(image.read_bytes(), tokenizer.image_size))
    images = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1  # (H, W, 3) -> (1, 3, H, W)
    tokens = tokenizer.encode(images).to("cpu")
    save_tokens(tokens, model, output, tokenizer.codebook_size, quiet=quiet, as_json=as_json)


@app.command()
def detokenize(tokens: TokensArgument, model: Annotated[str | None, maker_option("tokenize")] = None,
               weights: WeightsOption = None,
               output: Annotated[Path, typer.Option("--output", "-o", help="The .png; several get numbers.")] = Path(
                   "image.png"), device: DeviceOption = "cpu", quiet: QuietOption = False,
               as_json: JsonOption = False) -> None:
    """Turn tokens into a picture."""
    from photophone.core.files import atomic_write
    from photophone.core.pictures import to_pil
    from photophone.loading.auto import load_part

    if output.suffix.lower() != ".png":
        raise ValueError(f"--output must be a .png file, got {output}")
    given, name = load_tokens(tokens, model)
    images = to_pil(load_part("image_tokenizer", name, weights, device).decode(given))
    files = []
    for index, image in enumerate(images):
        file = numbered(output, index, len(images))
        with atomic_write(file) as png:
            image.save(png, format="PNG")
        files.append(str(file))
        if not (quiet or as_json):
            print(file)
    if as_json:
        print(json.dumps({"files": files, "model": name}))
