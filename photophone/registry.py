"""Names of models and weights: paper, licences, hub id, files, and our class.

Everything here is data. A class is named by its place inside photophone, never by what a file says; names are stable,
lower case, ``family-size-variant``. Built-in pipelines are named ``photophone/...`` and lie inside the package.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRETRAINED = Path(__file__).parent / "pretrained"
KINDS = ("image_tokenizer", "generator", "pipeline")


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

    def load_class(self) -> type:
        """The class, imported on first use."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


OWN = {"code_licence": "Apache-2.0", "weights_licence": "none published"}
LATENT1D = {"kind": "image_tokenizer", "target": "photophone.tokenizers.latent1d:Latent1DTokenizer",
            "paper": "in the line of arXiv 2501.07730 and 2412.10958", **OWN}
FLOW_AR = {"kind": "generator", "target": "photophone.generators.flow_ar:FlowARGenerator",
           "paper": "in the line of arXiv 2406.11838 and 2502.20388", **OWN}
CELL_HEAD = {"width": 192, "depth": 3, "num_heads": 3, "batch_mul": 4, "time_distribution": "logit_normal"}
MLP_HEAD = {"width": 384, "depth": 3, "batch_mul": 4, "time_distribution": "logit_normal"}

_ENTRIES = [
    ModelEntry("photophone/tiny-image", "pipeline", "photophone.pipelines.text_to_image:TextToImagePipeline",
               "captions to 64x64 images: icons, emoji, pixel art; ships in the wheel",
               "in the line of arXiv 2406.11838 and 2502.20388", "Apache-2.0",
               "Apache-2.0 (training data: CC0, MIT, Apache-2.0, CC BY 4.0, BSD-2-Clause; see the model card)",
               folder="tiny-image"),
    ModelEntry("latent1d-tiny-c32", summary="64x64 pixels to 16 continuous tokens of 32 dimensions",
               config={"encoder_channels": [48, 96], "decoder_channels": [128, 64]}, **LATENT1D),
    ModelEntry("latent1d-tiny-fsq", summary="64x64 pixels to 32 codes of 64,000 (FSQ)",
               config={"num_tokens": 32, "token_dim": 6, "quantizer": "fsq",
                       "quantizer_config": {"levels": [8, 8, 8, 5, 5, 5]}}, **LATENT1D),
    ModelEntry("latent1d-tiny-vq", summary="64x64 pixels to 32 codes of 4,096 (VQ with an averaged codebook)",
               config={"num_tokens": 32, "token_dim": 16, "quantizer": "vq",
                       "quantizer_config": {"codebook_size": 4096, "ema_decay": 0.99}}, **LATENT1D),
    ModelEntry("latent1d-tiny-softvq", summary="64x64 pixels to 16 soft mixtures of codewords (SoftVQ)",
               config={"quantizer": "soft_vq", "quantizer_config": {"num_codewords": 2048, "num_codebooks": 4}},
               **LATENT1D),
    ModelEntry("latent1d-vit-c32", summary="the same as a plain ViT on patches of 8",
               config={"stem": "patch", "patch": 8, "encoder_depth": 4, "decoder_depth": 4}, **LATENT1D),
    ModelEntry("flowar-tiny-joint", summary="all 16 tokens as one cell, local-DiT flow head",
               config={"order": "next_x", "cell_size": 16, "head": "local_dit",
                       "head_config": {**CELL_HEAD, "cell_size": 16}}, **FLOW_AR),
    ModelEntry("flowar-tiny-cells", summary="next-X over cells of 4 tokens, local-DiT flow head",
               config={"order": "next_x", "cell_size": 4, "head": "local_dit",
                       "head_config": {**CELL_HEAD, "cell_size": 4}}, **FLOW_AR),
    ModelEntry("flowar-tiny-raster", summary="token by token, flow MLP head",
               config={"order": "raster", "head": "flow", "head_config": MLP_HEAD}, **FLOW_AR),
    ModelEntry("flowar-tiny-random", summary="masked in random order (MAR), flow MLP head",
               config={"order": "random", "head": "flow", "head_config": MLP_HEAD}, **FLOW_AR),
]
REGISTRY: dict[str, ModelEntry] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> ModelEntry:
    """The entry of ``name``.

    Raises:
        ValueError: an unknown name; the message gives the nearest known ones.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.4) or sorted(REGISTRY)
        raise ValueError(f"unknown model {name!r}; did you mean {', '.join(near)}? `photophone models` lists all")
    return REGISTRY[name]


def list_models(kind: str | None = None) -> list[ModelEntry]:
    """All entries, or those of one kind, in the order of the registry."""
    return [entry for entry in REGISTRY.values() if kind in (None, entry.kind)]


def create_model(name: str, **overrides: Any):
    """Build a registered model with random weights; ``overrides`` replace settings of its config."""
    entry = find(name)
    if entry.kind == "pipeline":
        raise ValueError(f"{name} is a pipeline; load it with from_pretrained")
    return entry.load_class()(**{**entry.config, **overrides})


def builtin_folder(name: str) -> Path | None:
    """Folder of built-in weights, or None when ``name`` is not a built-in.

    Raises:
        ValueError: a name that starts with ``photophone/`` but is not known, or whose files are missing.
    """
    if not name.startswith("photophone/"):
        return None
    folder = PRETRAINED / find(name).folder
    if not (folder / "model_index.json").exists():
        raise ValueError(f"the built-in weights of {name} are missing in {folder}; reinstall photophone")
    return folder
