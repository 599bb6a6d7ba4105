"""MaskGen: captions to the 32 or 128 tokens of TA-TiTok, discrete or Gaussian, by masked decoding."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import Chain, ModelEntry

MASKGEN = {"kind": "generator", "paper": "2501.07730", "code_licence": "Apache-2.0",
           "weights_licence": "Apache-2.0; trained on open image-text data", "files": ("model.safetensors",)}
TINY = {"num_tokens": 8, "width": 32, "depth": 2, "num_heads": 2, "text_dim": 12, "text_length": 5, "aesthetic_dim": 8}
SIZES = {"l": (1024, 16), "xl": (1280, 20)}
"""Width and blocks; all have 16 heads."""
CLIP = "openai/clip-vit-large-patch14-336"


def _vq(size: str, parameters: int) -> ModelEntry:
    """A published MaskGen of codes."""
    width, depth = SIZES[size]
    return _entry(size, "vq", 128, parameters, "MaskGenVQ", "model", {"width": width, "depth": depth},
                  {"num_codes": 2048, "num_classes": 3}, {"num_order_steps": 3, "guidance_scale": 2.0,
                                                          "temperature": 0.01},
                  num_order_steps=16, guidance_scale=13.0, temperature=2.0, aesthetic_score=6.5)


def _kl(size: str, parameters: int) -> ModelEntry:
    """A published MaskGen of Gaussian tokens."""
    width, depth = SIZES[size]
    return _entry(size, "kl", 32, parameters, "MaskGenKL", "continuous",
                  {"width": width, "depth": depth, "head_width": width},
                  {"token_dim": 6, "head_width": 32, "head_depth": 1, "respacing": "8,0"},
                  {"num_order_steps": 3, "guidance_scale": 2.0},
                  num_order_steps=32, guidance_scale=3.0, aesthetic_score=6.5)


def _entry(size: str, kind: str, tokens: int, parameters: int, name: str, module: str, config: dict[str, Any],
           tiny: dict[str, Any], tiny_sampler: dict[str, Any], **sampler: Any) -> ModelEntry:
    """What both kinds say alike."""
    tokenizer = f"tatitok-bl{tokens}-{'vq' if kind == 'vq' else 'vae'}"
    return ModelEntry(f"maskgen-{kind}-{size}", **MASKGEN, target=f"photophone.generators.maskgen.{module}:{name}",
                      hub_id=f"turkeyju/generator_maskgen_{kind}_{size}", parameters=parameters, config=config,
                      summary=f"captions to the {tokens} tokens of {tokenizer}", training_name=f"maskgen-{kind}",
                      tiny={**TINY, **tiny}, tiny_sampler=tiny_sampler,
                      chain=Chain({"generator": f"maskgen-{kind}-{size}"}, ("tokenizer", tokenizer), sampler, {},
                                  "TextToImagePipeline", CLIP))


ENTRIES = [_vq("l", 604_311_552), _vq("xl", 1_176_611_840), _kl("l", 641_364_000), _kl("xl", 1_237_345_312)]
