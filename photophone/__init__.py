"""photophone: multimodal generative models of images, audio and speech on sequences of tokens.

Names below load on first use, so that ``import photophone`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Tokens": "photophone.tokens",
    "Noise": "photophone.noise",
    "SeededNoise": "photophone.noise",
    "ReplayNoise": "photophone.noise",
    "TextToImagePipeline": "photophone.pipelines.text_to_image",
    "ImageTokenizer": "photophone.tokenizers.base",
    "Latent1DTokenizer": "photophone.tokenizers.latent1d",
    "FlowARGenerator": "photophone.generators.flow_ar",
    "create_model": "photophone.registry",
    "list_models": "photophone.registry",
    "load_original": "photophone.registry",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 (the names are strings)

# diffusers finds out how to load a component of the library "photophone" by looking for its base class here
_FOR_DIFFUSERS = {"ModelMixin": "diffusers"}


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name) or _FOR_DIFFUSERS.get(name)
    if module is None:
        raise AttributeError(f"module 'photophone' has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
