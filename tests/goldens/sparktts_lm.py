"""Spark-TTS: prompts as ids, attributes, generation, and what is read from an answer."""

from __future__ import annotations

from typing import Any

import torch
from golden import Golden, System
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from photophone.core.noise import GlobalNoise
from photophone.generators.sparktts.model import PromptIds, SparkSampler, SparkTTS
from photophone.text.sparktts import (
    VoiceAttributes,
    clone_prompt,
    codes_of,
    creation_prompt,
    number_token,
    task_token,
    word_token,
)

system = System("sparktts_lm")
WORDS = {"mel_level": "pitch", "pitch_var_level": "pitch_variation", "loudness_level": "loudness",
         "speed_level": "speed", "gender": "gender", "age": "age", "emotion": "emotion"}
NUMBERS = {"mel_value": "pitch", "pitch_var_value": "pitch_variation", "loudness_value": "loudness",
           "speed_value": "speed"}


def vocabulary(golden: Golden) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_file=str(golden.folder / "tokenizer.json"))


def load(golden: Golden) -> SparkTTS:
    return golden.load(SparkTTS, "lm", **SparkTTS.convert_config(golden.settings["qwen"]), end=golden.config["eos"])


def ids(golden: Golden, text: str) -> list[int]:
    return vocabulary(golden)(text)["input_ids"]


def prompt(golden: Golden, text: str, words: str | None = None, control: int | None = None) -> str:
    """A prompt of the names or words of its parts."""
    told = golden.settings.get(text, text)
    if control is not None:
        return creation_prompt(told, VoiceAttributes(*golden.settings["control"][control]))
    words = golden.settings.get(words, words) if words else words
    return clone_prompt(told, golden["in_global"].flatten().tolist(), words, golden["in_semantic"].flatten().tolist())


@system.part("out_prompt_*", "out_attribute_ids")
def prompts(golden: Golden):
    made = {}
    for name, (text, second) in golden.config["prompt_arguments"].items():
        given = {"control": second} if isinstance(second, int) else {"words": second}
        written = prompt(golden, text, **given)
        if written != golden.config["prompts"][name]:
            raise ValueError(f"{name} is {written}")
        made[f"out_prompt_{name}"] = torch.tensor(ids(golden, written))
    tokens = []
    for function, argument, _ in golden.config["attributes"]:
        if function == "task":
            tokens.append(task_token(argument))
        elif function in WORDS:
            tokens.append(word_token(WORDS[function], argument))
        else:
            tokens.append(number_token(NUMBERS[function], argument))
    return made | {"out_attribute_ids": torch.tensor(vocabulary(golden).convert_tokens_to_ids(tokens))}


def read(golden: Golden, answer: Tensor, created: bool) -> tuple[Tensor, Tensor]:
    """Voice codes and semantic codes (1, N) of the ids of an answer."""
    text = vocabulary(golden).decode(answer, skip_special_tokens=True)
    voice, speech = (torch.tensor([codes], dtype=torch.long) for codes in codes_of(text))
    return voice if created else golden["in_global"][0], speech


@system.part("out_parse_*")
def parsing(golden: Golden):
    made = {}
    for name in golden.names("in_parse_*_ids"):
        stem = name.removeprefix("in_").removesuffix("_ids")
        made[f"out_{stem}_global"], made[f"out_{stem}_semantic"] = read(golden, golden[name], "control" in stem)
    return made


def run(golden: Golden, name: str, settings: dict[str, Any]) -> dict[str, Tensor]:
    model, logits = load(golden), []
    wanted = model.logits
    model.logits = lambda states: logits.append(wanted(states)) or logits[-1]
    chosen = settings.get("sampling")
    sampler = SparkSampler(**(golden.settings[chosen] if chosen else {"temperature": 0.0}),
                           max_tokens=golden.settings["max_new_tokens"])
    control = settings.get("control")
    given = {"control": control} if control is not None else {"words": settings["prompt_text"]}
    condition = PromptIds.of_rows([ids(golden, prompt(golden, settings["text"], **given))])
    noise = golden.replay(name) if name in golden.config["draws"] else GlobalNoise()
    answer = model.generate(condition, noise=noise, sampler=sampler).values[0]
    voice, speech = read(golden, answer, control is not None)
    return {f"mid_{name}_logits": torch.cat(logits), f"out_{name}_ids": answer, f"out_{name}_global": voice,
            f"out_{name}_semantic": speech}


@system.part("*_greedy_*", "*_sample_*")
def generation(golden: Golden):
    made = {}
    for name, settings in golden.config["runs"].items():
        made |= run(golden, name, settings)
    return made
