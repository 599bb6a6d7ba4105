"""What the registry knows of a model."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

KINDS = ("image_tokenizer", "codec", "features", "generator", "pipeline")
OWN = {"code_licence": "Apache-2.0", "weights_licence": "none published"}
"""Our own models, without published weights."""
AS_CODE = "as the code (MIT), none stated apart"


@dataclass(frozen=True)
class Chain:
    """How a published generator becomes a pipeline.

    Args:
        files: its checkpoints, by the names under which users give them, and the registered model of each; the last
            is that of the tokenizer, codec or vocoder, the others belong to the generator or stand before it.
        sampler: published settings, as options of the pipeline's call.
        tokenizer_config: settings of the tokenizer that differ from its entry's.
        text_encoder: hub id of the text encoder and its vocabulary, for generators that read captions.
        pipeline: name of the class in :mod:`photophone`.
        text_tokenizer: hub id of the vocabulary, for speech generators that read ids of words.
    """

    files: dict[str, str]
    sampler: dict[str, Any]
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    text_encoder: str | None = None
    pipeline: str = "ClassToImagePipeline"
    text_tokenizer: str | None = None

    @property
    def tokenizer(self) -> str:
        """Registered name of the tokenizer, codec or vocoder."""
        return list(self.files.values())[-1]


@dataclass(frozen=True)
class ModelEntry:
    """One model or built-in pipeline.

    Args:
        name: what users type.
        kind: one of KINDS.
        target: "module:Class" inside photophone.
        summary: one line.
        paper: arXiv id or URL.
        code_licence, weights_licence: SPDX names, or words where there is no such name.
        config: constructor arguments that differ from the class's defaults.
        hub_id, files: where published weights lie; None when there are none.
        folder: for built-in weights, the folder inside ``photophone/pretrained``.
        tiny: arguments that replace those of ``config`` and make the same model small: what tests build.
        chain: for generators that pipelines run, and built-in pipelines.
    """

    name: str
    kind: str
    target: str
    summary: str
    paper: str
    code_licence: str
    weights_licence: str
    config: dict[str, Any] = field(default_factory=dict)
    hub_id: str | None = None
    files: tuple[str, ...] = ()
    folder: str | None = None
    tiny: dict[str, Any] = field(default_factory=dict)
    chain: Chain | None = None

    def load_class(self) -> type:
        """The class, imported on first use."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)
