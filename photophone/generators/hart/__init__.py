"""HART: prompts to pictures of up to 1024 pixels, next-scale codes plus diffusion of what they leave over."""

from __future__ import annotations

from photophone.loading.entry import AS_CODE, Chain, ModelEntry

SCALES_1024 = [1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64]
ENTRIES = [
    ModelEntry("hart-0.7b-1024", "generator", "photophone.generators.hart.model:HART",
               "prompts, as states of Qwen2-VL-1.5B, to the tokens of hart-vq16-1024; sizes without the folder's "
               "config.json are inferred", "2410.10812", "MIT",
               f"{AS_CODE}; trained on JourneyDB and synthetic data",
               config={"scales": SCALES_1024, "context_length": 300, "context_dim": 1536, "width": 1536, "depth": 24,
                       "num_heads": 24, "modulation": "table", "context_norm": True},
               hub_id="mit-han-lab/hart-0.7b-1024px", files=("llm/ema_model.bin",),
               tiny={"scales": [1, 2, 4], "token_width": 8, "num_codes": 64, "context_length": 5, "context_dim": 12,
                     "width": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0, "head_width": 32, "head_depth": 1},
               tiny_sampler={"guidance_scale": 2.0, "temperature": 0.1, "top_k": 40, "top_p": 0.95},
               chain=Chain({"generator": "hart-0.7b-1024"}, ("tokenizer", "hart-vq16-1024"), {
                   "guidance_scale": 5.5, "smooth": True}, {}, "TextToImagePipeline",
                   "mit-han-lab/Qwen2-VL-1.5B-Instruct"), parameters=732_620_352),
]
