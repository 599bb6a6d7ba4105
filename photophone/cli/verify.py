"""The command for those who have a published checkpoint: does it load here, and is it what it should be?"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from photophone.cli.common import DeviceOption, JsonOption, app, named_values

DIFFERS = 1
"""Exit code when a checkpoint loads and something recorded differs."""


@app.command()
def verify(name: Annotated[str, typer.Argument(help="Registered name; `models` lists all.")],
           weights: Annotated[str, typer.Argument(help="The official file, the index of its shards, its folder, or a "
                                                       "hub id.")],
           file: Annotated[list[str] | None, typer.Option(help="NAME=PATH of a further file that the model is made of, "
                                                               "such as encodec=model.safetensors.")] = None,
           config: Annotated[str | None, typer.Option(help="JSON object of settings that differ from the published "
                                                           "ones, or a file with one.")] = None,
           take: Annotated[str | None, typer.Option(help="Of a file with several sets of weights: ema, raw, or the "
                                                         "place of one.")] = None,
           device: DeviceOption = "cpu", as_json: JsonOption = False) -> None:
    """Load a checkpoint strictly, run fixed inputs, and compare with what is recorded of the model.

    Ends with 0 where all that was compared agrees, 1 where something differs, 2 where the checkpoint does not fit.
    """
    from photophone.evaluation.tasks.verify import verify_checkpoint
    from photophone.loading.auto import read_settings

    settings = {**read_settings(config), **named_values("--file", file)}
    facts = verify_checkpoint(name, weights, device=device, settings=settings, take=take)
    print(json.dumps(facts) if as_json else "\n".join(report_lines(facts)))
    if not facts["agrees"]:
        raise typer.Exit(DIFFERS)


def report_lines(facts: dict[str, Any]) -> list[str]:
    """The facts of ``verify_checkpoint`` for people."""
    files = f" ({len(facts['files'])} files)" if len(facts["files"]) > 1 else ""
    lines = [f"{facts['model']}  {facts['class']} of {facts['source']}{files}: every tensor fits",
             *(f"found    {line}" for line in facts["found"])]
    if facts["dropped"]:
        lines.append(f"dropped  {facts['dropped']} tensors that this model leaves out on purpose")
    stats = facts["weights"]
    lines.append(f"weights  {facts['parameters']:,} parameters in {stats['tensors']} tensors, {spread(stats)}"
                 + (f"; {stats['constant']} tensors hold one value throughout" if stats["constant"] else ""))
    if "input" in facts:
        lines.append(f"input    {facts['input']}")
    for key in ("tokens", "output"):
        if key in facts:
            lines.append(f"{key:8s} {numbers(facts[key])}")
    if "quality" in facts:
        lines.append("quality  " + ", ".join(f"{name.replace('_', ' ')} {value:.4g}"
                                             for name, value in facts["quality"].items()))
    lines += [f"{'agrees' if row['agrees'] else 'DIFFERS':8s} {row['what']}: {row['here']:,} here, {row['recorded']:,} "
              f"by {row['source']}" for row in facts["compared"]]
    lines += [f"not compared: {row['what']}: {row['why']}" for row in facts["not_compared"]]
    return [*lines, f"licence of the weights: {facts['weights_licence']}"]


def numbers(facts: dict[str, Any]) -> str:
    """Statistics of tokens or of an output in words."""
    if "loss" in facts:
        return f"training loss {facts['loss']:.6g}"
    shape = "x".join(map(str, facts["shape"]))
    if "codebook_size" in facts:
        return f"{shape}, {facts['different_codes']} different codes of {facts['codebook_size']:,}"
    return f"{shape}, {spread(facts)}"


def spread(facts: dict[str, Any]) -> str:
    """Mean, deviation and range in words."""
    return (f"mean {facts['mean']:.4g}, deviation {facts['deviation']:.4g}, from {facts['least']:.4g} to "
            f"{facts['largest']:.4g}")
