"""Commands between media and files of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import DeviceOption, JsonOption, OverwriteOption, QuietOption, app
from photophone.cli.token_files import (
    TOKENS_FILE,
    TokensArgument,
    TokensOption,
    WeightsOption,
    check_tokens,
    load_tokens,
    maker_option,
    output_files,
    save_tokens,
)

TokenizerOption = Annotated[str, typer.Option("--model", "-m", help="Registered image tokenizer, built-in name or "
                                                                    "saved folder.")]


@app.command()
def tokenize(image: Annotated[Path, typer.Argument(help="Picture; its middle square is scaled to the model's size.")],
             model: TokenizerOption = "photophone/tiny-image", weights: WeightsOption = None,
             output: TokensOption = TOKENS_FILE, device: DeviceOption = "cpu", quiet: QuietOption = False,
             overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """Turn a picture into tokens."""
    import torch

    from photophone.core.files import check_source
    from photophone.data.image_decoding import decode_image
    from photophone.loading.auto import load_part

    check_tokens(output, overwrite)
    tokenizer = load_part("image_tokenizer", model, weights, device)
    pixels = torch.tensor(decode_image(check_source(image).read_bytes(), tokenizer.image_size))
    images = pixels.permute(2, 0, 1)[None].float() / 127.5 - 1  # (H, W, 3) -> (1, 3, H, W)
    tokens = tokenizer.encode(images).to("cpu")
    save_tokens(tokens, model, output, tokenizer.codebook_size, overwrite=overwrite, quiet=quiet, as_json=as_json)


@app.command()
def detokenize(tokens: TokensArgument, model: Annotated[str | None, maker_option("tokenize")] = None,
               weights: WeightsOption = None,
               output: Annotated[str, typer.Option("--output", "-o", help="A folder, or a .png, .jpg, .webp, .bmp or "
                                                                          ".tif; several get numbers.")] = "image.png",
               device: DeviceOption = "cpu", quiet: QuietOption = False, overwrite: OverwriteOption = False,
               as_json: JsonOption = False) -> None:
    """Turn tokens into a picture."""
    from photophone.core.files import atomic_write
    from photophone.core.pictures import PICTURE_FORMATS, to_pil, write_picture
    from photophone.loading.auto import load_part

    given, name = load_tokens(tokens, model)
    files = output_files(output, "image", len(given), tuple(PICTURE_FORMATS), overwrite)
    images = to_pil(load_part("image_tokenizer", name, weights, device).decode(given))
    for file, image in zip(files, images, strict=True):
        with atomic_write(file, overwrite=overwrite) as partial:
            write_picture(image, partial, file.suffix)
        if not (quiet or as_json):
            print(file)
    if as_json:
        print(json.dumps({"files": [str(file) for file in files], "model": name}))
