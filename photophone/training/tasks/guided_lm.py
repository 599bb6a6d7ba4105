"""Training of language models of speech, one head of which is shown the word that is spoken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.files import atomic_write
from photophone.core.noise import SeededNoise
from photophone.data.speech_examples import SpeechExamples
from photophone.generators.cosyvoice.qwen_lm import CosyVoiceQwenLM
from photophone.generators.sparktts.model import SparkTTS
from photophone.training.losses.attention_guide import AttentionGuide
from photophone.training.tasks.speech_lm import SpeechLMTask


def guides_of(path: Path) -> Path:
    """The file beside examples that says which ids of the text each token speaks."""
    return path.with_suffix(".guides.safetensors")


def write_guides(path: Path, spans: Sequence[Tensor]) -> None:
    """Write the guides of a file of examples, atomically.

    Args:
        path: of the examples.
        spans: int32 (tokens, 2) of each example, first id and the one behind the last; where both are 0, nothing is
            known.
    """
    with atomic_write(guides_of(path)) as partial:
        save_file({"spans": torch.cat(list(spans))}, partial)


def within(places: Tensor, spans: Tensor) -> Tensor:
    """Which ids (L,) lie in spans (N, 2), bool (N, L)."""
    return (places >= spans[:, :1]) & (places < spans[:, 1:])


def places_behind_prompts(lengths: Sequence[int], spans: Sequence[Tensor], size: int) -> Tensor:
    """Where each position should look, bool (B, L, L), in prompts that are padded on the left and then answered.

    Args:
        lengths: ids of each prompt.
        spans: Long (N, 2) of each answer.
        size: of the longest prompt.
    """
    total = size + max(map(len, spans))
    inside = torch.zeros(len(spans), total, total, dtype=torch.bool)
    for row, (length, span) in enumerate(zip(lengths, spans, strict=True)):
        places = torch.arange(total) - (size - length)  # the position in front of a token foretells it
        inside[row, size - 1:size - 1 + len(span)] = within(places, span)
    return inside


def places_among_turns(model: CosyVoiceQwenLM, batch: dict[str, Any], spans: Sequence[Tensor]) -> Tensor:
    """The same in the sequences of CosyVoice, where text and speech may take turns.

    Args:
        model: lays them out.
        batch: of the task, with the ``seeds`` of its draws.
        spans: Long (N, 2) of the speech of each row.
    """
    tokens, condition = batch["tokens"], batch["condition"]
    layout = replace(model.layout, start=torch.zeros(1, 1), task=torch.zeros(1, 1), end=-1, fill=-1)
    mixed = model.mixed_rows(len(tokens), SeededNoise.from_seeds(batch["seeds"].tolist()))
    front = [0] * len(tokens) if condition.instruction is None else condition.instruction.tolist()
    rows = []
    for row, (text, _) in enumerate(condition.rows()):
        numbers, order = torch.arange(1.0, len(text) + 1)[:, None], torch.arange(len(spans[row]))
        none = torch.zeros(len(order), 1)
        if mixed[row] and layout.can_mix(len(text) - front[row], len(order)):
            ids, foretold = layout.mixed(numbers, order, none, front[row])
        else:
            ids, foretold = layout.whole(numbers, order, none)
        asked = torch.where((foretold >= 0)[:, None], spans[row][foretold], 0)
        rows.append(within(ids[:, 0].long() - 1, asked))
    size = max(map(len, rows))
    return torch.stack([functional.pad(row, (0, size - len(row), 0, size - len(row))) for row in rows])


class GuidedLMTask(SpeechLMTask):
    """Prompts to answers; a small model that begins from nothing finds out sooner which word it speaks.

    Args:
        model: a Spark-TTS, or a language model of CosyVoice 2 or 3.
        data, validation, positions: see :class:`SpeechLMTask`.
        guides: files of :func:`write_guides`, one for each file of ``data``, in order.
        guide_weight: of its loss.
        guide_layer: whose first head is shown.
        **options: of :class:`SpeechLMTask`.

    Raises:
        ValueError: a model that has no such layer, or guides of other examples.
    """

    def __init__(self, model: SparkTTS | CosyVoiceQwenLM, data: SpeechExamples,
                 validation: SpeechExamples | None = None, positions: int = 2048, *, guides: list[str | Path],
                 guide_weight: float = 0.1, guide_layer: int = 2, **options: Any) -> None:
        super().__init__(model, data, validation, positions, **options)
        known = isinstance(model, SparkTTS | CosyVoiceQwenLM)
        if not known or not 0 <= guide_layer < len(model.backbone.blocks):
            raise ValueError(f"guides are for a Spark-TTS, or a CosyVoice 2 or 3, with a layer {guide_layer}; "
                             "leave them out")
        spans = torch.cat([load_file(path)["spans"].long() for path in guides])
        counts = [len(tokens) for tokens in data.tokens]
        if len(spans) != sum(counts):
            raise ValueError(f"the guides are of {len(spans)} tokens, the examples have {sum(counts)}; make both again")
        self.spans, self.guide_weight = spans.split(counts), guide_weight
        self.guide = AttentionGuide(model.backbone.blocks[guide_layer].attention)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        batch = super().batch(indices, rng)
        rows = np.concatenate([self.groups[index] for index in indices])
        batch["seeds"] = torch.from_numpy(rng.integers(2**31, size=len(rows)))
        spans = [self.spans[row] for row in rows]
        if isinstance(self.model, SparkTTS):
            batch["inside"] = places_behind_prompts([len(self.data.ids[row]) for row in rows], spans,
                                                    batch["condition"].ids.shape[1])
        else:
            batch["inside"] = places_among_turns(self.model, batch, spans)
        return batch

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        device = batch["tokens"].values.device
        noise = SeededNoise.from_seeds(batch["seeds"].tolist(), device)
        output = model(batch["tokens"], batch["condition"], noise=noise)
        guided, share = self.guide.loss(batch["inside"])
        return output.loss + self.guide_weight * guided, {**output.metrics, "tokens": output.loss, "guided": share}
