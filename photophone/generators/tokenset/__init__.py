"""TokenSet's generator: ImageNet classes to sets of codes by discrete diffusion of their counts."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry


def _tokenset(name: str, width: int, heads: int, parameters: int) -> ModelEntry:
    """A published generator; its file is linked at github.com/Gengzigang/TokenSet."""
    return ModelEntry(f"tokenset-{name[0]}", "generator", "photophone.generators.tokenset.model:TokenSetDiT",
                      "ImageNet classes to the sets of tokenset-128; "
                      f"fsdd_{name}_128_4096.pth is linked at github.com/Gengzigang/TokenSet", "2503.16425",
                      "MIT; parts derive from DiT (CC-BY-NC-4.0)",
                      "as the code, none stated apart; trained on ImageNet",
                      config={"width": width, "num_heads": heads}, parameters=parameters,
                      tiny={"num_tokens": 8, "num_codes": 2048, "num_classes": 10, "width": 32, "depth": 2,
                            "num_heads": 2},
                      tiny_sampler={"num_inference_steps": 3, "guidance_scale": 2.0, "guidance_stages": ""},
                      chain=Chain({"generator": f"tokenset-{name[0]}"}, ("tokenizer", "tokenset-128"), {
                          "num_inference_steps": 25, "guidance_scale": 30.0, "guidance_stages": "4,50,55"}))


ENTRIES = [_tokenset("small", 384, 6, 36_041_985), _tokenset("base", 768, 12, 136_669_569)]
