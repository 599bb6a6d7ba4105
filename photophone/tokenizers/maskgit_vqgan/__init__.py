"""MaskGIT-VQGAN: TiTok's teacher and pixel decoder."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ENTRIES = [
    ModelEntry("maskgit-vqgan-f16", "image_tokenizer", "photophone.tokenizers.maskgit_vqgan.model:MaskGITVQGAN",
               "256x256 pixels to 256 codes of 1,024; TiTok's teacher and RAR's tokenizer", "2202.04200", "Apache-2.0",
               "Apache-2.0; trained on ImageNet, for research",
               config={"image_size": 256, "channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2,
                       "token_width": 256, "num_codes": 1024, "residual_drops_input": True},
               hub_id="fun-research/TiTok", files=("maskgit-vqgan-imagenet-f16-256.bin",),
               tiny={"image_size": 32, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "token_width": 16,
                     "num_codes": 64}, parameters=54_515_587),
]
