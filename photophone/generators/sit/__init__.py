"""SiT and DiT: ImageNet classes to one-dimensional continuous tokens."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

CODE_LICENCE = "Apache-2.0 as the model classes state, no licence file"
WEIGHTS_LICENCE = "Apache-2.0 as the hub repository states; trained on ImageNet"
PARAMETERS = {"SiT": 674_853_152, "DiT": 674_890_048}
DIT_TINY = {"num_tokens": 8, "token_dim": 6, "num_classes": 10, "width": 32, "depth": 2, "num_heads": 2}


def _dit(family: str, tokenizer: str, num_tokens: int, hub: str, paper: str) -> ModelEntry:
    """A published SiT or DiT of size XL on the tokens of a tokenizer."""
    return ModelEntry(f"{family.lower()}-xl-{tokenizer}", "generator", f"photophone.generators.sit.model:{family}",
                      f"ImageNet classes to the tokens of {tokenizer}; token_mean and token_std stand as vq_mean and "
                      "vq_std in its config.json", paper, CODE_LICENCE, WEIGHTS_LICENCE,
                      config={"num_tokens": num_tokens}, hub_id=f"{hub}/{family.lower()}-xl_{tokenizer}",
                      files=("model.safetensors",), parameters=PARAMETERS[family], tiny=DIT_TINY,
                      tiny_sampler={"num_inference_steps": 4, "guidance_scale": 2.0}, training_name=family.lower())


ENTRIES = [
    *(_dit(family, f"softvq-{sizes}-{tokens}", tokens, "SoftVQVAE", "2412.10958") for family in ("SiT", "DiT")
      for tokens in (64, 32) for sizes in ("l", "bl", "b")),
    _dit("SiT", "maetok-b-128", 128, "MAETok", "2502.03444"),
    _dit("SiT", "maetok-b-128-512", 128, "MAETok", "2502.03444"),
]
