"""Mimi with continuous latents: the codec of Pocket TTS."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import ModelEntry

SMALL = {"width": 128, "filters": 32, "kernel_size": 3, "num_heads": 4, "depth": 12, "hidden": 384, "window": 50}
SMALLEST = {**SMALL, "filters": 24, "depth": 4}
TINY_PART = {"width": 16, "filters": 4, "ratios": [3, 2], "num_heads": 2, "depth": 1, "hidden": 24, "window": 5,
             "kernel_size": 7, "residual_layers": 2}
TINY = {"latent_dim": 6, "latent_stride": 4, "encoder": TINY_PART, "decoder": {**TINY_PART, "depth": 2}}
LANGUAGES = ("dutch", "french", "german", "italian", "portuguese", "spanish")


def _codec(name: str, folder: str, summary: str, parameters: int = 20_054_337,
           decoder: dict[str, Any] | None = None) -> ModelEntry:
    """The codec in the file of a published Pocket TTS."""
    return ModelEntry(name, "codec", "photophone.codecs.continuous_mimi.model:ContinuousMimi", summary, "2509.06926",
                      "MIT", "CC BY 4.0", config={} if decoder is None else {"decoder": decoder}, tiny=TINY,
                      hub_id="kyutai/pocket-tts", files=(f"languages/{folder}/model.safetensors",),
                      parameters=parameters)


ENTRIES = [
    _codec("pocket-tts-codec", "english", "24 kHz speech to 12.5 continuous tokens of 32 a second, streaming"),
    *(_codec(f"pocket-tts-codec-{language}", language, f"the same, in the file of the {language.title()} model")
      for language in LANGUAGES),
    *(_codec(f"pocket-tts-codec-{language}-24l", f"{language}_24l",
             f"the same, in the file of the larger {language.title()} model") for language in LANGUAGES),
    _codec("pocket-tts-codec-english-24l", "english_2026-09_24l", "the same, in the file of the larger English model"),
    _codec("pocket-tts-codec-drifting", "english_drifting_26-09", "the same, in the file of the drifting model"),
    _codec("pocket-tts-codec-18m", "english_18m_2026-10", "the same tokens with a small decoder", 12_366_257, SMALL),
    _codec("pocket-tts-codec-7m", "english_7m_2026-10", "the same tokens with a small decoder", 12_366_257, SMALL),
    _codec("pocket-tts-codec-2m", "english_2m_2026-10", "the same tokens, the smallest decoder", 10_790_733, SMALLEST),
    ModelEntry("phonon-codec", "features", "photophone.codecs.continuous_mimi.model:LatentDecoder",
               "the tokens of Phonon to 24 kHz speech; in the file of the language model", "2509.06926",
               "Apache-2.0 (transformers)", "Apache-2.0", hub_id="gradium/phonon-31m-en", files=("model.safetensors",),
               parameters=10_305_313, tiny={key: value for key, value in TINY.items() if key != "encoder"}),
]
