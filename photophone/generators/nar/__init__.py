"""NAR: neighbouring autoregressive modelling, all codes of an anti-diagonal of the picture at once.

Paper: Neighboring Autoregressive Modeling for Efficient Visual Generation, arXiv 2503.10696. Official code:
ThisisBillhe/NAR (folder NAR-images; its sibling for videos is another model), MIT. Weights: under the licence of the
code, none stated apart; the class-conditional ones were trained on ImageNet, the text-conditional ones on a part of
LAION-COCO, then on text-to-image-2M. The tokens are those of LlamaGen's tokenizers, in the same files.
"""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import AS_CODE, Chain, ModelEntry

NAR = {"kind": "generator", "target": "photophone.generators.nar.model:NAR", "paper": "2503.10696",
       "code_licence": "MIT",
       "tiny_sampler": {"guidance_scale": 2.0, "temperature": 0.1, "top_k": 40, "top_p": 0.95}}
TINY = {"grid_size": 4, "num_codes": 64, "width": 32, "depth": 2, "num_heads": 2, "hidden_multiple": 32}
SIZES = {"b": (768, 12, 12), "m": (1024, 18, 16), "l": (1024, 24, 16), "xl": (1280, 36, 20)}
"""Width, blocks in front of both heads, and attention heads."""


def _sizes(size: str) -> dict[str, Any]:
    width, depth, heads = SIZES[size]
    return {"width": width, "depth": depth, "num_heads": heads}


def _classes(size: str, parameters: int, hub_id: str | None, files: tuple[str, ...] = ()) -> ModelEntry:
    """A published class-conditional NAR, with the guidance of the official evaluation."""
    name = f"nar-{size}-256"
    return ModelEntry(name, **NAR, config={"grid_size": 16, **_sizes(size)}, hub_id=hub_id, files=files,
                      summary="ImageNet classes to the codes of llamagen-vq16-c2i at 256 pixels, in 31 steps; files "
                      "are linked at hf.co/collections/chenfeng1271/nar-67d13fa93fe913b2e187ee1f",
                      weights_licence=f"{AS_CODE}; trained on ImageNet", parameters=parameters,
                      tiny={**TINY, "num_classes": 10},
                      chain=Chain({"nar": name}, ("vq", "llamagen-vq16-c2i"), {"guidance_scale": 2.0, "top_k": 0},
                                  {"image_size": 256}))


def _captions(pixels: int, stage: int, parameters: int, data: str) -> ModelEntry:
    """A published text-conditional NAR of size XL."""
    name, grid_size = f"nar-xl-t2i-{pixels}", pixels // 16
    return ModelEntry(name, **NAR, config={"grid_size": grid_size, "caption_dim": 2048, **_sizes("xl")},
                      hub_id=f"yefly/NAR-XL-t2i-stage{stage}", parameters=parameters,
                      summary=f"flan-t5-xl captions to the codes of llamagen-vq16-t2i at {pixels} pixels, in "
                      f"{2 * grid_size - 1} steps",
                      weights_licence=f"{AS_CODE}; trained on {data}",
                      tiny={**TINY, "caption_dim": 12, "caption_length": 6},
                      chain=Chain({"nar": name}, ("vq", "llamagen-vq16-t2i"), {"guidance_scale": 7.5, "top_k": 0},
                                  {"image_size": pixels}, "TextToImagePipeline", "google/flan-t5-xl"))


ENTRIES = [
    _classes("b", 130_551_552, "chenfeng1271/NAR-imagenet-256-B", ("last_version.pt",)),
    _classes("m", 295_453_696, "yefly/NAR-imagenet-256-M"),
    _classes("l", 372_536_320, None),
    _classes("xl", 815_991_040, "yefly/NAR-imagenet-256-XL"),
    _captions(256, 1, 818_969_600, "a part of LAION-COCO"),
    _captions(512, 2, 818_969_600, "a part of LAION-COCO and text-to-image-2M"),
]
