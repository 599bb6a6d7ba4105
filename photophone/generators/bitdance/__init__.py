"""BitDance: classes or captions to tokens of signs, by a binary diffusion head."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

BITDANCE = {"kind": "generator", "target": "photophone.generators.bitdance.model:BitDance", "paper": "2602.14041",
            "code_licence": "Apache-2.0", "weights_licence": "Apache-2.0; trained on ImageNet",
            "hub_id": "shallowdream204/BitDance-ImageNet",
            "tiny_sampler": {"guidance_scale": 2.0, "num_inference_steps": 3}}
TINY = {"grid_size": 4, "token_dim": 8, "num_codebooks": 2, "num_classes": 10, "class_tokens": 2, "width": 32,
        "depth": 2, "num_heads": 2, "head_width": 128, "head_depth": 2, "head_modulations": 1, "bit_flip": 0.1}


def _bitdance(size: str, side: int, guidance: float, parameters: int, width: int, depth: int, heads: int,
              head_depth: int, modulations: int, flip: float) -> ModelEntry:
    """A published class-conditional BitDance."""
    name = f"bitdance-{size}-{side**2}x"
    config = {"step_side": side, "width": width, "depth": depth, "num_heads": heads, "head_width": width,
              "head_depth": head_depth, "head_modulations": modulations, "bit_flip": flip}
    return ModelEntry(name, **BITDANCE, config=config, parameters=parameters, tiny=TINY,
                      files=(f"BitDance_{size.upper()}_{side**2}x.pt",),
                      summary=f"ImageNet classes to the signs of bitdance-d16c32, {side**2} tokens a step",
                      chain=Chain({"bitdance": name}, ("vae", "bitdance-d16c32"), {"guidance_scale": guidance},
                                  within={"vae": "bitdance"}))


def _text(side: int, parameters: int, pixels: int) -> ModelEntry:
    """A published BitDance for captions; ids and rows of its vocabulary stand beside its weights."""
    name, hub = f"bitdance-14b-{side**2}x", f"shallowdream204/BitDance-14B-{side**2}x"
    tokens = pixels // 16
    return ModelEntry(name, "generator", "photophone.generators.bitdance.text:BitDanceText",
                      f"captions to bitdance-d16c32's signs at {pixels} pixels, {side**2} tokens a step; Qwen3-14B",
                      "2602.14041", "Apache-2.0", "Apache-2.0", hub_id=hub, training_name="bitdance-text",
                      files=("model.safetensors.index.json", "vision_head.safetensors", "projector.safetensors"),
                      config={"step_side": side, "grid": [tokens, tokens]}, parameters=parameters,
                      tiny={"grid": [4, 4], "token_dim": 8, "num_codebooks": 2, "step_side": 2, "vocab_size": 24,
                            "image_start": 10, "first_size": 11, "first_query": 19, "width": 32, "depth": 1,
                            "num_heads": 2, "num_kv_heads": 1, "head_dim": 16, "hidden": 48, "head_width": 128,
                            "head_depth": 1, "head_modulations": 1},
                      tiny_sampler={"guidance_scale": 2.0, "num_inference_steps": 3},
                      chain=Chain({"bitdance": name}, ("vae", "bitdance-d16c32"),
                                  {"guidance_scale": 7.5, "num_inference_steps": 50}, {"image_size": pixels},
                                  "TextToImagePipeline", text_tokenizer=hub))


ENTRIES = [
    _bitdance("b", 1, 3.2, 242_373_152, 768, 24, 12, 6, 2, 0.1),
    _bitdance("b", 2, 3.9, 260_102_432, 768, 24, 12, 6, 2, 0.1),
    _bitdance("b", 4, 6.1, 260_111_648, 768, 24, 12, 6, 2, 0.1),
    _bitdance("l", 1, 4.0, 527_271_968, 1024, 32, 16, 8, 2, 0.05),
    _bitdance("h", 1, 4.55, 1_007_960_352, 1280, 40, 20, 12, 3, 0.05),
    _text(8, 15_775_902_752, 1024), _text(4, 15_775_902_752, 512),
]
