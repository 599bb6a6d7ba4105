"""LlamaGen's VQGAN: images to codes of a grid."""

from __future__ import annotations

from photophone.loading.entry import AS_CODE, ModelEntry

LLAMAGEN_VQ = {"kind": "image_tokenizer", "target": "photophone.tokenizers.llamagen_vq.model:LlamaGenVQ",
               "paper": "2406.06525", "code_licence": "MIT",
               "tiny": {"image_size": 8, "channels": 32, "multipliers": [1, 2], "blocks": 1, "z_channels": 32,
                        "num_codes": 64}}
LLAMAGEN_VQ16 = {"image_size": 256, "channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "z_channels": 256,
                 "token_width": 8, "num_codes": 16384, "l2_norm": True}
ENTRIES = [
    ModelEntry("llamagen-vq16-c2i", summary="256x256 pixels to 256 codes of 16,384; trained on ImageNet",
               config=LLAMAGEN_VQ16, weights_licence=f"{AS_CODE}; trained on ImageNet",
               hub_id="FoundationVision/LlamaGen", files=("vq_ds16_c2i.pt",), **LLAMAGEN_VQ, parameters=71_883_403,
               figures={"rFID": 2.19}, figures_on="50,000 pictures of ImageNet's validation set at 256 pixels"),
    ModelEntry("llamagen-vq16-t2i", summary="256x256 pixels to 256 codes of 16,384; for text to image, also at 512",
               config=LLAMAGEN_VQ16, weights_licence=f"{AS_CODE}; trained on LAION-COCO and internal images",
               hub_id="peizesun/llamagen_t2i", files=("vq_ds16_t2i.pt",), **LLAMAGEN_VQ, parameters=71_883_403),
    ModelEntry("llamagen-vq8-c2i", summary="256x256 pixels to 1,024 codes of 16,384; trained on ImageNet",
               config={**LLAMAGEN_VQ16, "multipliers": [1, 2, 2, 4]}, weights_licence=f"{AS_CODE}; trained on ImageNet",
               hub_id="FoundationVision/LlamaGen", files=("vq_ds8_c2i.pt",), **LLAMAGEN_VQ, parameters=70_109_835,
               figures={"rFID": 0.59}, figures_on="50,000 pictures of ImageNet's validation set at 256 pixels"),
]
