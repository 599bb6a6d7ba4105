"""VoxInstruct: speech from a free instruction, units and codes of the first book, then the other books."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

TINY = {"num_semantic": 10, "num_codes": 12, "num_books": 4, "width": 32, "depth": 2, "num_heads": 4, "hidden": 48,
        "max_text": 9, "mt5": {"vocab_size": 30, "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 3}}
ABOUT = {"paper": "2408.15676", "code_licence": "MIT by the README", "weights_licence": "none stated", "tiny": TINY}
CHAIN = Chain({"ar": "voxinstruct-ar", "nar": "voxinstruct-nar"}, ("vocos", "vocos-encodec-24khz-6kbps"),
              {"semantic_guidance": 1.5, "text_guidance": 3.0, "unit_guidance": 1.5, "temperature": 0.8,
               "max_ids": 2048}, pipeline="TextToSpeechPipeline", text_tokenizer="google/mt5-base")
ENTRIES = [
    ModelEntry("voxinstruct-ar", "generator", "photophone.generators.voxinstruct.model:VoxInstructAR",
               "instructions to semantic units and the first EnCodec book, 24 kHz; English and Chinese", **ABOUT,
               tiny_sampler={"max_ids": 20}, parameters=482_316_416, training_name="voxinstruct-ar", chain=CHAIN),
    ModelEntry("voxinstruct-nar", "generator", "photophone.generators.voxinstruct.books:VoxInstructNAR",
               "instructions and the first EnCodec book to all eight", **ABOUT,
               tiny_sampler={"num_order_steps": 2}, parameters=499_085_440, training_name="voxinstruct-nar"),
]
