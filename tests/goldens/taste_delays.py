"""TASTE's layouts and continuations with codes that are late by one to three words or ids."""

from __future__ import annotations

import torch
from golden import Golden, System
from taste import load_spoken_lm

from photophone.core.noise import SeededNoise
from photophone.generators.taste.layout import ContinuationSampler, SpokenPrompt, piece_tables

system = System("taste_delays")
CASES = [(level, delay, row) for level in ("word", "token") for delay in (1, 2, 3) for row in (0, 1)]


def delayed(level: str, delay: int, row: int) -> None:
    """A part for each level, delay and prompt; the second prompt has fewer words than the longest delay."""
    name = f"{level}_{delay}_{row}"

    @system.part(f"mid_{name}_*", f"out_{name}_*")
    def part(golden: Golden):
        given = golden.settings
        model = load_spoken_lm(golden, delay=delay, by_word=level == "word")
        ids, codes = golden[f"in_ids_{row}"][None], golden[f"in_codes_{row}"][None]
        lengths = torch.tensor([ids.shape[1]])
        x, _, told = model.sequences(ids, codes, lengths)
        tables = piece_tables(golden.config["pieces"], given["sos"], given["eot"])
        sampler = ContinuationSampler(extra_words=given["extra_words"], text_top_p=0.0, repetition_penalty=1.0,
                                      text_temperature=1.0, max_ids=100)
        made = model.generate(SpokenPrompt(ids, lengths, codes, **tables), noise=SeededNoise.from_seeds([0]),
                              sampler=sampler).values
        recorded = golden[f"out_{name}_codes"].clone()
        where = recorded[0, :, 0] >= 0  # what is told at a step lies at the word that it is told of
        said = made[0, 1:].T
        recorded[0, where] = said[said[:, 0] >= 0]
        return {f"mid_{name}_inputs": x[0], f"mid_{name}_labels": told[0], f"out_{name}_ids": made[:, 0],
                f"out_{name}_codes": recorded}


for case in CASES:
    delayed(*case)
