"""SEED: images to 32 codes in a causal order, and codes to an image embedding of unCLIP."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ENTRIES = [
    ModelEntry("seed-tokenizer-2", "features", "photophone.tokenizers.seed.model:SEEDTokenizer",
               "224x224 pixels to 32 codes of 8,192, and codes to what Stable unCLIP 2.1 draws an image of",
               "2310.01218", "Apache-2.0",
               "Apache-2.0 as the hub page states; BLIP-2 and EVA-CLIP inside (BSD-3-Clause, MIT)",
               hub_id="AILab-CVC/seed-tokenizer-2", files=("seed_quantizer.pt",), parameters=1_150_053_440,
               tiny={"image_size": 28, "vision_width": 32, "vision_depth": 1, "vision_heads": 2, "vision_hidden": 48,
                     "width": 48, "depth": 2, "num_heads": 4, "hidden": 64, "token_width": 8, "num_codes": 40,
                     "decode_depth": 1, "embedding_dim": 24}),
]
