"""What image generators are conditioned on in training: captions, classes, or features of captions."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from photophone.core.files import atomic_write
from photophone.data.images import FIELDS, ImageDataset
from photophone.text.captions import encode_captions, vary_caption
from photophone.text.features import encode_features, load_text_encoder

Fields = list[dict[str, str]]


class Condition(Protocol):
    """Turns the fields of images into what a generator reads."""

    sizes: dict[str, Any]  # arguments of the generator that follow from the condition

    def train(self, rows: Fields, rng: np.random.Generator) -> dict[str, Tensor]:
        """Arguments of the generator's forward, varied."""

    def plain(self, rows: Fields) -> dict[str, Tensor]:
        """Arguments of the generator's forward for validation: the same each time."""

    def sampling(self, rows: Fields) -> tuple[Tensor, ...]:
        """First arguments of ``generate`` for the images of these rows."""

    def knows(self, fields: dict[str, str]) -> bool:
        """Whether a held-apart image can be asked for."""

    def save(self, folder: Path) -> None:
        """Write what a pipeline needs to read conditions."""


class Captions:
    """Ids of a caption vocabulary, for :class:`photophone.generators.flow_ar.model.FlowARGenerator`.

    Args:
        text_tokenizer: the vocabulary.
        keep: share of captions used as they stand, see :func:`photophone.text.captions.vary_caption`.
    """

    def __init__(self, text_tokenizer: PreTrainedTokenizerBase, keep: float = 0.6) -> None:
        self.text_tokenizer, self.keep = text_tokenizer, keep
        self.sizes: dict[str, Any] = {}

    def train(self, rows: Fields, rng: np.random.Generator) -> dict[str, Tensor]:
        captions = [vary_caption(fields, rng, self.keep) for fields in rows]
        ids, mask, null = encode_captions(self.text_tokenizer, captions, truncate=True, trim=True)
        return {"text_ids": ids, "text_mask": mask, "null_ids": null}

    def plain(self, rows: Fields) -> dict[str, Tensor]:
        ids, mask, _ = self.sampling(rows)
        return {"text_ids": ids, "text_mask": mask}

    def sampling(self, rows: Fields) -> tuple[Tensor, ...]:
        return encode_captions(self.text_tokenizer, [fields["caption"] for fields in rows], truncate=True)

    def knows(self, fields: dict[str, str]) -> bool:
        return True

    def save(self, folder: Path) -> None:
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")


class Classes:
    """Numbers of the different values of one field, such as the style or the label.

    Args:
        data: the training images; their values are the classes, in the order of the alphabet.
        field: one of :data:`photophone.data.images.FIELDS`.
        argument: the name of the labels in the generator's forward.

    Raises:
        ValueError: an unknown field, or one that is empty everywhere.
    """

    def __init__(self, data: ImageDataset, field: str = "label", argument: str = "labels") -> None:
        if field not in FIELDS:
            raise ValueError(f"condition: the field must be one of {', '.join(FIELDS)}, got {field!r}")
        self.field, self.argument = field, argument
        self.names = sorted({fields[field] for fields in data.fields})
        if self.names == [""]:
            raise ValueError(f"condition: no image has a {field}")
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.sizes = {"num_classes": len(self.names)}

    def knows(self, fields: dict[str, str]) -> bool:
        return fields[self.field] in self.numbers

    def labels(self, rows: Fields) -> Tensor:
        """Long (B,) of images whose class :meth:`knows` knows."""
        return torch.tensor([self.numbers[fields[self.field]] for fields in rows])

    def train(self, rows: Fields, rng: np.random.Generator) -> dict[str, Tensor]:
        return {self.argument: self.labels(rows)}

    def plain(self, rows: Fields) -> dict[str, Tensor]:
        return {self.argument: self.labels(rows)}

    def sampling(self, rows: Fields) -> tuple[Tensor, ...]:
        return (self.labels(rows),)

    def save(self, folder: Path) -> None:
        with atomic_write(folder / "classes.json") as partial:
            partial.write_text(json.dumps({"field": self.field, "names": self.names}, indent=1, ensure_ascii=False),
                               encoding="utf-8")


class CaptionFeatures:
    """Features of a frozen T5 encoder, for :class:`photophone.generators.llamagen.model.LlamaGenGPT`.

    Args:
        text_tokenizer, encoder: see :func:`photophone.text.features.load_text_encoder`.
        length: tokens of a caption; longer ones are cut at a word.
        keep: share of captions used as they stand.
    """

    def __init__(self, text_tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, length: int = 120,
                 keep: float = 0.6) -> None:
        self.text_tokenizer, self.encoder, self.length, self.keep = text_tokenizer, encoder, length, keep
        self.sizes = {"caption_dim": encoder.config.d_model, "caption_length": length}

    def features(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Features (B, T, C) and mask (B, T)."""
        return encode_features(self.text_tokenizer, self.encoder, [self.cut(text) for text in captions], self.length)

    def cut(self, caption: str) -> str:
        """The first words of a caption, as many as fit."""
        words = caption.split()
        while len(words) > 1 and len(self.text_tokenizer(" ".join(words).lower())["input_ids"]) > self.length:
            words.pop()
        return " ".join(words)

    def train(self, rows: Fields, rng: np.random.Generator) -> dict[str, Tensor]:
        condition, mask = self.features([vary_caption(fields, rng, self.keep) for fields in rows])
        return {"condition": condition, "caption_mask": mask}

    def plain(self, rows: Fields) -> dict[str, Tensor]:
        return dict(zip(("condition", "caption_mask"), self.sampling(rows)))

    def sampling(self, rows: Fields) -> tuple[Tensor, ...]:
        return self.features([fields["caption"] for fields in rows])

    def knows(self, fields: dict[str, str]) -> bool:
        return True

    def save(self, folder: Path) -> None:
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")
        self.encoder.save_pretrained(folder / "text_encoder")


def build_condition(settings: dict[str, Any], model_class: type[nn.Module], data: ImageDataset) -> Condition:
    """The condition of a generator that is not our own FlowAR.

    Args:
        settings: ``field`` for classes ("label" by default), or ``text_encoder`` (a folder or hub id), ``length`` and
            ``keep`` for features of captions.
        model_class: of the generator.
        data: the training images.

    Raises:
        ValueError: unknown settings, or a generator that does not read captions.
    """
    options, known = dict(settings), inspect.signature(model_class.forward).parameters
    argument = "labels" if "labels" in known else "condition"
    kinds = ({"text_encoder", "length", "keep"} if "text_encoder" in options else {"field"})
    if set(options) - kinds:
        raise ValueError(f"condition: unknown settings {sorted(set(options) - kinds)}; give field, or text_encoder "
                         "with length and keep")
    if "text_encoder" not in options:
        return Classes(data, argument=argument, **options)
    if "caption_mask" not in known:
        raise ValueError(f"condition: {model_class.__name__} reads classes, not captions; give field")
    return CaptionFeatures(*load_text_encoder(options.pop("text_encoder")), **options)
