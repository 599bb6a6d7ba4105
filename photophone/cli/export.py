"""The command that writes built-in models for other runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import JsonOption, OverwriteOption, QuietOption, app

FORMATS = ("onnx",)


@app.command()
def export(name: Annotated[str, typer.Argument(help="Built-in model, or the folder of a saved enhancer, vocoder, "
                                                    "codec or image tokenizer of ours.")],
           output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files; it is made.")],
           to: Annotated[str, typer.Option(help="Format: onnx.")] = "onnx",
           quiet: QuietOption = False, overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """Write a model as ONNX files of any length and batch, checked against torch, and say how fast both are.

    Needs the extra onnx. The vocoder and the image decoder are one file, the codec two (encode, decode).
    """
    if to not in FORMATS:
        raise ValueError(f"--to must be {' or '.join(FORMATS)}, got {to!r}")
    from photophone.export.onnx import export_onnx

    parts = export_onnx(name, output, overwrite=overwrite)
    if as_json:
        print(json.dumps({"model": name, "format": to, "files": [part.as_dict() for part in parts]}))
    elif not quiet:
        for part in parts:
            print(f"{part.file}  {words(part.input)} -> {words(part.output)}")
            sizes = ", ".join("x".join(map(str, size)) for size in part.sizes)
            print(f"  largest difference from torch {part.error:.1e} on inputs of {sizes}")
            print(f"  one thread each: torch {part.torch_ms:.1f} ms, onnxruntime {part.onnx_ms:.1f} ms "
                  f"({part.torch_ms / part.onnx_ms:.2f} times as fast)")


def words(tensors: dict[str, list[int | str]]) -> str:
    """Names and shapes of tensors."""
    return ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in tensors.items())
