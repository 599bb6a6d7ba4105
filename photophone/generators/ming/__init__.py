"""Ming-UniVision: a mixture of experts that reads and writes text and the continuous tokens of MingTok."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

HUB = "inclusionAI/Ming-UniVision-16B-A3B"
ENTRIES = [
    ModelEntry("ming-univision-16b-a3b", "generator", "photophone.generators.ming.model:MingUniVision",
               "text and images to text and the tokens of mingtok-vision; the id behind an image is inferred",
               "2510.06590", "MIT", "MIT", hub_id=HUB, parameters=18_103_116_832,
               tiny={"num_tokens": 5, "token_dim": 8, "feature_dim": 64, "vocab_size": 24, "image_id": 20,
                     "image_start": 21, "image_end": 22, "text_end": 23, "width": 32, "depth": 1, "num_heads": 2,
                     "num_kv_heads": 1, "head_dim": 16, "hidden": 24, "num_experts": 2, "top_experts": 2,
                     "head_width": 32, "head_depth": 1},
               tiny_sampler={"guidance_scale": 2.0, "num_inference_steps": 3},
               chain=Chain({"ming": "ming-univision-16b-a3b"}, ("mingtok", "mingtok-vision"), {
                   "guidance_scale": 3.0, "image_guidance": 1.1, "num_inference_steps": 16, "text_temperature": 0.0},
                   {}, "InterleavedPipeline", text_tokenizer=HUB)),
]
