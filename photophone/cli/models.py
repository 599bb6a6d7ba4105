"""Commands about registered models and their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import JsonOption, app


@app.command()
def models(name: Annotated[str | None, typer.Argument(help="Show one model in full.")] = None,
           as_json: JsonOption = False) -> None:
    """List registered models with their sources and licences."""
    from dataclasses import asdict

    from photophone.loading.registry import find, list_models

    entries = [find(name)] if name else list_models()
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1))
    elif name:
        for key, value in asdict(entries[0]).items():
            print(f"{key:16s} {value}")
    else:
        for entry in entries:
            print(f"{entry.name:24s} {entry.kind:16s} {entry.summary}")


@app.command()
def convert(name: Annotated[str, typer.Argument(help="Registered name, such as mar-kl16; `models` lists all.")],
            checkpoint: Annotated[str, typer.Argument(help="The official file, its folder, or a hub id.")],
            output: Annotated[Path, typer.Argument(help="New folder for config.json and safetensors.")],
            config: Annotated[str | None, typer.Option(help="JSON object of settings that differ from the published "
                                                            "ones, or a file with one.")] = None,
            take: Annotated[str | None, typer.Option(help="Of a file with several sets of weights: ema, raw, or the "
                                                          "place of one, such as trainer.var_wo_ddp.")] = None,
            as_json: JsonOption = False) -> None:
    """Write an official checkpoint in our format, and report what became of its keys.

    A file that does not fit is refused: the message names the first missing, left over and differing tensors.
    """
    from photophone.core.files import atomic_folder, check_folder
    from photophone.loading.auto import read_settings
    from photophone.loading.checkpoints import OriginalCheckpoint
    from photophone.loading.hub import find_checkpoint
    from photophone.loading.registry import find, load_original

    entry = find(name)
    family = entry.load_class()
    if not issubclass(family, OriginalCheckpoint):
        raise ValueError(f"{name} has no official checkpoint of its own to convert; {entry.summary}")
    check_folder(output)
    path, _ = find_checkpoint(entry, checkpoint)
    if path.is_dir():
        raise ValueError(f"{path} is a folder of our own format already")
    settings = read_settings(config)
    model = load_original(name, path, **settings, take=take)
    report = model.load_report
    with atomic_folder(output) as partial:
        model.save_pretrained(partial)
    keys = {kind: list(getattr(report, kind)) for kind in ("same", "renamed", "dropped", "made")}
    if as_json:
        print(json.dumps({"model": name, "output": str(output), **keys, "missing": [], "found": report.as_dict()}))
        return
    read = sum(len(keys[kind]) for kind in ("same", "renamed", "dropped"))
    print(f"{name}: {read} tensors of {path.name} -> {len(model.state_dict())} in {output}")
    for line in report.lines:
        print(f"found    {line}")
    print(f"kept {len(keys['same'])}, renamed {len(keys['renamed'])} to {len(keys['made'])}, "
          f"dropped {len(keys['dropped'])}, missing 0")
    for key in keys["dropped"]:
        print(f"dropped  {key}")
    print(f"weights: {entry.weights_licence}")
