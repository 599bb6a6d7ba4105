"""BitDance for captions: Qwen3, the binary diffusion head of many tokens, and the loop."""

from __future__ import annotations

from unittest import mock

import torch
from golden import Golden, System
from torch import Tensor

from photophone.generators.bitdance.head import BinaryDiffusionHead
from photophone.generators.bitdance.text import BitDanceText
from photophone.generators.conditions import CaptionIds
from photophone.tokenizers.grid import to_grid

system = System("bitdance_t2i")
LLM = {"hidden_size": "width", "intermediate_size": "hidden", "num_hidden_layers": "depth",
       "num_attention_heads": "num_heads", "num_key_value_heads": "num_kv_heads", "head_dim": "head_dim",
       "vocab_size": "vocab_size", "rms_norm_eps": "eps"}
HEAD = {"ch_target": "token_dim", "ch_latent": "head_width", "depth_latent": "head_depth",
        "depth_adanln": "head_modulations", "time_shift": "time_shift", "P_mean": "time_mean", "P_std": "time_std",
        "use_swiglu": "gated_head"}


def load(golden: Golden) -> BitDanceText:
    settings = golden.settings
    llm, head, first = settings["llm"], settings["head"], settings["special_base"]
    state = {key: value for stem in ("llm", "vision_head", "projector") for key, value in golden.state(stem).items()}
    config = {ours: llm[theirs] for theirs, ours in LLM.items()} | {ours: head[theirs] for theirs, ours in HEAD.items()}
    return BitDanceText.from_original(
        state, grid=[size // settings["vae_patch_size"] for size in settings["image_size"]], num_codebooks=1,
        step_side=round(head["parallel_num"] ** 0.5), image_start=first, first_size=first + 1,
        first_query=first + settings["num_res"] + 1, rotary_base=llm["rope_parameters"]["rope_theta"], **config)


@system.part("out_pos_embed", "out_projector", "out_train_mask")
def embeddings(golden: Golden):
    model = load(golden)
    lengths = len(golden["in_cond_ids"]) + 2 + model.num_tokens
    mask = model.visible(torch.ones(1, lengths, dtype=torch.bool), len(golden["in_cond_ids"]) + 2)[0, 0]
    more = len(golden["out_train_mask"]) - lengths  # ids of another document, which follows in the same sequence
    return {"out_pos_embed": model.grid_position(), "out_projector": model.token_in(golden["in_head_target"]),
            "out_train_mask": torch.block_diag(mask, torch.ones(more, more).tril()).bool()}


@system.part("out_head", "out_head_loss")
def head(golden: Golden):
    head = load(golden).token_head
    time, eps = (draw for _, draw in golden.draws("head_loss"))
    noise = golden.noise(normal=[time[:, None, None], eps[:, None, None]])
    return {"out_head": head.net(golden["in_head_x"], golden["in_head_t"], golden["in_head_cond"]),
            "out_head_loss": head.errors(golden["in_head_cond"], golden["in_head_target"], noise)[0]}


@system.part("out_head_sample*", tolerance=1e-4)
def head_samples(golden: Golden):
    head, steps = load(golden).token_head, golden.settings["steps"]
    guided = head.solve(golden["in_head_cond_cfg"], guidance=golden.settings["head_cfg"], num_steps=steps,
                        noise=golden.replay("head_sample_cfg"))
    return {"out_head_sample": head.solve(golden["in_head_cond"], num_steps=steps, noise=golden.replay("head_sample")),
            "out_head_sample_cfg": guided.repeat(2, 1, 1)}


@system.part("out_gen_*", tolerance=1e-4)
def samples(golden: Golden):
    made = {}
    for name, scale in (("cfg", golden.settings["cfg"]), ("plain", 1.0)):
        bits, conditions = generated(golden, name, scale)
        made |= {f"out_gen_{name}_bits": bits, f"out_gen_{name}_conditions": conditions}
    return made


def generated(golden: Golden, name: str, scale: float) -> tuple[Tensor, Tensor]:
    """Bits, and what the head got at each step."""
    model, rows, seen = load(golden), golden.settings["num_images"], []
    ids = golden["in_cond_ids"].expand(rows, -1)
    condition = CaptionIds(ids, torch.ones_like(ids, dtype=torch.bool), golden["in_uncond_ids"])
    sample = BinaryDiffusionHead.sample

    def recording(self, hidden, **options):
        seen.append(hidden)
        return sample(self, hidden, **options)

    with mock.patch.object(BinaryDiffusionHead, "sample", recording):
        tokens = model.generate(condition, noise=golden.replay(f"gen_{name}"), sampler=model.Sampler(
            guidance_scale=scale, num_inference_steps=golden.settings["steps"]))
    return to_grid(model.packing.decode(tokens.values), tuple(model.config.grid)), torch.stack(seen)
