"""TASTE: speech in as many tokens as its text has words, and a language model over both."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

TINY_TOWER = {"vocab_size": 56, "prefix": [50, 51, 52, 53], "end": 54, "num_mels": 16, "max_frames": 24,
              "max_text": 32, "width": 32, "depth": 3, "decoder_depth": 2, "num_heads": 4, "hidden": 48,
              "value_layer": 1, "code_dim": 12, "codebook_size": 16}
ABOUT = {"paper": "2504.07053", "code_licence": "none stated", "weights_licence": "none stated",
         "hub_id": "MediaTek-Research/Llama-1B-TASTE-V0", "files": ("model.safetensors",)}
CHAIN = Chain({"model": "taste-llama-1b", "tower": "taste-tower", "unit_decoder": "taste-unit-decoder",
               "flow": "cosyvoice-300m-flow"}, ("hift", "cosyvoice-300m-hift"), pipeline="SpokenContinuationPipeline",
              text_tokenizer="openai/whisper-large-v3", within={"tower": "model", "unit_decoder": "model"})
TINY_DECODER = {"vocab_size": 56, "text_dim": 24, "unit_dim": 32, "num_tokens": 30, "speaker_dim": 12,
                "text_encoder": {"dim": 32, "num_heads": 4, "hidden": 32, "depth": 2},
                "unit_encoder": {"dim": 32, "num_heads": 2, "hidden": 48, "depth": 1}, "width": 40, "depth": 2,
                "num_heads": 4, "hidden": 48}
TINY_LM = {"vocab_size": 48, "width": 32, "depth": 2, "num_heads": 4, "num_kv_heads": 2, "hidden": 48, "start": 46,
           "end": 47, "unit_dim": 32, "code_dim": 12, "codebook_size": 16, "max_length": 256}
SCALING = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ENTRIES = [
    ModelEntry("taste-tower", "features", "photophone.generators.taste.tower:TasteTower",
               "speech and its words to a unit of four codes for each word", **ABOUT, tiny=TINY_TOWER,
               parameters=757_108_736),
    ModelEntry("taste-unit-decoder", "generator", "photophone.generators.taste.unit_decoder:TasteUnitDecoder",
               "words and their units to the speech tokens of CosyVoice 1", **ABOUT, tiny=TINY_DECODER,
               tiny_sampler={"least_ratio": 2.0, "most_ratio": 2.0, "temperature": 0.5}, parameters=151_044_099),
    ModelEntry("taste-llama-1b", "generator", "photophone.generators.taste.spoken_lm:TasteSpokenLM",
               "spoken English to text that goes on with it, and the codes of its words", **ABOUT,
               config={"rotary_scaling": SCALING}, tiny=TINY_LM, parameters=1_239_622_914,
               tiny_sampler={"max_ids": 4, "extra_words": 20}, training_name="taste-lm", chain=CHAIN),
]
