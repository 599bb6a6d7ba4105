"""Fit how the validation loss of a recipe falls with weights and examples, from runs of several sizes and lengths.

The form is that of Hoffmann et al. (arXiv 2203.15556): E + A / N^a + B / D^b with N weights and D examples seen. Each
run counts with its last validation, so its learning rate must have come down. Where all folders hold what ``photophone
evaluate image -o RUN/evaluation.json`` wrote, the retrieval of each is shown, and a line through it against the loss.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open

from photophone.core.command import run_command
from photophone.training.loop.checkpoint import list_checkpoints

EXPONENTS = np.arange(0.05, 1.21, 0.05)
LEAST_RUNS = 6
"""As many as the form has numbers, and one."""
RETRIEVAL = ("test_combo", "test_label")
"""Splits of an evaluation."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        name: of its folder.
        weights, examples: N and D.
        hours: of training, by the speed that it logged.
        loss: the last validation.
        found: share of captions that images are found by, of each split of RETRIEVAL; empty where it was not measured.
    """

    name: str
    weights: float
    examples: float
    hours: float
    loss: float
    found: dict[str, float] = field(default_factory=dict)


def read_found(folder: Path) -> dict[str, float]:
    """The retrieval in a run's ``evaluation.json``, or nothing where there is none."""
    file = folder / "evaluation.json"
    if not file.is_file():
        return {}
    result = json.loads(file.read_text(encoding="utf-8"))
    return {split: result[split]["generated"]["top1"] for split in RETRIEVAL if split in result}


def read_run(folder: Path) -> Run:
    """What a run's folder says.

    Raises:
        ValueError: it has no checkpoint or no validation of its last step.
    """
    checkpoints = list_checkpoints(folder / "checkpoints")
    if not checkpoints:
        raise ValueError(f"{folder} has no checkpoint; give the folder of a finished run (--output of its training)")
    state = json.loads((checkpoints[-1] / "state.json").read_text(encoding="utf-8"))
    with safe_open(checkpoints[-1] / "model.safetensors", "pt") as file:
        weights = sum(np.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["validation_loss"] for line in lines if "validation_loss" in line and line["step"] == state["step"]]
    speeds = [line["examples_per_second"] for line in lines if "examples_per_second" in line]
    if not losses or not speeds:
        raise ValueError(f"{folder} has no validation of its last step, {state['step']}")
    examples = state["step"] * state["config"]["batch_size"]
    return Run(folder.name, float(weights), float(examples), examples / float(np.median(speeds)) / 3600, losses[-1],
               read_found(folder))


@dataclass(frozen=True)
class Law:
    """``floor + by_weights / N ** weights_power + by_examples / D ** examples_power``."""

    floor: float
    by_weights: float
    by_examples: float
    weights_power: float
    examples_power: float

    def loss(self, weights: float, examples: float) -> float:
        return (self.floor + self.by_weights / weights**self.weights_power
                + self.by_examples / examples**self.examples_power)


def fit(runs: list[Run]) -> Law:
    """The law with the least squared error: exponents from a grid, the rest not negative.

    Raises:
        ValueError: more weights or more examples did not help.
    """
    weights, examples, losses = (np.array([getattr(run, name) for run in runs])
                                 for name in ("weights", "examples", "loss"))
    best, law = np.inf, None
    for first, second in itertools.product(EXPONENTS, EXPONENTS):
        # in millions: the columns of the system are of like size
        columns = np.stack([np.ones(len(runs)), (weights / 1e6)**-first, (examples / 1e6)**-second], axis=1)
        found = np.linalg.lstsq(columns, losses)[0]
        error = float(np.square(columns @ found - losses).sum())
        if error < best and (found >= 0).all():
            best = error
            law = Law(found[0], found[1] * 1e6**first, found[2] * 1e6**second, first, second)
    if law is None:
        raise ValueError("the loss does not fall with weights and examples; the runs are not of one recipe, or their "
                         "learning rates did not come down")
    return law


def best_split(law: Law, compute: float) -> tuple[float, float]:
    """Weights and examples whose product is ``compute`` and whose loss is least."""
    sizes = np.geomspace(1e4, 1e10, 2000)
    losses = [law.loss(size, compute / size) for size in sizes]
    size = float(sizes[int(np.argmin(losses))])
    return size, compute / size


def line(runs: Iterable[Run], split: str) -> np.poly1d:
    """The straight line through the retrieval of runs, by their loss."""
    return np.poly1d(np.polyfit([run.loss for run in runs], [run.found[split] for run in runs], 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs of one recipe")
    arguments = parser.parse_args()
    runs = sorted((read_run(folder) for folder in arguments.runs), key=lambda run: (run.weights, run.examples))
    if len(runs) < LEAST_RUNS:
        raise ValueError(f"{len(runs)} runs; the form has five numbers, so give {LEAST_RUNS} at least, of two sizes")
    law = fit(runs)
    splits = [split for split in RETRIEVAL if all(split in run.found for run in runs)]
    heads = ["run", "weights, millions", "examples, thousands", "hours", "validation loss", "by the fit", *splits]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for run in runs:
        cells = [run.name, f"{run.weights / 1e6:.2f}", f"{run.examples / 1e3:.0f}", f"{run.hours:.2f}",
                 f"{run.loss:.4f}", f"{law.loss(run.weights, run.examples):.4f}"]
        print(f"| {' | '.join([*cells, *(f'{100 * run.found[split]:.1f} %' for split in splits)])} |")
    print(f"\nloss = {law.floor:.3f} + {law.by_weights:.3g} / N^{law.weights_power:.2f} + {law.by_examples:.3g} / "
          f"D^{law.examples_power:.2f}")
    lines = {split: line(runs, split) for split in splits}
    for split, found in lines.items():
        far = max(abs(found(run.loss) - run.found[split]) for run in runs)
        print(f"{split} = {found[0]:.3f} {found[1]:+.3f} * loss, {100 * far:.1f} points off at most")
    largest = max(runs, key=lambda run: run.weights * run.examples)
    for times in (1, 10):
        weights, examples = best_split(law, times * largest.weights * largest.examples)
        loss = law.loss(weights, examples)
        print(f"{times} x the compute of {largest.name}: {weights / 1e6:.1f} million weights, {examples / 1e3:.0f} "
              f"thousand examples, loss {loss:.4f}",
              *(f"{split} {100 * min(max(found(loss), 0), 1):.0f} %" for split, found in lines.items()), sep=", ")


if __name__ == "__main__":
    run_command(main)
