"""Training of a flow head on recorded paths of its own, so that it needs few steps; all other weights stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise
from photophone.generators.base import Generator
from photophone.generators.few_steps import with_flow_map
from photophone.heads.flow import FlowHead
from photophone.heads.flow_map import check_objective, map_errors, map_loss
from photophone.loading.saved import open_saved
from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task
from photophone.training.record import load_recording
from photophone.training.tasks.speech_recipes import take

VALIDATED_ROWS = 512


class MapTrainee(nn.Module):
    """What is trained: the head, with the loss as its forward pass."""

    def __init__(self, head: FlowHead, objective: str, whole: float) -> None:
        super().__init__()
        self.head, self.objective, self.whole = head, objective, whole

    def forward(self, path: dict[str, Tensor]) -> Tensor:
        noise = GlobalNoise(path["times"].device)
        return map_loss(self.head, path, objective=self.objective, whole=self.whole, noise=noise)


class FewStepsTask(Task):
    """Recorded paths to the flow map.

    Args:
        generator: of :func:`photophone.generators.few_steps.with_flow_map`.
        data: of :func:`photophone.training.record.load_recording`.
        validation: the same, held apart, or None.
        objective, whole: see :func:`photophone.heads.flow_map.map_loss`.
        counts: steps that the validation tries.
        vocabulary: folder of a caption vocabulary that is exported beside the generator, or None.
    """

    def __init__(self, generator: Generator, data: dict[str, Tensor], validation: dict[str, Tensor] | None = None,
                 objective: str = "states", whole: float = 0.4, counts: Sequence[int] = (1, 2, 4, 8),
                 vocabulary: Path | None = None) -> None:
        check_objective(objective)
        self.generator, self.data, self.validation, self.counts = generator, data, validation, tuple(counts)
        self.model = MapTrainee(generator.token_head, objective, whole)
        self.vocabulary = vocabulary
        self.num_examples = len(data["times"])

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Tensor]:
        return {name: values[torch.from_numpy(indices)].float() for name, values in self.data.items()}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return model(batch), {}

    def validate(self, model: MapTrainee) -> dict[str, float]:
        """Error of what few steps end in, over its variance, on held-apart paths."""
        if self.validation is None:
            return {}
        device = next(model.parameters()).device
        path = {name: values[:VALIDATED_ROWS].float().to(device) for name, values in self.validation.items()}
        counts = [count for count in self.counts if count < path["times"].shape[1]]
        errors = map_errors(model.head, path, counts)
        return {f"validation_error_{count}": error for count, error in errors.items()}

    def export(self, model: MapTrainee, folder: Path) -> None:
        """The generator; beside a vocabulary in ``token_generator``, as the training of caption generators does it."""
        if self.vocabulary is None:
            self.generator.save_pretrained(folder)
            return
        self.generator.save_pretrained(folder / "token_generator")
        CaptionTokenizer.from_pretrained(self.vocabulary).save_pretrained(folder / "text_tokenizer")


def few_steps_task(config: TrainConfig) -> FewStepsTask:
    """The task of ``train_few_steps.py``.

    ``data`` and ``validation`` are folders of ``record_head.py``, ``init_from`` the generator that made them, or a
    folder with ``token_generator`` and ``text_tokenizer``. ``task``
    holds ``guidance_range`` (that of the recording), ``sampling_steps`` (what the generator takes when nothing else is
    said), and further arguments of :class:`FewStepsTask`.

    Raises:
        ValueError, TypeError: settings that are unknown or do not fit.
    """
    settings: dict[str, Any] = dict(config.task)
    if not config.init_from:
        raise ValueError("init_from is missing: the folder of the generator that learns to take few steps")
    folder, vocabulary = Path(config.init_from), None
    if (folder / "token_generator").is_dir():
        folder, vocabulary = folder / "token_generator", folder / "text_tokenizer"
    generator = with_flow_map(open_saved(folder, Generator), take(settings, "guidance_range"),
                              settings.pop("sampling_steps", None))
    validation = load_recording(config.validation) if config.validation else None
    return FewStepsTask(generator, load_recording(config.data), validation, vocabulary=vocabulary, **settings)
