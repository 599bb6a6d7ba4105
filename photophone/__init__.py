"""photophone: multimodal generative models of images, audio and speech on sequences of tokens.

Names below load on first use, so that ``import photophone`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from photophone.generators.flow_ar import FlowARGenerator
    from photophone.noise import Noise, ReplayNoise, SeededNoise
    from photophone.pipelines.text_to_image import TextToImagePipeline
    from photophone.registry import create_model, list_models
    from photophone.tokenizers.base import ImageTokenizer
    from photophone.tokenizers.latent1d import Latent1DTokenizer
    from photophone.tokens import Tokens


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'photophone' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
