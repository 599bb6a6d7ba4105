"""Training of language models of speech, and of what else writes tokens behind ids, on pretokenised examples."""

from __future__ import annotations

from dataclasses import asdict, replace
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
from photophone.generators.cosyvoice.flow import CosyVoiceFlow
from photophone.loading.lora import write_adapter
from photophone.training.loop.task import Task
from photophone.training.tasks.lora import LoraSettings, add_lora, lora_state, merged
from photophone.training.tasks.original_export import Release

SPARE = 3
"""Positions of a sequence that are no example's: where text and speech begin and end."""


class SpeechLMTask(Task):
    """Ids to speech tokens, discrete or continuous, by a generator whose condition is made of rows of ids.

    Clips of like length go together, because padding costs as much as speech: an example of the loop is a group of
    clips of at most ``positions`` positions, so ``batch_size: 1`` is one such group.

    Args:
        model: its ``Condition`` has ``of_rows``, or it has ``prepare``; its ``loss`` knows the authors' layouts and
            targets.
        data: training examples.
        validation: held-apart examples, or None.
        positions: of a group, ids and tokens and padding together.
        lora: only a LoRA of the model learns.
        release: the published folder that the model is from; the export has all its other files.
        base: what a LoRA is for: published folder or name.
        mean_only: of CosyVoice's flow only the encoder learns, to tell the mean frames; it is many times as fast as all
            of it.

    Raises:
        ValueError: a model that reads something else, or that the LoRA does not fit.
    """

    def __init__(self, model: Generator, data: SpeechExamples, validation: SpeechExamples | None = None,
                 positions: int = 2048, *, lora: LoraSettings | None = None, release: Release | None = None,
                 base: str | None = None, mean_only: bool = False) -> None:
        if not hasattr(model.Condition, "of_rows") and not hasattr(model, "prepare"):
            raise ValueError(f"{type(model).__name__} is not conditioned on ids; it cannot learn from such examples")
        if positions < 1:
            raise ValueError(f"positions must be at least 1, got {positions}")
        self.model, self.data, self.validation, self.positions = model, data, validation, positions
        self.lora, self.release, self.base = lora, release, base
        if mean_only:
            if not isinstance(model, CosyVoiceFlow):
                raise ValueError(f"mean_only is for CosyVoice's flow, the model is a {type(model).__name__}")
            model.mean_only = True
        if lora is not None:
            add_lora(model, lora)
        self.groups = groups_of_like_length(self._positions(data), positions)
        self.num_examples = len(self.groups)

    def _positions(self, data: SpeechExamples) -> Tensor:
        """Positions of each example, Long (N,).

        Raises:
            ValueError: an example is longer than the model.
        """
        counts, config = data.positions(self.model.config.get("patch_size", 1)), self.model.config
        most = config.get("max_length")
        if most is not None and int(counts.max()) + SPARE > most:
            raise ValueError(f"example {int(counts.argmax())} has {int(counts.max())} positions of text and speech, "
                             f"and {type(self.model).__name__} has room for {most - SPARE}; cut or leave out longer "
                             "recordings, or raise model.max_length")
        return counts

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        return self.examples(self.data, np.concatenate([self.groups[index] for index in indices]))

    def examples(self, data: SpeechExamples, rows: np.ndarray) -> dict[str, Any]:
        """``tokens`` and ``condition`` of some examples."""
        tokens = [data.tokens[row] for row in rows]
        values = Tokens(pad_sequence(tokens, batch_first=True), torch.tensor([len(row) for row in tokens]))
        ids = [data.ids[row].tolist() for row in rows]
        if not hasattr(self.model.Condition, "of_rows"):
            return {"tokens": values, "condition": self.model.prepare(ids)}
        speaker = {} if data.speakers is None else {"speaker": data.speakers[rows]}
        condition = self.model.Condition.of_rows(ids, **speaker)
        if data.instructions is not None:
            condition = replace(condition, instruction=data.instructions[rows])
        return {"tokens": values, "condition": condition}

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(batch["tokens"], batch["condition"])
        return output.loss, output.metrics

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Losses on held-apart examples with the same draws each time."""
        if self.validation is None:
            return {}
        totals: dict[str, list[float]] = {}
        for rows in groups_of_like_length(self._positions(self.validation), self.positions):
            batch = self.examples(self.validation, rows)
            output = model(batch["tokens"].to(model.device), batch["condition"].to(model.device),
                           noise=SeededNoise.from_seeds(rows.tolist(), model.device))
            for name, value in {"loss": output.loss, **output.metrics}.items():
                totals.setdefault(f"validation_{name}", []).append(float(value))
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def export(self, model: nn.Module, folder: Path) -> None:
        """Our folder, and in ``original`` the authors' files, where the family writes them.

        Of a LoRA they hold the merged weights, and ``adapter`` holds the LoRA alone, as peft writes it.
        """
        if self.lora is not None:
            write_adapter(folder / "adapter", lora_state(model), base=self.base, **asdict(self.lora))
            model = merged(model, self.lora)
        model.save_pretrained(folder)
        if self.release is not None:
            self.release.write(model, folder / "original")
        elif getattr(model, "original_file", None):
            model.save_original(folder / "original")
