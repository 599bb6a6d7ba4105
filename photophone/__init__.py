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
    "ClassToImagePipeline": "photophone.pipelines.class_to_image",
    "TextToImagePipeline": "photophone.pipelines.text_to_image",
    "TextToSpeechPipeline": "photophone.pipelines.text_to_speech",
    "SpeechEnhancementPipeline": "photophone.pipelines.speech_enhancement",
    "TokenToSpeechPipeline": "photophone.pipelines.token_to_speech",
    "Voice": "photophone.pipelines.speech_fronts",
    "ImageTokenizer": "photophone.tokenizers.base",
    "Latent1DTokenizer": "photophone.tokenizers.latent1d",
    "KLVAE": "photophone.tokenizers.kl_vae",
    "LlamaGenVQ": "photophone.tokenizers.llamagen_vq",
    "MaskGITVQGAN": "photophone.tokenizers.maskgit_vqgan",
    "SoftVQTokenizer": "photophone.tokenizers.softvq",
    "TiTok": "photophone.tokenizers.titok",
    "UniTok": "photophone.tokenizers.unitok",
    "UniTokCLIP": "photophone.tokenizers.unitok",
    "VARTokenizer": "photophone.tokenizers.var_vq",
    "AudioVAE": "photophone.codecs.audio_vae",
    "DMel": "photophone.codecs.dmel",
    "FocalCodec": "photophone.codecs.focalcodec",
    "HiFT": "photophone.codecs.hift",
    "XCodec2": "photophone.codecs.xcodec2",
    "CosyVoiceFlow": "photophone.generators.cosyvoice_flow",
    "DiT": "photophone.generators.sit",
    "FlowARGenerator": "photophone.generators.flow_ar",
    "ImageBert": "photophone.generators.masked_image",
    "LLaSEEnhancer": "photophone.pipelines.llase_enhancer",
    "LLaSEG1": "photophone.generators.llase_g1",
    "LlamaGenGPT": "photophone.generators.llamagen_gpt",
    "MAR": "photophone.generators.mar",
    "SiT": "photophone.generators.sit",
    "SpeechEnhancer": "photophone.generators.enhancer",
    "SpeculativeMAR": "photophone.generators.cspd",
    "UViTBert": "photophone.generators.masked_image",
    "VAR": "photophone.generators.var",
    "VoxCPM": "photophone.generators.voxcpm",
    "XAR": "photophone.generators.xar",
    "AudioCodec": "photophone.codecs.base",
    "AutoCodec": "photophone.pipelines.loading",
    "StreamCodec": "photophone.codecs.stream_codec",
    "SpeechFlowAR": "photophone.generators.speech_ar",
    "DecodingEngine": "photophone.generators.engine",
    "DecodingSettings": "photophone.generators.engine",
    "generate_speculatively": "photophone.generators.speculative",
    "prepare_for_decoding": "photophone.layers.decode_linear",
    "restore_linears": "photophone.layers.decode_linear",
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
