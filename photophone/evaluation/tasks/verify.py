"""`photophone verify`: does a checkpoint that someone has load here, and does what comes out look like its model?

Loading is strict. What is compared with records is said to agree or not; what cannot be compared is listed with the
reason.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from photophone.evaluation.probes import PROBES
from photophone.loading.auto import check_device
from photophone.loading.entry import ModelEntry
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import find, load_original

MEASURE = {"codec": "`photophone evaluate codec NAME=PATH --data FOLDER` measures it on a test set of yours",
           "image_tokenizer": "a test set of pictures is needed"}

YARDSTICKS = (("psnr", "psnr_of_its_mean_colour", "PSNR of the drawn picture, more than", "its mean colour alone", 1),
              ("mel_distance", "mel_distance_of_silence", "mel distance of the recording, less than", "silence", -1))
"""Measures of the fixed input, what any trained model is better than, and the direction that is better."""


def verify_checkpoint(name: str, weights: str | Path, *, device: str = "cpu", settings: dict[str, Any] | None = None,
                      take: str | None = None) -> dict[str, Any]:
    """Load a checkpoint strictly, run fixed inputs, and compare with what is recorded of the model.

    Args:
        name: of the registry.
        weights: the official file, the index of its shards, a folder of a release, a folder that the model was saved
            to, or a hub id.
        device: of torch.
        settings: replace those of the registry; also further files of the model, such as ``encodec``.
        take: of a file with several sets of weights; see
            :meth:`photophone.loading.checkpoints.OriginalCheckpoint.from_original`.

    Returns:
        Facts by name: ``model``, ``class``, ``source``, ``found`` (what was undone in the file), ``parameters``,
        ``weights`` and ``output`` (statistics), ``tokens``, ``quality``, ``compared``, ``not_compared`` and ``agrees``.

    Raises:
        ValueError: an unknown name, a pipeline, a file that is missing, damaged or does not fit, or weights that make
            NaN or infinity of the inputs.
    """
    entry = find(name)
    if entry.kind == "pipeline":
        raise ValueError(f"{name} is a pipeline of several models that ships with photophone; verify single models, "
                         "which have checkpoints of their own: `photophone models` lists them")
    check_device(device)
    path, commit = find_checkpoint(entry, weights)
    own = dict(settings or {})
    model = load_original(name, path, **own, take=take).to(device).eval()
    with torch.no_grad():
        facts = PROBES[entry.kind](model)
    broken = [part for part in ("tokens", "output") if not finite(facts.get(part, {}))]
    if broken:
        raise ValueError(f"{name} with these weights makes NaN or infinity ({broken[0]}) of {facts['input']}; the file "
                         "fits, and its numbers cannot be those of a trained model")
    report = getattr(model, "load_report", None)
    count = sum(weight.numel() for weight in model.parameters())
    compared, not_compared = comparison(entry, count, bool(own), facts)
    return {"model": name, "class": entry.class_name, "kind": entry.kind, "source": str(path), "commit": commit,
            "files": list(report.files) if report else [path.name], "found": report.lines if report else [],
            "dropped": len(report.dropped) if report else 0, "parameters": count, "weights": weight_statistics(model),
            **{key: facts[key] for key in ("input", "tokens", "output", "quality") if key in facts},
            "compared": compared, "not_compared": not_compared,
            "agrees": all(row["agrees"] for row in compared), "weights_licence": entry.weights_licence}


def finite(facts: dict[str, Any]) -> bool:
    """Whether all numbers among these statistics are finite."""
    numbers = [value for value in facts.values() if isinstance(value, float)]
    return all(number - number == 0 for number in numbers)


def weight_statistics(model: torch.nn.Module) -> dict[str, Any]:
    """Of all floating point weights together, in float64, and the weights that are constant."""
    total, squares, count, least, largest, constant = 0.0, 0.0, 0, float("inf"), float("-inf"), []
    for name, weight in model.named_parameters():
        values = weight.detach().double()
        total, squares = total + float(values.sum()), squares + float(values.square().sum())
        count += values.numel()
        low, high = float(values.min()), float(values.max())
        least, largest = min(least, low), max(largest, high)
        if low == high and values.numel() > 1:
            constant.append(name)
    mean = total / max(count, 1)
    return {"tensors": len(list(model.parameters())), "mean": mean,
            "deviation": max(squares / max(count, 1) - mean * mean, 0.0) ** 0.5, "least": least, "largest": largest,
            "constant": len(constant)}


def comparison(entry: ModelEntry, count: int, changed: bool,
               facts: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """What was compared with the records, and what was not and why.

    Args:
        entry: of the model.
        count: parameters here.
        changed: whether settings differ from the registry's.
        facts: of the probe.
    """
    compared, missed = [], []
    if entry.parameters is None:
        missed.append({"what": "number of parameters", "why": "none is recorded"})
    elif changed:
        missed.append({"what": f"number of parameters, {entry.parameters:,} when published",
                       "why": "other settings or further files were given"})
    else:
        compared.append({"what": "number of parameters", "here": count, "recorded": entry.parameters,
                         "source": "the registry", "agrees": count == entry.parameters})
    for measure, yardstick, what, source, better in YARDSTICKS:
        if yardstick in facts.get("quality", {}):
            here, other = round(facts["quality"][measure], 3), round(facts["quality"][yardstick], 3)
            compared.append({"what": what, "here": here, "recorded": other, "source": source,
                             "agrees": better * (here - other) > 0})
    for figure, value in entry.figures.items():
        missed.append({"what": f"{figure} {value:g} on {entry.figures_on}",
                       "why": f"one input is no test set; {MEASURE.get(entry.kind, 'a test set is needed')}"})
    if not entry.figures:
        missed.append({"what": "quality in the paper", "why": "no figure of this model is recorded here"})
    for measure, reason in facts.get("missing", {}).items():
        missed.append({"what": f"{measure.upper()} of the bundled recording", "why": reason})
    for key, what in (("no_quality", "quality of what it decodes"), ("no_output", "output for a fixed input")):
        if key in facts:
            missed.append({"what": what, "why": facts[key]})
    if entry.kind == "generator":
        missed.append({"what": "what it generates", "why": "that needs its tokenizer and a judge; the loss of drawn "
                                                           "tokens above is the same wherever the weights are"})
    return compared, missed
