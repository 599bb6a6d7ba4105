"""KALL-E: text to speech by the next distribution."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

SCALING = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ENTRIES = [
    ModelEntry("kalle", "generator", "photophone.generators.kalle.model:KallE",
               "Chinese and English text to the tokens of kalle-flowvae, 1.2B parameters", "2412.16846", "none stated",
               "none stated", config={"rotary_scaling": SCALING}, hub_id="kxxia/KALL-E", files=("model.pt",),
               chain=Chain({"model": "kalle"}, ("flowvae", "kalle-flowvae"),
                           {"temperature": 1.0, "end_threshold": 0.5, "max_frames": 999},
                           pipeline="TextToSpeechPipeline", text_tokenizer="kxxia/KALL-E"),
               parameters=1_238_979_584, tiny={"vocab_size": 40, "width": 32, "depth": 2, "num_heads": 4, "hidden": 48,
                                   "num_kv_heads": 2, "token_dim": 6, "max_length": 64},
               tiny_sampler={"max_frames": 4, "end_threshold": -1}),
]
