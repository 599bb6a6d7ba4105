"""SEED-LLaMA: a Llama that reads and writes text and the codes of SEED's tokenizer."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

SIZES = {"8b": (4096, 32, 32, 11008), "14b": (5120, 40, 40, 13824)}
"""Width, blocks, heads and width of the feed-forward, of Vicuna-7B and Llama-2-13B."""
SEED_LLAMA = {"kind": "generator", "target": "photophone.generators.seed_llama.model:SEEDLlama", "paper": "2310.01218",
              "code_licence": "Apache-2.0",
              "tiny": {"num_codes": 40, "first_code": 20, "vocab_size": 64, "image_start": 60, "image_end": 61,
                       "turns": "vicuna", "width": 32, "depth": 1, "num_heads": 2, "hidden": 48},
              "tiny_sampler": {"temperature": 0.1}}


def _seed_llama(size: str, stage: str, parameters: int) -> ModelEntry:
    """A published SEED-LLaMA; its pictures are drawn by Stable unCLIP 2.1."""
    width, depth, heads, hidden = SIZES[size]
    name = f"seed-llama-{size}-{stage}"
    return ModelEntry(name, summary="text and images to text and the codes of seed-tokenizer-2; "
                      f"{'tuned on instructions' if stage == 'sft' else 'pretrained'}",
                      weights_licence="Llama 2 community licence, as the hub page states",
                      config={"width": width, "depth": depth, "num_heads": heads, "hidden": hidden,
                              "turns": {"8b": "vicuna", "14b": "llama2"}[size]},
                      hub_id=f"AILab-CVC/seed-llama-{size}-{stage}", parameters=parameters,
                      chain=Chain({"llama": name}, ("seed", "seed-tokenizer-2"), {"top_p": 0.5}, {},
                                  "InterleavedPipeline", text_tokenizer="AILab-CVC/seed-tokenizer-2",
                                  image_decoder="stabilityai/stable-diffusion-2-1-unclip"), **SEED_LLAMA)


ENTRIES = [_seed_llama(size, stage, parameters) for size, parameters in (("8b", 6_805_540_864), ("14b", 13_099_770_880))
           for stage in ("pretrain", "sft")]
