"""What a family says of its models: plain data, readable without torch.

Every family has ``ENTRIES`` in its ``__init__.py``. All tables of names are derived from them; see
:mod:`photophone.loading.registry`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

KINDS = ("image_tokenizer", "codec", "features", "generator", "enhancer", "pipeline")
OWN = {"code_licence": "Apache-2.0", "weights_licence": "none published"}
"""Our own models, without published weights."""
AS_CODE = "as the code (MIT), none stated apart"


@dataclass(frozen=True)
class Chain:
    """How a published generator becomes a pipeline.

    Args:
        generator: checkpoints of the generator and of what stands before it, by the names under which users give them,
            and the registered model of each.
        tokenizer: the same of its tokenizer, codec or vocoder: a name, and the registered model.
        sampler: published settings, as options of the pipeline's call.
        tokenizer_config: settings of the tokenizer that differ from its entry's.
        pipeline: name of the class in :mod:`photophone`.
        text_encoder: hub id of the text encoder and its vocabulary, for generators that read captions.
        text_tokenizer: hub id of the vocabulary, for generators that read ids of words.
        image_decoder: hub id of the pipeline of diffusers that draws what the tokenizer makes of codes.
        within: checkpoints that lie in the file of another, and the name of that.
    """

    generator: dict[str, str]
    tokenizer: tuple[str, str]
    sampler: dict[str, Any] = field(default_factory=dict)
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    pipeline: str = "ClassToImagePipeline"
    text_encoder: str | None = None
    text_tokenizer: str | None = None
    image_decoder: str | None = None
    within: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """All checkpoints by the names under which users give them, and the registered model of each."""
        key, model = self.tokenizer
        return {**self.generator, key: model}


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
        config: constructor arguments of this model; the class's defaults stand for the rest.
        hub_id, files: where published weights lie; None when there are none.
        folder: for built-in weights, the folder inside ``photophone/pretrained``.
        tiny: arguments that replace those of ``config`` and make the same model small: what tests build.
        tiny_sampler: options of its sampler that make few steps, and little noise where logits are close to zero.
        chain: for generators that pipelines run.
        sampler: of a built-in pipeline: the settings that its numbers were measured with.
        parameters: of the model at its published size, None where no count is known.
        languages: that text to speech reads, in English words; none where the authors name no few, or there is no text.
        figures, figures_on: published measures of the weights by name, as the authors state them, and the data.
        training_name: what ``model.family`` of a training config calls the class; None: the name of the family's
            folder.
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
    tiny_sampler: dict[str, Any] = field(default_factory=dict)
    chain: Chain | None = None
    sampler: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    training_name: str | None = None
    languages: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    figures_on: str = ""

    @property
    def class_name(self) -> str:
        """Name of the class, which is public in :mod:`photophone`."""
        return self.target.partition(":")[2]

    @property
    def published_sampler(self) -> dict[str, Any]:
        """The settings that the published numbers were made with, or none."""
        return dict(self.chain.sampler if self.chain else self.sampler)

    @property
    def family(self) -> str:
        """The family's folder with dashes: "photophone.generators.flow_ar.model" is of "flow-ar"."""
        return self.target.split(".")[2].replace("_", "-")

    def load_class(self) -> type:
        """The class, imported on first use."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)
