"""ALIT: images to 32, 64, ... 256 tokens, as many as a picture needs."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import ModelEntry

SIZES = {"s": [1024, 8, 8], "b": [768, 12, 12], "sl": [1024, 16, 16]}
"""Width, blocks and heads of the small, base and "semi-large" encoder and decoder."""
ALIT = {"kind": "image_tokenizer", "target": "photophone.tokenizers.alit.model:ALIT", "paper": "2411.02393",
        "code_licence": "none stated: own implementation", "weights_licence": "none stated; trained on ImageNet"}
TINY = {"image_size": 16, "patch": 4, "encoder_size": [32, 1, 2], "decoder_size": [32, 1, 2], "pass_tokens": 4,
        "iterations": 3, "token_width": 6, "halting_threshold": 0.01, "decoder_tokens": 16}
KL16 = {"channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "latent_width": 16,
        "encoder_attention_levels": [4], "scaling": 0.2325}
TINY_BASES = {
    "vqgan": {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "token_width": 8, "num_codes": 64},
    "kl": {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "latent_width": 4, "encoder_attention_levels": [2],
           "scaling": 0.2325},
}


def _alit(size: str, base: str, data: str, parameters: int, quantized: bool = True) -> ModelEntry:
    """A published ALIT; its file is linked at github.com/ShivamDuggal4/adaptive-length-tokenizer."""
    config: dict[str, Any] = {"base": base, "encoder_size": SIZES[size], "decoder_size": SIZES[size]}
    if base == "kl":
        config |= {"base_config": KL16, "halting_threshold": None}
    if not quantized:
        config["num_codes"] = None
    name = "-".join(part for part in ("alit", size, base, data, "" if quantized else "continuous") if part)
    tokens = "codes of 4,096" if quantized else "continuous tokens of 12 dimensions"
    tiny = {**TINY, "base_config": TINY_BASES[base], "num_codes": 2048 if quantized else None}
    return ModelEntry(name, **ALIT, config=config, parameters=parameters, tiny=tiny,
                      summary=f"256x256 pixels to 32 .. 256 {tokens}; its file is linked at "
                      "github.com/ShivamDuggal4/adaptive-length-tokenizer")


ENTRIES = [
    _alit("s", "vqgan", "in1k", 262_048_399),
    _alit("s", "vqgan", "in100", 262_048_399),
    _alit("b", "vqgan", "in100", 228_689_551),
    _alit("sl", "vqgan", "in100", 463_587_983),
    _alit("s", "vqgan", "in100", 261_999_247, quantized=False),
    _alit("s", "kl", "in100", 272_107_999),
    _alit("s", "kl", "in100", 272_058_847, quantized=False),
]
