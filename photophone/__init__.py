"""photophone: multimodal generative models of images, audio and speech on sequences of tokens.

Names load on first use, so that ``import photophone`` costs nothing. Classes of models are public by being registered;
see :mod:`photophone.loading.registry`.
"""

from __future__ import annotations

import importlib
from typing import Any

from photophone.core.privacy import keep_quiet

keep_quiet()  # before anything can import a library that reports to its maker
__version__ = "0.1.0"

_PUBLIC = {
    "Tokens": "photophone.core.tokens",
    "Noise": "photophone.core.noise",
    "SeededNoise": "photophone.core.noise",
    "ReplayNoise": "photophone.core.noise",
    "ImageTokenizer": "photophone.tokenizers.base",
    "AudioCodec": "photophone.codecs.base",
    "Generator": "photophone.generators.base",
    "ClassLabels": "photophone.generators.conditions",
    "CaptionIds": "photophone.generators.conditions",
    "CaptionFeatures": "photophone.generators.conditions",
    "Enhancer": "photophone.generators.enhancement",
    "ClassToImagePipeline": "photophone.pipelines.class_to_image",
    "TextToImagePipeline": "photophone.pipelines.text_to_image",
    "InterleavedPipeline": "photophone.pipelines.interleaved",
    "TextToSpeechPipeline": "photophone.pipelines.text_to_speech",
    "SpeechEnhancementPipeline": "photophone.pipelines.speech_enhancement",
    "SpeechToTextPipeline": "photophone.pipelines.speech_to_text",
    "SpokenContinuationPipeline": "photophone.pipelines.spoken_continuation",
    "TokenToSpeechPipeline": "photophone.pipelines.token_to_speech",
    "CaptionTokenizer": "photophone.text.caption_tokenizer",
    "IconMatting": "photophone.tokenizers.icon_matting",
    "IconUpscaler": "photophone.tokenizers.icon_upscaler",
    "Voice": "photophone.pipelines.speech_fronts",
    "VoiceAttributes": "photophone.text.sparktts",
    "AutoCodec": "photophone.loading.auto",
    "AutoImageTokenizer": "photophone.loading.auto",
    "DecodingEngine": "photophone.decoding.engine",
    "DecodingSettings": "photophone.decoding.engine",
    "generate_speculatively": "photophone.decoding.speculative",
    "prepare_for_decoding": "photophone.layers.decode_linear",
    "restore_linears": "photophone.layers.decode_linear",
    "create_model": "photophone.loading.registry",
    "list_models": "photophone.loading.registry",
    "load_original": "photophone.loading.registry",
}
"""Public names beside the classes of models."""


def _modules() -> dict[str, str]:
    """The module of each public name."""
    from photophone.loading.registry import public_classes

    return {**public_classes(), **_PUBLIC}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *_modules()]
    module = _PUBLIC.get(name)
    if module is None and not name.startswith("_"):
        module = _modules().get(name)
    if module is None:
        raise AttributeError(f"module 'photophone' has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__getattr__("__all__"))
