"""X-Codec 2: one FSQ code of 65,536 at 50 Hz."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

XCODEC2 = {"kind": "codec", "target": "photophone.codecs.xcodec2.model:XCodec2", "paper": "2502.04128",
           "code_licence": "MIT", "figures_on": "LibriSpeech test-clean",
           "figures": {"UTMOS": 4.13, "WER": 2.47, "STOI": 0.92, "PESQ (narrow band)": 3.05, "PESQ": 2.44},
           "weights_licence": "CC-BY-NC-4.0 as its hub page said; look there",
           "tiny": {"width": 32, "hidden": 32, "depth": 1, "num_heads": 2, "head_width": 16, "encoder_width": 2,
                    "levels": [4, 4, 4],
                    "semantic": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                                 "intermediate_size": 16}}}
ENTRIES = [
    ModelEntry("xcodec2", summary="one FSQ code of 65,536 at 50 Hz, whole clips, 16 kHz; the codes of Llasa",
               hub_id="HKUSTAudio/xcodec2", files=("ckpt/epoch=4-step=1400000.ckpt", "model.safetensors"), **XCODEC2,
               parameters=629_281_706),
    ModelEntry("xcodec2-hf", summary="the same weights in the names of transformers", hub_id="HKUSTAudio/xcodec2-hf",
               files=("model.safetensors",), **XCODEC2, parameters=629_281_706),
]
