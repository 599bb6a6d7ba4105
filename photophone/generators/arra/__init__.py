"""ARRA: a Chameleon that learns to draw while its states are aligned with features of the whole image."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

CLASSES = {"arra-aligned": "photophone.generators.arra.model:AlignedARRA"}
ENTRIES = [
    ModelEntry("arra-adapt-mimic-7b", "generator", "photophone.generators.arra.model:ARRA",
               "prompts to the codes of chameleon-vq: chest X-rays", "2503.07334",
               "none stated (the repository has no licence file); ours is written anew under Apache-2.0",
               "none stated; Chameleon research licence inside; trained on MIMIC-CXR",
               hub_id="xing0916/ARRA-Adapt-MIMIC-7B", parameters=7_013_158_912,
               config={"image_head": [8820, 8820], "row_end": 8803},
               tiny={"num_tokens": 4, "num_codes": 12, "vocab_size": 24, "image_start": 20, "image_end": 21,
                     "image_head": [18, 18], "row_end": 19, "width": 32, "depth": 2, "num_heads": 2, "hidden": 48},
               tiny_sampler={"temperature": 0.1, "guidance_scale": 2.0},
               chain=Chain({"arra": "arra-adapt-mimic-7b"}, ("vq", "chameleon-vq"),
                           {"guidance_scale": 4.0, "top_k": 2000}, {}, "TextToImagePipeline",
                           text_tokenizer="xing0916/ARRA-Adapt-MIMIC-7B")),
]
