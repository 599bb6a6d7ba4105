"""WavTokenizer: 24 kHz audio to one code of 4,096, 40 or 75 times a second."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import ModelEntry

WAVTOKENIZER = {"kind": "codec", "target": "photophone.codecs.wavtokenizer.model:WavTokenizer", "paper": "2408.16532",
                "code_licence": "MIT", "weights_licence": "MIT",
                "tiny": {"encoder_channels": 4, "encoder_strides": [2, 3, 4], "dim": 16, "lstm_layers": 1,
                         "num_codes": 64, "width": 32, "hidden": 48, "depth": 2}}
PARAMETERS = {40: 72_109_010, 75: 71_747_442}
FIGURES = {40: {"UTMOS": 3.60, "PESQ": 1.70, "STOI": 0.862}, 75: {"UTMOS": 4.05, "PESQ": 2.37, "STOI": 0.914}}
STRIDES = {40: [4, 5, 5, 6], 75: [2, 4, 5, 8]}


def _wavtokenizer(name: str, rate: int, owner: str, trained_on: str, *files: str) -> ModelEntry:
    """A published WavTokenizer of ``rate`` codes a second; ``files`` where their names are known."""
    config: dict[str, Any] = {"encoder_strides": STRIDES[rate]}
    return ModelEntry(f"wavtokenizer-{name}-{rate}", config=config, hub_id=f"novateur/{owner}", files=files,
                      summary=f"24 kHz audio to {rate} codes of 4,096 a second; trained on {trained_on}; 74.2 M",
                      parameters=PARAMETERS[rate], figures=FIGURES[rate] if name == "small" else {},
                      figures_on="LibriTTS test-clean", **WAVTOKENIZER)


ENTRIES = [
    _wavtokenizer("small", 40, "WavTokenizer", "LibriTTS", "WavTokenizer_small_600_24k_4096.ckpt"),
    _wavtokenizer("small", 75, "WavTokenizer", "LibriTTS", "WavTokenizer_small_320_24k_4096.ckpt"),
    _wavtokenizer("medium-speech", 75, "WavTokenizer-medium-speech-75token", "speech"),
    _wavtokenizer("medium-music-audio", 75, "WavTokenizer-medium-music-audio-75token", "music and audio"),
    _wavtokenizer("large-unify", 40, "WavTokenizer-large-unify-40token", "80,000 h of speech, music and audio",
                  "wavtokenizer_large_unify_600_24k.ckpt"),
    _wavtokenizer("large-speech", 75, "WavTokenizer-large-speech-75token", "speech",
                  "wavtokenizer_large_speech_320_24k.ckpt", "wavtokenizer_large_speech_320_24k_v2.ckpt"),
]
