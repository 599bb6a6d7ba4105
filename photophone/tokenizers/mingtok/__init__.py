"""MingTok-Vision: images to continuous tokens for drawing and for understanding."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ENTRIES = [
    ModelEntry("mingtok-vision", "image_tokenizer", "photophone.tokenizers.mingtok.model:MingTok",
               "512x512 pixels to 257 continuous tokens of 32 channels, and those to features of 1,024", "2510.06590",
               "MIT", "MIT", hub_id="inclusionAI/MingTok-Vision", files=("model.safetensors",), parameters=697_719_584,
               figures={"rFID": 0.54, "PSNR": 30.77, "SSIM": 0.62, "LPIPS": 0.14},
               figures_on="the test set of the paper, at 512 pixels",
               tiny={"image_size": 16, "patch": 8, "token_dim": 8, "encoder_width": 64, "encoder_depth": 1,
                     "semantic_width": 64, "semantic_depth": 1, "pixel_width": 64, "pixel_depth": 1, "pixel_patch": 4,
                     "token_mean": 0.0, "token_scale": 1.0}),
]
