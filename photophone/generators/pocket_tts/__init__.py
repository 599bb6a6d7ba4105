"""Pocket TTS and Phonon: text to speech by continuous tokens, in seven languages, on a CPU."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import Chain, ModelEntry

DRIFTING = {"kind": "drifting"}
SMALL = {"depth": 8, "num_heads": 8, "state_dim": 64}
SIZES: dict[str, dict[str, Any]] = {
    "18m": {**SMALL, "width": 512, "hidden": 512, "head": {"width": 192, "depth": 4, **DRIFTING}},
    "7m": {**SMALL, "width": 224, "hidden": 224, "head_dim": 64, "num_kv_heads": 2, "text_rank": 64,
           "head": {"width": 192, "depth": 4, **DRIFTING}},
    "2m": {**SMALL, "width": 112, "num_heads": 3, "hidden": 96, "head_dim": 64, "num_kv_heads": 1, "text_rank": 32,
           "head": {"width": 64, "depth": 4, "kind": "pointwise"}}}
TINY_HEAD = {"width": 24, "depth": 2, "num_negatives": 4, "batch_mul": 2, "weighting_width": 8}
TINY = {"vocab_size": 40, "width": 32, "depth": 2, "num_heads": 4, "head_dim": 8, "hidden": 48, "token_dim": 6,
        "max_length": 64}
LANGUAGES = ("dutch", "french", "german", "italian", "portuguese", "spanish")
PHONON_CODES = {"en": ("english",), "fr": ("french",), "de": ("german",), "es": ("spanish",), "pt": ("portuguese",)}
ALL_PHONON = tuple(language for (language,) in PHONON_CODES.values())


def _pocket(name: str, folder: str, codec: str, summary: str, parameters: int, config: dict[str, Any],
            end_threshold: float = -4.0, vocabulary: str | None = None) -> ModelEntry:
    """A published Pocket TTS; its vocabulary is the second file."""
    head = {**TINY_HEAD, **{key: value for key, value in config.get("head", {}).items() if key == "kind"}}
    sampler = {"temperature": 0.3, "end_threshold": end_threshold}
    files = [f"languages/{folder}/model.safetensors"]
    chain = None
    if "state_dim" not in config:  # the small models come with a vocabulary in another form, which is not read here
        files.append(f"languages/{vocabulary or folder}/tokenizer.json")
        chain = Chain({"pocket_tts": name}, ("codec", codec), sampler, pipeline="TextToSpeechPipeline",
                      text_tokenizer="kyutai/pocket-tts-without-voice-cloning")
    return ModelEntry(name, "generator", "photophone.generators.pocket_tts.model:PocketTTS", summary, "2509.06926",
                      "MIT", "CC BY 4.0", config=config, hub_id="kyutai/pocket-tts",
                      files=tuple(files), chain=chain, parameters=parameters,
                      tiny={**TINY, "head": head, **({"depth": 1} if config.get("num_kv_heads") else {})},
                      tiny_sampler={"max_frames": 4, "min_frames": 4},
                      languages=(next((one for one in LANGUAGES if one in name), "english"),))


def _phonon(name: str, summary: str, licence: str, depth: int, parameters: int) -> ModelEntry:
    """A published Phonon. Its depth is what fits the published number of parameters; what a release's ``config.json``
    says counts."""
    chain = Chain({"phonon": name}, ("codec", "phonon-codec"), {"temperature": 0.3}, pipeline="TextToSpeechPipeline",
                  text_tokenizer=f"gradium/{name}")
    return ModelEntry(name, "generator", "photophone.generators.pocket_tts.phonon:Phonon", summary, "2509.06926",
                      "Apache-2.0 (transformers)", licence, config={"depth": depth}, hub_id=f"gradium/{name}",
                      files=("model.safetensors", "tokenizer.json"), chain=chain, parameters=parameters,
                      tiny={**TINY, "head": TINY_HEAD, "voice_dim": 10, "speaker_width": 4, "duration_width": 8,
                            "voice_frames": 3}, tiny_sampler={"max_frames": 4, "min_frames": 4},
                      training_name="phonon", languages=PHONON_CODES.get(name.rpartition("-")[2], ALL_PHONON))


PHONON_LANGUAGES = {"en": "English", "fr": "French", "de": "German", "es": "Spanish", "pt": "Portuguese",
                    "multilingual": "five languages"}
ENTRIES = [
    _pocket("pocket-tts-english", "english", "pocket-tts-codec", "English, 90M parameters", 89_449_730, {}),
    *(_pocket(f"pocket-tts-{language}", language, f"pocket-tts-codec-{language}",
              f"{language.title()}, 90M parameters", 89_449_730, {}) for language in LANGUAGES),
    _pocket("pocket-tts-english-24l", "english_2026-09_24l", "pocket-tts-codec-english-24l",
            "English, 316M parameters", 316_015_874, {"depth": 24}),
    *(_pocket(f"pocket-tts-{language}-24l", f"{language}_24l", f"pocket-tts-codec-{language}-24l",
              f"{language.title()}, 316M parameters", 316_015_874, {"depth": 24}) for language in LANGUAGES),
    _pocket("pocket-tts-drifting", "english_drifting_26-09", "pocket-tts-codec-drifting",
            "English, a drifting head, 90M parameters", 88_657_986, {"head": DRIFTING},
            vocabulary="english_2026-09"),
    _pocket("pocket-tts-18m", "english_18m_2026-10", "pocket-tts-codec-18m", "English, 16M parameters", 15_556_738,
            SIZES["18m"], -1.0),
    _pocket("pocket-tts-7m", "english_7m_2026-10", "pocket-tts-codec-7m", "English, 4M parameters", 4_245_346,
            SIZES["7m"], -1.0),
    _pocket("pocket-tts-2m", "english_2m_2026-10", "pocket-tts-codec-2m", "English, 0.9M parameters", 881_138,
            SIZES["2m"], -1.0),
    _phonon("phonon-31m-en", "English, voices from files, 31M parameters", "Apache-2.0", 6, 30_788_354),
    *(_phonon(f"phonon-40m-{code}", f"{language}, voices from files, 40M parameters", "CC BY-NC 4.0", 9, 40_231_682)
      for code, language in PHONON_LANGUAGES.items()),
]
