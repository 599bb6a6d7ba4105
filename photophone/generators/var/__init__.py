"""VAR: next-scale prediction of codes."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import AS_CODE, Chain, ModelEntry

VAR = {"kind": "generator", "target": "photophone.generators.var.model:VAR", "paper": "2404.02905",
       "code_licence": "MIT",
       "weights_licence": f"{AS_CODE}; trained on ImageNet", "hub_id": "FoundationVision/var",
       "tiny": {"scales": [1, 2, 4], "token_width": 8, "num_codes": 64, "num_classes": 10, "width": 32, "depth": 2,
                "num_heads": 2},
       "tiny_sampler": {"guidance_scale": 2.0, "temperature": 0.1, "top_k": 40, "top_p": 0.95}}


def _var(depth: int, count: str, parameters: int, pixels: int = 256, **config: Any) -> ModelEntry:
    """A published VAR, whose width and heads follow from its depth."""
    return ModelEntry(f"var-d{depth}", **VAR, files=(f"var_d{depth}.pth",), parameters=parameters,
                      chain=Chain({"var": f"var-d{depth}"}, ("vae", f"var-vq16-{pixels}"), {
                          "guidance_scale": 2.5, "top_k": 900, "top_p": 0.96}),
                      summary=f"ImageNet classes to the codes of var-vq16-{pixels}, {count}",
                      config={"width": 64 * depth, "depth": depth, "num_heads": depth, **config})


ENTRIES = [
    _var(16, "310M parameters", 310_283_520),
    _var(20, "600M parameters", 600_917_136),
    _var(24, "1.0B parameters", 1_033_399_360),
    _var(30, "2.0B parameters", 2_010_020_356),
    _var(36, "2.3B parameters", 2_353_893_904, 512, shared_adaln=True, scales=[1, 2, 3, 4, 6, 9, 13, 18, 24, 32]),
]
