"""VoxInstruct: both models in training and in inference."""

from __future__ import annotations

from typing import Any

import torch
from golden import Golden, System
from torch import Tensor

from photophone.generators.voxinstruct.books import VoxInstructNAR
from photophone.generators.voxinstruct.condition import BookSampler, Instruction, InstructionSampler
from photophone.generators.voxinstruct.model import VoxInstructAR

system = System("voxinstruct")


def config(golden: Golden) -> dict[str, Any]:
    given = golden.settings
    return {"num_languages": given["lang_num"], "num_semantic": given["st"], "num_codes": given["at"],
            "num_books": given["res"], "width": given["hidden"], "depth": given["layers"],
            "num_heads": given["heads"], "hidden": given["ffn"], "max_text": given["text"], "mt5": given["mt5"],
            "text_drop_rate": given["text_free_g_ratio"]}


def load_ar(golden: Golden) -> VoxInstructAR:
    return golden.load(VoxInstructAR, "ar", **config(golden), unit_drop_rate=golden.settings["st_free_g_ratio"])


def load_nar(golden: Golden) -> VoxInstructNAR:
    return golden.load(VoxInstructNAR, "nar", **config(golden), prompt_free_rate=golden.settings["at_free_g_ratio"])


def instruction(golden: Golden, case: str | None = None) -> Instruction:
    """The texts; with a case the first of them, and what the sequence begins with."""
    ids, mask = golden["in_text_ids"], golden["in_text_mask"].bool()
    if case is None:
        return Instruction(ids, mask, torch.zeros(len(ids), dtype=torch.long))
    sequence, codes = golden[f"in_{case}_sequence"], golden[f"in_{case}_acoustic_prompt"].long()
    first_code = 1 + golden.settings["lang_num"] + golden.settings["st"]
    units = sequence[:, 2:] - 1 - golden.settings["lang_num"]
    return Instruction(ids[:1], mask[:1], sequence[:, 1] - 1, units,
                       codes - first_code if codes.numel() else codes)


@system.part("mid_text_encode", "out_ar_logits")
def ar_training(golden: Golden):
    model, ids, segments = load_ar(golden), golden["in_ids"], golden["in_segments"]
    text = model.encode_text(instruction(golden))
    given = model.dropped(text, ids, segments, golden.replay("ar_forward"))
    return {"mid_text_encode": text, "out_ar_logits": model.logits(*given, segments)}


@system.part("out_nar_*")
def nar_training(golden: Golden):
    model, ids, segments = load_nar(golden), golden["in_full_ids"].transpose(1, 2), golden["in_segments"]
    noise, text = golden.replay("nar_forward"), model.encode_text(instruction(golden))
    dropped = noise.uniform(len(ids)) < model.config.text_drop_rate
    text = torch.where(dropped[:, None, None], 0, text)
    logits, target, chosen = model.train_logits(text, ids, segments, golden["in_mask"].bool(), noise)
    counts = (segments == 2).sum(1)
    return {"out_nar_logits": logits, "out_nar_target": target, "out_nar_target_mask": chosen.float(),
            "out_nar_mask_ratio": chosen.sum(1) / counts}


def run(golden: Golden, case: str) -> dict[str, Tensor]:
    model, condition, settings = load_ar(golden), instruction(golden, case), golden.settings
    cfg, seen = settings["cfg"], []
    sampler = InstructionSampler(semantic_guidance=cfg["cfg_st_on_text"], text_guidance=cfg["cfg_at_on_text"],
                                 unit_guidance=cfg["cfg_at_on_st"], max_ids=settings["max_len"])
    pick = model.pick

    def watched(logits, *others):
        seen.append(logits[0].clone())
        return pick(logits, *others)

    model.pick = watched
    head = condition.prompt_ids(model.layout)
    made = model.generate(condition, noise=golden.replay(f"infer_{case}"), sampler=sampler).values
    sequence = torch.cat([head, made], dim=1)
    nar = load_nar(golden)
    books = nar.fill(nar.encode_text(condition), sequence[0], condition.prompt_codes(model.layout, settings["res"])[0],
                     BookSampler(num_order_steps=cfg["nar_iter_steps"]))
    first = int((sequence[0] == model.layout.semantic_end).long().argmax()) + 1 + condition.codes.shape[2]
    codes = (books[:, first:-1] - model.layout.first_code).clamp(min=0)
    return {f"mid_{case}_logits": torch.stack(seen), f"out_{case}_sequence": sequence,
            f"out_{case}_all_books": books[None], f"out_{case}_codes": codes}


@system.part("*_plain_*")
def plain(golden: Golden):
    return run(golden, "plain")


@system.part("*_prompt_*")
def prompted(golden: Golden):
    return run(golden, "prompt")
