"""What image generators are conditioned on in training: captions, classes, or features of captions."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from photophone.core.files import atomic_write
from photophone.data.images import FIELDS, ImageDataset
from photophone.generators.base import Generator
from photophone.generators.conditions import (
    CaptionFeatures,
    CaptionIds,
    CaptionStates,
    ClassLabels,
    Condition,
    condition_kinds,
)
from photophone.pipelines.captions import caption_sizes, read_captions
from photophone.pipelines.class_to_image import ClassToImagePipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.text.captions import encode_captions, vary_caption
from photophone.text.features import first_words, load_text_encoder
from photophone.tokenizers.base import ImageTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Fields = list[dict[str, str]]


class TrainingCondition(ABC):
    """Turns the fields of images into what a generator reads.

    Attributes:
        sizes: arguments of the generator that follow from the condition.
    """

    sizes: dict[str, Any]

    @abstractmethod
    def train(self, rows: Fields, rng: np.random.Generator) -> Condition:
        """The condition of a training pass, varied with draws of ``rng``."""

    @abstractmethod
    def plain(self, rows: Fields) -> Condition:
        """The condition of validation and previews: the same each time."""

    def knows(self, fields: dict[str, str]) -> bool:
        """Whether a held-apart image can be asked for."""
        return True

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what a pipeline needs to read conditions."""

    def export(self, model: Generator, tokenizer: ImageTokenizer | None, folder: Path) -> None:
        """Write the generator in ``token_generator``, and what reads its conditions."""
        model.save_pretrained(folder / "token_generator")
        self.save(folder)


class Captions(TrainingCondition):
    """Ids of a caption vocabulary: :class:`photophone.CaptionIds`.

    Args:
        text_tokenizer: the vocabulary.
        keep: share of captions used as they stand, see :func:`photophone.text.captions.vary_caption`.
    """

    def __init__(self, text_tokenizer: CaptionTokenizer, keep: float = 0.6) -> None:
        self.text_tokenizer, self.keep = text_tokenizer, keep
        self.sizes: dict[str, Any] = {}

    def train(self, rows: Fields, rng: np.random.Generator) -> CaptionIds:
        captions = [vary_caption(fields, rng, self.keep) for fields in rows]
        return CaptionIds(*encode_captions(self.text_tokenizer, captions, truncate=True, trim=True))

    def plain(self, rows: Fields) -> CaptionIds:
        captions = [fields["caption"] for fields in rows]
        return CaptionIds(*encode_captions(self.text_tokenizer, captions, truncate=True))

    def save(self, folder: Path) -> None:
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")


class Classes(TrainingCondition):
    """Numbers of the different values of one field, such as the style or the label: :class:`photophone.ClassLabels`.

    Args:
        data: the training images; their values are the classes, in the order of the alphabet.
        field: one of :data:`photophone.data.images.FIELDS`.

    Raises:
        ValueError: an unknown field, or one that is empty everywhere.
    """

    def __init__(self, data: ImageDataset, field: str = "label") -> None:
        if field not in FIELDS:
            raise ValueError(f"condition: the field must be one of {', '.join(FIELDS)}, got {field!r}")
        self.field = field
        self.names = sorted({fields[field] for fields in data.fields})
        if self.names == [""]:
            raise ValueError(f"condition: no image has a {field}")
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.sizes = {"num_classes": len(self.names)}

    def knows(self, fields: dict[str, str]) -> bool:
        return fields[self.field] in self.numbers

    def train(self, rows: Fields, rng: np.random.Generator) -> ClassLabels:
        return self.plain(rows)

    def plain(self, rows: Fields) -> ClassLabels:
        return ClassLabels(torch.tensor([self.numbers[fields[self.field]] for fields in rows]))

    def save(self, folder: Path) -> None:
        with atomic_write(folder / "classes.json") as partial:
            partial.write_text(json.dumps({"field": self.field, "names": self.names}, indent=1, ensure_ascii=False),
                               encoding="utf-8")

    def export(self, model: Generator, tokenizer: ImageTokenizer | None, folder: Path) -> None:
        """A whole pipeline where there is a tokenizer."""
        if tokenizer is None:
            super().export(model, tokenizer, folder)
            return
        ClassToImagePipeline(model, tokenizer).save_pretrained(folder)
        self.save(folder)


class EncodedCaptions(TrainingCondition):
    """What a frozen text encoder makes of captions, see :func:`photophone.pipelines.captions.read_captions`: features
    of T5 or a language model, or states of CLIP's text tower.

    Args:
        text_tokenizer, encoder: see :func:`photophone.text.features.load_text_encoder`.
        length: tokens of a caption; longer ones are cut at a word.
        keep: share of captions used as they stand.
    """

    def __init__(self, text_tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, length: int = 120,
                 keep: float = 0.6) -> None:
        self.text_tokenizer, self.encoder, self.length, self.keep = text_tokenizer, encoder, length, keep
        self.sizes = caption_sizes(encoder, length)
        self.kind = CaptionStates if "text_dim" in self.sizes else CaptionFeatures

    def read(self, captions: list[str]) -> CaptionFeatures | CaptionStates:
        """The condition of captions, of which the first words count."""
        texts = [first_words(self.text_tokenizer, text, self.length) for text in captions]
        return read_captions(self.text_tokenizer, self.encoder, texts, self.length)

    def train(self, rows: Fields, rng: np.random.Generator) -> CaptionFeatures | CaptionStates:
        return self.read([vary_caption(fields, rng, self.keep) for fields in rows])

    def plain(self, rows: Fields) -> CaptionFeatures | CaptionStates:
        return self.read([fields["caption"] for fields in rows])

    def save(self, folder: Path) -> None:
        self.text_tokenizer.save_pretrained(folder / "text_tokenizer")
        self.encoder.save_pretrained(folder / "text_encoder")

    def export(self, model: Generator, tokenizer: ImageTokenizer | None, folder: Path) -> None:
        """A whole pipeline where there is a tokenizer."""
        if tokenizer is None:
            super().export(model, tokenizer, folder)
            return
        TextToImagePipeline(self.text_tokenizer, model, tokenizer, self.encoder).save_pretrained(folder)


def load_captions(settings: dict[str, Any]) -> EncodedCaptions:
    """A frozen text encoder from ``text_encoder`` (a folder or hub id), ``length`` and ``keep``.

    Raises:
        ValueError: unknown settings, or an encoder that cannot be loaded.
    """
    options = dict(settings)
    if unknown := set(options) - {"text_encoder", "length", "keep"} or {"text_encoder"} - set(options):
        raise ValueError(f"condition: {sorted(unknown)} is unknown or missing; give field, or text_encoder with length "
                         "and keep")
    return EncodedCaptions(*load_text_encoder(options.pop("text_encoder")), **options)


def build_condition(settings: dict[str, Any], model_class: type[Generator], data: ImageDataset) -> TrainingCondition:
    """The condition of a generator that reads classes or features of captions.

    Args:
        settings: ``field`` for classes ("label" by default), or ``text_encoder`` (a folder or hub id), ``length`` and
            ``keep`` for features of captions.
        model_class: of the generator.
        data: the training images.

    Raises:
        ValueError: unknown settings, or a generator that does not read captions.
    """
    if "text_encoder" not in settings:
        if set(settings) - {"field"}:
            raise ValueError(f"condition: unknown settings {sorted(set(settings) - {'field'})}; give field, or "
                             "text_encoder with length and keep")
        if ClassLabels not in condition_kinds(model_class.Condition):
            raise ValueError(f"condition: {model_class.__name__} reads captions, not classes; give text_encoder")
        return Classes(data, **settings)
    kinds = condition_kinds(model_class.Condition)
    if not {CaptionFeatures, CaptionStates} & set(kinds):
        raise ValueError(f"condition: {model_class.__name__} reads classes, not captions; give field")
    condition = load_captions(settings)
    if condition.kind not in kinds or not set(condition.sizes) <= model_class.config_keys():
        raise ValueError(f"condition: {model_class.__name__} does not read captions of a text encoder of the kind "
                         f"{condition.encoder.config.model_type!r}")
    return condition
