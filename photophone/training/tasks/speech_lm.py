"""Training of language models of speech, and of what else writes tokens behind ids, on pretokenised examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.data.speech_examples import SpeechExamples, groups_of_like_length
from photophone.generators.base import Generator
from photophone.training.loop.task import Task


class SpeechLMTask(Task):
    """Ids to speech tokens, by a generator whose condition is made of rows of ids.

    Clips of like length go together, because padding costs as much as speech: an example of the loop is a group of
    clips of at most ``positions`` positions, so ``batch_size: 1`` is one such group.

    Args:
        model: its ``Condition`` has ``of_rows``; its ``loss`` knows the authors' layouts and targets.
        data: training examples.
        validation: held-apart examples, or None.
        positions: of a group, ids and tokens and padding together.

    Raises:
        ValueError: a model that reads something else.
    """

    def __init__(self, model: Generator, data: SpeechExamples, validation: SpeechExamples | None = None,
                 positions: int = 2048) -> None:
        if not hasattr(model.Condition, "of_rows"):
            raise ValueError(f"{type(model).__name__} is not conditioned on ids; it cannot learn from such examples")
        if positions < 1:
            raise ValueError(f"positions must be at least 1, got {positions}")
        self.model, self.data, self.validation, self.positions = model, data, validation, positions
        self.groups = groups_of_like_length(data.lengths, positions)
        self.num_examples = len(self.groups)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        return self.examples(self.data, np.concatenate([self.groups[index] for index in indices]))

    def examples(self, data: SpeechExamples, rows: np.ndarray) -> dict[str, Any]:
        """``tokens`` and ``condition`` of some examples."""
        tokens = [data.tokens[row] for row in rows]
        values = Tokens(pad_sequence(tokens, batch_first=True), torch.tensor([len(row) for row in tokens]))
        speaker = {} if data.speakers is None else {"speaker": data.speakers[rows]}
        ids = [data.ids[row].tolist() for row in rows]
        return {"tokens": values, "condition": self.model.Condition.of_rows(ids, **speaker)}

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(batch["tokens"], batch["condition"])
        return output.loss, output.metrics

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses on held-apart examples with the same draws each time."""
        if self.validation is None:
            return {}
        totals: dict[str, list[float]] = {}
        for rows in groups_of_like_length(self.validation.lengths, self.positions):
            batch = self.examples(self.validation, rows)
            output = model(batch["tokens"].to(model.device), batch["condition"].to(model.device),
                           noise=SeededNoise.from_seeds(rows.tolist(), model.device))
            for name, value in {"loss": output.loss, **output.metrics}.items():
                totals.setdefault(f"validation_{name}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def export(self, model: nn.Module, folder: Path) -> None:
        """Our folder, and in ``original`` the authors' files, where the family writes them."""
        model.save_pretrained(folder)
        if getattr(model, "original_file", None):
            model.save_original(folder / "original")
