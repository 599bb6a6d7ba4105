"""Delayed streams that go on from a recording: its codes come first, without text, and guidance does not see them."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.generators.delayed_streams.config import model_config
from photophone.generators.delayed_streams.script import Word, WordMachine
from photophone.generators.delayed_streams.speaking import Speaking
from photophone.generators.delayed_streams.speech import DelayedSpeech

system = System("dsm_prefix")


@system.part("out_*")
def speaking(golden: Golden):
    settings = golden.settings["tts"]
    model = golden.load(DelayedSpeech, "lm", **model_config(golden.settings["lm"]["lm_kwargs"]))
    machine = WordMachine(model.config.text_card + 1, settings["machine"]["second_stream_ahead"],
                          settings["machine"]["max_padding"], settings["machine"]["initial_padding"])
    texts = [[Word(tuple(entry["tokens"]), entry["text"], entry["padding"]) for entry in row]
             for row in settings["entries"]]
    prefixes, made = [golden[name] for name in golden.names("in_prefix_*")], {}
    for strength in settings["cfg_coef"]:
        run = Speaking(model, machine, settings["delay_steps"], temperature=0.0, guidance=strength,
                       final_padding=settings["final_padding"])
        name = f"out_cfg{strength:g}"
        made[f"{name}_frames"] = torch.stack(list(run.frames(texts, [{}] * len(texts), None, prefixes)), dim=-1)
        made[f"{name}_end_steps"] = torch.tensor([reading.end for reading in run.readings])
        made |= {f"{name}_logged_{row}": torch.tensor(said) for row, said in enumerate(run.said)}
    return made
