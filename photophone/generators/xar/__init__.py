"""xAR: next-cell prediction of continuous tokens with flow matching."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

XAR = {"kind": "generator", "target": "photophone.generators.xar.model:XAR", "paper": "2502.20388",
       "code_licence": "none stated (the repository has no licence file); ours is written anew under Apache-2.0",
       "weights_licence": "none stated; trained on ImageNet", "hub_id": "OliverRen/xAR",
       "tiny": {"grid_size": 4, "token_dim": 4, "num_classes": 10, "width": 32, "encoder_depth": 1,
                "encoder_heads": 2, "decoder_depth": 1, "decoder_heads": 4},
       "tiny_sampler": {"guidance_scale": 2.0, "temperature": 0.9, "num_inference_steps": 3}}


def _xar(size: str, count: str, parameters: int, width: int, depth: int, heads: int) -> ModelEntry:
    """A published xAR, whose halves have the same sizes."""
    steps, scale = {"base": (40, 2.7), "large": (50, 2.3), "huge": (50, 2.2)}[size]
    return ModelEntry(f"xar-{size}", **XAR, files=(f"xAR-{size[0].upper()}.pth",), parameters=parameters,
                      chain=Chain({"xar": f"xar-{size}"}, ("vae", "mar-kl16"), {
                          "num_inference_steps": steps, "guidance_scale": scale}),
                      summary=f"ImageNet classes to the tokens of mar-kl16 in four cells, {count}",
                      config={"width": width, "encoder_depth": depth, "encoder_heads": heads, "decoder_depth": depth,
                              "decoder_heads": heads})


ENTRIES = [
    _xar("base", "173M parameters", 172_638_224, 768, 8, 12),
    _xar("large", "608M parameters", 608_397_968, 1024, 16, 16),
    _xar("huge", "1.19B parameters", 1_186_024_096, 1280, 20, 16),
]
