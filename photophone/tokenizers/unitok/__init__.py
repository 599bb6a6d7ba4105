"""UniTok: one tokenizer for drawing and for understanding."""

from __future__ import annotations

from photophone.loading.entry import AS_CODE, ModelEntry

CLASSES = {"unitok-clip": "photophone.tokenizers.unitok.model:UniTokCLIP"}
ENTRIES = [
    ModelEntry("unitok", "image_tokenizer", "photophone.tokenizers.unitok.model:UniTok",
               "256x256 pixels to 256 tokens of 8 codes of 4,096; UniTokCLIP adds the contrastive head", "2502.20321",
               "MIT", f"{AS_CODE}; trained on DataComp-1B", hub_id="FoundationVision/unitok_tokenizer",
               files=("unitok_tokenizer.pth",),
               tiny={"image_size": 32, "widths": [8, 16, 64], "stem_width": 8, "conv_depths": [1, 1], "depth": 1,
                     "num_heads": 2, "decoder_widths": [64, 16, 8], "decoder_depths": [1, 1], "token_width": 16,
                     "num_codebooks": 4, "num_codes": 512}, parameters=695_860_163,
               figures={"rFID": 0.41}, figures_on="50,000 pictures of ImageNet's validation set"),
]
