"""Orthus: one transformer for text and images, with a diffusion head for continuous image tokens."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

ORTHUS = {"kind": "generator", "target": "photophone.generators.orthus.model:Orthus", "paper": "2412.00127",
          "code_licence": "none stated (the repository has no licence file); ours is written anew under Apache-2.0",
          "weights_licence": "Chameleon research licence", "parameters": 7_065_744_128,
          "tiny": {"num_tokens": 4, "token_dim": 8, "num_codes": 12, "first_code": 4, "vocab_size": 24,
                   "image_id": 20, "image_start": 21, "image_end": 22, "turn_end": 23, "width": 32, "depth": 1,
                   "num_heads": 2, "hidden": 48, "head_width": 32, "head_depth": 1},
          "tiny_sampler": {"guidance_scale": 2.0, "num_inference_steps": 4}}


def _orthus(name: str, words: str, guidance: float) -> ModelEntry:
    """A published Orthus; its image tokenizer lies in the same file."""
    hub = f"SJTU-Deng-Lab/Orthus-7B-{name}"
    entry = f"orthus-7b-{name}"
    return ModelEntry(entry, summary=f"text and images to text and the tokens of orthus-vae; {words}", hub_id=hub,
                      chain=Chain({"orthus": entry}, ("vae", "orthus-vae"), {"guidance_scale": guidance}, {},
                                  "InterleavedPipeline", text_tokenizer=hub, within={"vae": "orthus"}), **ORTHUS)


ENTRIES = [
    _orthus("base", "Chameleon with a new embedding and head", 3.0),
    _orthus("instruct", "tuned on instructions", 5.0),
]
