"""MAR: masked autoregression over continuous tokens with a diffusion head."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import AS_CODE, Chain, ModelEntry

MAR = {"kind": "generator", "target": "photophone.generators.mar.model:MAR", "paper": "2406.11838",
       "code_licence": "MIT",
       "weights_licence": f"{AS_CODE}; trained on ImageNet",
       "tiny": {"num_tokens": 16, "token_dim": 4, "num_classes": 10, "encoder_width": 32, "encoder_depth": 1,
                "encoder_heads": 2, "decoder_width": 48, "decoder_depth": 1, "decoder_heads": 3, "buffer_size": 4,
                "head_width": 32, "head_depth": 1},
       "tiny_sampler": {"guidance_scale": 2.0, "temperature": 0.9, "num_order_steps": 3, "num_inference_steps": 8,
                        "head_sampler": "ddim"}}


MAR_SIZES = {"base": (768, 12, 12, 1024, 6), "large": (1024, 16, 16, 1280, 8), "huge": (1280, 20, 16, 1536, 12)}


def mar_config(size: str) -> dict[str, Any]:
    """Arguments of a published size."""
    width, depth, heads, head_width, head_depth = MAR_SIZES[size]
    return {"encoder_width": width, "encoder_depth": depth, "encoder_heads": heads, "decoder_width": width,
            "decoder_depth": depth, "decoder_heads": heads, "head_width": head_width, "head_depth": head_depth}


def _mar(size: str, count: str, parameters: int) -> ModelEntry:
    """A published MAR; its file is linked at github.com/LTH14/mar, and holds the averaged weights and others."""
    name, scale = f"mar-{size}", {"base": 2.9, "large": 3.0, "huge": 3.2}[size]
    return ModelEntry(name, **MAR, config=mar_config(size), parameters=parameters,
                      chain=Chain({"mar": name}, ("vae", "mar-kl16"), {
                          "num_order_steps": 256, "num_inference_steps": 100, "guidance_scale": scale}),
                      summary=f"ImageNet classes to the tokens of mar-kl16, {count}; checkpoint-last.pth of mar_{size} "
                      "is linked at github.com/LTH14/mar")


ENTRIES = [
    _mar("base", "208M parameters", 207_924_768),
    _mar("large", "478M parameters", 478_326_304),
    _mar("huge", "942M parameters", 942_403_104),
]
