"""Training of Spark-TTS, one head of which is shown the word that it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from photophone.data.speech_examples import SpeechExamples
from photophone.generators.sparktts.model import SparkTTS
from photophone.training.losses.attention_guide import AttentionGuide
from photophone.training.tasks.speech_lm import SpeechLMTask


class SparkLMTask(SpeechLMTask):
    """Prompts to answers; a small model that begins from nothing finds out sooner which word it speaks.

    Args:
        model, data, validation, positions: see :class:`SpeechLMTask`.
        guides: file of ``spans``, int32 (tokens of the answers, 2), which ids of the prompt each token speaks; None: no
            guide.
        guide_weight: of its loss.
        guide_layer: whose first head is shown.
    """

    def __init__(self, model: SparkTTS, data: SpeechExamples, validation: SpeechExamples | None = None,
                 positions: int = 2048, guides: str | Path | None = None, guide_weight: float = 0.1,
                 guide_layer: int = 2) -> None:
        super().__init__(model, data, validation, positions)
        self.guide_weight, self.spans = guide_weight, None
        if guides is not None:
            self.spans = load_file(guides)["spans"].long().split([len(tokens) for tokens in data.tokens])
            self.guide = AttentionGuide(model.backbone.blocks[guide_layer].attention)

    def examples(self, data: SpeechExamples, rows: np.ndarray) -> dict[str, Any]:
        batch = super().examples(data, rows)
        if self.spans is not None and data is self.data:
            shift = batch["condition"].ids.shape[1] - torch.tensor([len(data.ids[row]) for row in rows])
            spans = [self.spans[row] + (self.spans[row][:, 1:] > 0) * own for row, own in zip(rows, shift)]
            batch["spans"] = pad_sequence(spans, batch_first=True)
        return batch

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().loss(model, batch, step)
        if "spans" not in batch:
            return loss, metrics
        guided, share = self.guide.loss(batch["spans"])
        return loss + self.guide_weight * guided, {**metrics, "tokens": loss, "guided": share}
