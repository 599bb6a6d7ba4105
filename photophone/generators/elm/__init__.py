"""ELM: ImageNet classes to the bits of its binary autoencoder, one cell after another or masked."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import Chain, ModelEntry

ELM = {"kind": "generator", "paper": "2410.16257", "code_licence": "none stated: own implementation",
       "weights_licence": "none stated; trained on ImageNet", "hub_id": "xuantonglll/ELM"}
TINY = {"grid_size": 4, "num_classes": 10, "width": 32, "depth": 2, "num_heads": 2, "hidden_multiple": 32}
SIZES = {"l": (1024, 24, 16), "xl": (1280, 36, 20), "xxl": (1536, 48, 24), "2b": (1792, 48, 28)}
"""Width, blocks and heads."""


def _sizes(size: str) -> dict[str, Any]:
    width, depth, heads = SIZES[size]
    return {"width": width, "depth": depth, "num_heads": heads}


def _ar(size: str, codes: str, parameters: int) -> ModelEntry:
    """A published autoregressive ELM; ``codes`` such as "2-10" are codes of a cell, and bits of a code."""
    books, bits = map(int, codes.split("-"))
    name = f"elm-{size}-{codes}"
    return ModelEntry(name, **ELM, target="photophone.generators.elm.model:ELMAR", training_name="elm-ar",
                      config={**_sizes(size), "num_codebooks": books, "code_bits": bits}, parameters=parameters,
                      files=(f"gpt/{size.upper()}-{codes}.pth",),
                      summary=f"ImageNet classes to the 256 cells of elm-bae-{books * bits}, {books} codes of {bits} "
                      "bits each, one cell after another",
                      tiny={**TINY, "code_bits": 6 // books}, tiny_sampler={"guidance_scale": 2.0, "temperature": 0.1,
                                                                             "top_k": 40},
                      chain=Chain({"gpt": name}, ("bae", f"elm-bae-{books * bits}"),
                                  {"guidance_scale": 4.0, "top_k": 1000}, {"num_codebooks": books}))


def _mlm(size: str, parameters: int) -> ModelEntry:
    """A published masked ELM."""
    name = f"elm-mlm-{size}-1-16"
    return ModelEntry(name, **ELM, target="photophone.generators.elm.mlm:ELMMLM", training_name="elm-mlm",
                      config={**_sizes(size), "num_codebooks": 1, "code_bits": 16}, parameters=parameters,
                      files=(f"gpt/mlm{size.upper()}-1-16.pth",),
                      summary="ImageNet classes to the 256 cells of elm-bae-16, masked",
                      tiny={**TINY, "code_bits": 6},
                      tiny_sampler={"guidance_scale": 25.0, "num_order_steps": 3, "temperature": 0.1},
                      chain=Chain({"gpt": name}, ("bae", "elm-bae-16"), {"num_order_steps": 10}))


ENTRIES = [
    _ar("l", "1-16", 443_574_272),
    _ar("l", "2-8", 312_502_272),
    _ar("l", "2-10", 315_648_000),
    _ar("l", "2-12", 328_230_912),
    _ar("xl", "1-16", 900_528_640),
    _ar("xl", "2-8", 737_344_000),
    _ar("xl", "2-10", 741_276_160),
    _ar("xl", "2-12", 757_004_800),
    _ar("xxl", "1-16", 1_561_967_616),
    _ar("xxl", "2-10", 1_371_651_072),
    _ar("xxl", "2-12", 1_390_525_440),
    _ar("2b", "2-12", 1_909_458_432),
    _mlm("l", 377_583_617),
    _mlm("xl", 818_351_617),
    _mlm("xxl", 1_463_735_297),
]
