"""Chameleon's VQGAN: images to codes, and as Orthus uses it, to continuous tokens."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

CHAMELEON = {"kind": "image_tokenizer", "paper": "2405.09818",
             "code_licence": "Apache-2.0 (transformers)", "weights_licence": "Chameleon research licence",
             "tiny": {"image_size": 8, "channels": 32, "multipliers": [1, 1], "blocks": 1, "latent_channels": 16,
                      "token_width": 8}}

ENTRIES = [
    ModelEntry("chameleon-vq", target="photophone.tokenizers.chameleon.model:ChameleonVQ",
               hub_id="facebook/chameleon-7b", summary="512x512 pixels to 1,024 codes of 8,192", parameters=68_718_467,
               **{**CHAMELEON, "tiny": {**CHAMELEON["tiny"], "num_codes": 24}}),
    ModelEntry("orthus-vae", target="photophone.tokenizers.chameleon.model:OrthusVAE",
               hub_id="SJTU-Deng-Lab/Orthus-7B-instruct",
               summary="512x512 pixels to 1,024 continuous tokens of 256 channels: Chameleon's VQGAN without codes",
               parameters=66_621_315, **CHAMELEON),
]
