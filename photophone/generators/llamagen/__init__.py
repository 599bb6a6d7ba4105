"""LlamaGen's GPT: classes or captions to codes of a grid, one by one."""

from __future__ import annotations

from photophone.loading.entry import AS_CODE, Chain, ModelEntry

LLAMAGEN = {"kind": "generator", "target": "photophone.generators.llamagen.model:LlamaGenGPT", "paper": "2406.06525",
            "code_licence": "MIT",
            "tiny_sampler": {"guidance_scale": 2.0, "temperature": 0.1, "top_k": 40, "top_p": 0.95}}
LLAMAGEN_TINY = {"grid_size": 4, "num_codes": 64, "width": 32, "depth": 2, "num_heads": 2, "hidden_multiple": 32}
PARAMETERS = {"b": 110_888_448, "l": 342_910_976, "xl": 774_699_520, "xxl": 1_410_972_672,
              "3b": 3_096_659_200, "xl-t2i": 777_678_080}
LLAMAGEN_SIZES = {"b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1280, 36, 20), "xxl": (1536, 48, 24),
                  "3b": (3200, 24, 32)}


def _llamagen(size: str, pixels: int, caption: str | None = None) -> ModelEntry:
    """A published LlamaGen GPT; ``caption`` is the stage of a text-conditional one."""
    width, depth, heads = LLAMAGEN_SIZES[size]
    config = {"grid_size": pixels // 16, "width": width, "depth": depth, "num_heads": heads}
    if caption is None:
        scale = {"b": 2.0, "l": 2.0, "xl": 1.75, "xxl": 1.75, "3b": 1.65}[size]
        return ModelEntry(f"llamagen-{size}-{pixels}", **LLAMAGEN, config=config, hub_id="FoundationVision/LlamaGen",
                          chain=Chain({"gpt": f"llamagen-{size}-{pixels}"}, ("vq", "llamagen-vq16-c2i"),
                                      {"guidance_scale": scale, "top_k": 0}, {"image_size": pixels}),
                          summary=f"ImageNet classes to the codes of llamagen-vq16-c2i at {pixels} pixels",
                          weights_licence=f"{AS_CODE}; trained on ImageNet", files=(f"c2i_{size.upper()}_{pixels}.pt",),
                          tiny={**LLAMAGEN_TINY, "num_classes": 10}, parameters=PARAMETERS[size])
    return ModelEntry(f"llamagen-{size}-t2i-{pixels}", **LLAMAGEN, config={**config, "caption_dim": 2048},
                      chain=Chain({"gpt": f"llamagen-{size}-t2i-{pixels}"}, ("vq", "llamagen-vq16-t2i"),
                                  {"guidance_scale": 7.5, "top_k": 1000}, {"image_size": pixels},
                                  "TextToImagePipeline", "google/flan-t5-xl"),
                      summary=f"flan-t5-xl captions to the codes of llamagen-vq16-t2i at {pixels} pixels",
                      weights_licence=f"{AS_CODE}; trained on LAION-COCO and internal images",
                      hub_id="peizesun/llamagen_t2i", files=(f"t2i_{size.upper()}_{caption}_{pixels}.pt",),
                      tiny={**LLAMAGEN_TINY, "caption_dim": 12, "caption_length": 6},
                      parameters=PARAMETERS[f"{size}-t2i"])


ENTRIES = [
    _llamagen("b", 256), _llamagen("b", 384), _llamagen("l", 256), _llamagen("l", 384), _llamagen("xl", 384),
    _llamagen("xxl", 384), _llamagen("3b", 384), _llamagen("xl", 256, "stage1"), _llamagen("xl", 512, "stage2"),
]
