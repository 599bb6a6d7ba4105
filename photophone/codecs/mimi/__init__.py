"""Mimi through transformers, which streams exactly both ways."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

MIMI = {"kind": "codec", "target": "photophone.codecs.mimi.model:Mimi", "paper": "2410.00037", "hub_id": "kyutai/mimi",
        "code_licence": "Apache-2.0 (transformers)", "weights_licence": "CC BY 4.0, see the hub page",
        "files": ("model.safetensors",),
        "tiny": {"num_codebooks": 3, "settings": {
            "num_filters": 4, "hidden_size": 16, "upsampling_ratios": [3, 2], "num_hidden_layers": 2,
            "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "upsample_groups": 16,
            "num_quantizers": 3, "codebook_size": 32, "codebook_dim": 8, "sliding_window": 5,
            "vector_quantization_hidden_dimension": 8}}}
ENTRIES = [
    ModelEntry("mimi-8", summary="24 kHz speech to 12.5 frames of 8 codes of 2,048 a second, streaming", **MIMI,
               parameters=79_308_609),
    ModelEntry("mimi-16", summary="24 kHz speech to 12.5 frames of 16 codes of 2,048 a second, streaming",
               config={"num_codebooks": 16}, **MIMI, parameters=79_308_609),
    ModelEntry("mimi-32", summary="24 kHz speech to 12.5 frames of 32 codes of 2,048 a second, streaming",
               config={"num_codebooks": 32}, **MIMI, parameters=79_308_609),
]
