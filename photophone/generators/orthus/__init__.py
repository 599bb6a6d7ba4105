"""Orthus: one transformer for text and images, with a diffusion head for continuous image tokens."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ORTHUS = {"kind": "generator", "target": "photophone.generators.orthus.model:Orthus", "paper": "2412.00127",
          "code_licence": "none stated (the repository has no licence file); ours is written anew under Apache-2.0",
          "weights_licence": "Chameleon research licence", "parameters": 7_065_744_128,
          "tiny": {"num_tokens": 4, "token_dim": 8, "num_codes": 12, "first_code": 4, "vocab_size": 24,
                   "image_id": 20, "image_start": 21, "image_end": 22, "width": 32, "depth": 1, "num_heads": 2,
                   "hidden": 48, "head_width": 32, "head_depth": 1},
          "tiny_sampler": {"guidance_scale": 2.0, "num_inference_steps": 4}}

ENTRIES = [
    ModelEntry(f"orthus-7b-{name}", summary=f"prompts to the tokens of orthus-vae, and text; {words}",
               hub_id=f"SJTU-Deng-Lab/Orthus-7B-{name}", **ORTHUS)
    for name, words in (("base", "Chameleon with a new embedding and head"), ("instruct", "tuned on instructions"))
]
