"""TiTok's generators: ImageNet classes to its tokens by masked decoding."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import Chain, ModelEntry

TITOK_GENERATOR = {"kind": "generator", "paper": "2406.07550", "code_licence": "Apache-2.0",
                   "weights_licence": "Apache-2.0; trained on ImageNet, for research", "files": ("model.safetensors",),
                   "tiny": {"num_tokens": 8, "num_codes": 2048, "num_classes": 10, "width": 32, "depth": 2,
                            "num_heads": 2, "hidden": 64},
                   "tiny_sampler": {"num_order_steps": 3, "guidance_scale": 2.0, "temperature": 0.01}}
IMAGE_BERT = {**TITOK_GENERATOR, "target": "photophone.generators.titok.model:ImageBert", "training_name": "titok-bert"}
UVIT_BERT = {**TITOK_GENERATOR, "target": "photophone.generators.titok.model:UViTBert", "training_name": "titok-uvit"}


def _titok_generator(size: str, parameters: int, options: dict[str, Any], **sampler: Any) -> ModelEntry:
    """The published generator of a legacy TiTok."""
    tokens = int(size[1:])
    return ModelEntry(f"titok-{size}-generator", summary=f"ImageNet classes to the {tokens} tokens of titok-{size}",
                      config={"num_tokens": tokens}, parameters=parameters,
                      hub_id=f"yucornetto/generator_titok_{size}_imagenet",
                      chain=Chain({"generator": f"titok-{size}-generator"}, ("tokenizer", f"titok-{size}"), sampler),
                      **options)


ENTRIES = [
    _titok_generator("l32", 177_201_664, IMAGE_BERT, num_order_steps=8, temperature=9.5, guidance_scale=5.5),
    _titok_generator("b64", 177_226_240, IMAGE_BERT, num_order_steps=8, temperature=11.0, guidance_scale=4.0),
    _titok_generator("s128", 294_990_848, UVIT_BERT, num_order_steps=64, temperature=2.8, guidance_scale=6.9,
                     guidance_schedule="power-cosine", guidance_power=3.0),
]
