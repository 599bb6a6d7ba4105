"""Training of language models of speech, one head of which is shown the word that is spoken."""

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


class GuidedLMTask(SpeechLMTask):
    """Prompts to answers; a small model that begins from nothing finds out sooner which word it speaks.

    Args:
        model: reads prompts that are padded on the left.
        data, validation, positions: see :class:`SpeechLMTask`.
        guides: files of ``spans``, int32 (tokens of all answers, 2), which ids of the prompt each token speaks; one for
            each file of ``data``, in order.
        guide_weight: of its loss.
        guide_layer: whose first head is shown.
        **options: of :class:`SpeechLMTask`.

    Raises:
        ValueError: a model that has no such layer, or guides of other examples.
    """

    def __init__(self, model: SparkTTS, data: SpeechExamples, validation: SpeechExamples | None = None,
                 positions: int = 2048, *, guides: list[str | Path], guide_weight: float = 0.1,
                 guide_layer: int = 2, **options: Any) -> None:
        super().__init__(model, data, validation, positions, **options)
        if not isinstance(model, SparkTTS) or not 0 <= guide_layer < len(model.backbone.blocks):
            raise ValueError(f"guides are for a Spark-TTS with a layer {guide_layer}; leave them out")
        spans = torch.cat([load_file(path)["spans"].long() for path in guides])
        counts = [len(tokens) for tokens in data.tokens]
        if len(spans) != sum(counts):
            raise ValueError(f"the guides are of {len(spans)} tokens, the examples have {sum(counts)}; make both again")
        self.spans, self.guide_weight = spans.split(counts), guide_weight
        self.guide = AttentionGuide(model.backbone.blocks[guide_layer].attention)

    def examples(self, data: SpeechExamples, rows: np.ndarray) -> dict[str, Any]:
        batch = super().examples(data, rows)
        if data is self.data:
            length, spans = batch["condition"].ids.shape[1], []
            for row in rows:
                shift = length - len(data.ids[row])  # padding in front of the prompt
                spans.append(self.spans[row] + shift * (self.spans[row][:, 1:] > 0))
            batch["spans"] = pad_sequence(spans, batch_first=True)
        return batch

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().loss(model, batch, step)
        guided, share = self.guide.loss(batch["spans"])
        return loss + self.guide_weight * guided, {**metrics, "tokens": loss, "guided": share}
