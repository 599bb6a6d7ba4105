"""Recordings with texts as pretokenised examples of published speech models: what each reads, and what it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.speech_units import campplus
from photophone.data.resampling import resample_audio
from photophone.data.speech import SpeechDataset, clips_of
from photophone.data.speech_examples import write_examples
from photophone.loading.chains import read_config, settings_of
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import find, list_models, load_original
from photophone.loading.saved import is_saved_model
from photophone.pipelines.cosyvoice_front import vocabulary_of
from photophone.pipelines.spark_front import VOCABULARY_FOLDER, XLSR_FILE
from photophone.pipelines.speech_chains import beside, vocabulary_place
from photophone.text.cosyvoice import END_OF_PROMPT, SYSTEM, cosyvoice_ids
from photophone.text.cosyvoice_forms import as_said
from photophone.text.sparktts import check_plain, clone_prompt
from photophone.text.voxcpm import check_words, load_tokenizer, voxcpm_ids


@dataclass(frozen=True)
class Example:
    """What a model reads and writes for a recording.

    Args:
        ids: of its text or prompt.
        tokens: Long (N,) or float (N, D).
        speaker: float (D,), the vector of its voice, or None.
        instruction: how many of the first ids are an instruction.
    """

    ids: list[int]
    tokens: Tensor
    speaker: Tensor | None = None
    instruction: int = 0


class ShardMaker(ABC):
    """Makes the examples of one model.

    Args:
        name: of the registry.
        folder: its published folder or hub id; None: the registry's hub ids.
        files: single files, folders or hub ids of further parts, by the names of ``from_original``.
        configs: settings that replace those of the registry, by the names of its chain.

    Attributes:
        sample_rate: of the recordings it takes, in Hz.
    """

    sample_rate: int

    def __init__(self, name: str, folder: str | Path | None, files: Mapping[str, Any],
                 configs: Mapping[str, Mapping[str, Any]]) -> None:
        self.name, self.folder, self.files, self.configs = name, folder, files, configs

    def part(self, key: str, **settings: Any) -> Any:
        """A part of the chain with its weights, by its name there."""
        name = find(self.name).chain.files[key]
        source, _ = find_checkpoint(find(name), self.files.get(key) or self.folder)
        return load_original(name, source, **{**settings, **self.configs.get(key, {})})

    @abstractmethod
    def example(self, text: str, audio: Tensor) -> Example:
        """The example of a recording (T,) at ``sample_rate`` and its words.

        Raises:
            ValueError: a text without words, or a recording that the model cannot read.
        """


class CosyVoiceShards(ShardMaker):
    """Ids of the words, and the speech tokens of the clip; version 1 also reads the vector of the voice."""

    sample_rate = campplus.SAMPLE_RATE

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        settings = {**find(self.name).config, **self.configs.get("llm", {})}
        self.units = self.part("units")
        self.tokenizer = vocabulary_of(self.name, self.folder, self.files, settings, {})
        second = find(self.name).class_name == "CosyVoiceQwenLM"
        self.front = f"{SYSTEM}{END_OF_PROMPT}" if second and not settings.get("own_specials", True) else ""
        self.speaker = None if second else campplus.CAMPlusSpeaker(
            self.files.get("campplus") or beside(self.name, self.folder, campplus.FILE, {}))

    def example(self, text: str, audio: Tensor) -> Example:
        front = cosyvoice_ids(self.tokenizer, self.front) if self.front else []
        return Example([*front, *cosyvoice_ids(self.tokenizer, as_said(text, None))],
                       self.units.encode(audio[None, None]).values[0],
                       None if self.speaker is None else self.speaker(audio), len(front))


class SparkShards(ShardMaker):
    """A prompt with the voice of the clip, and its semantic codes: speech of a voice whose words are not known."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        place = self.files.get("text_tokenizer") or vocabulary_place(self.name, self.folder, VOCABULARY_FOLDER, {})
        self.tokenizer = load_tokenizer(place)
        codec = self.files.get("bicodec")
        whole = codec is not None and is_saved_model(codec)  # of ours, which holds wav2vec2
        more = {} if whole else {"wav2vec2": self.files.get("wav2vec2") or beside(self.name, self.folder, XLSR_FILE,
                                                                                 {})}
        self.codec = self.part("bicodec", **more)
        self.sample_rate = self.codec.sample_rate

    def example(self, text: str, audio: Tensor) -> Example:
        check_plain(text)
        codes = self.codec.encode(audio[None, None]).values[0].tolist()
        voice, spoken = codes[:self.codec.num_voice_tokens], codes[self.codec.num_voice_tokens:]
        words = ["<|start_semantic_token|>", *(f"<|bicodec_semantic_{code}|>" for code in spoken), "<|im_end|>"]
        return Example(self.tokenizer(clone_prompt(text, voice))["input_ids"],
                       torch.tensor(self.tokenizer.convert_tokens_to_ids(words)))


class VoxCPMShards(ShardMaker):
    """Ids of the words, and the tokens of the clip with silence behind, so that they are whole patches."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        settings = read_config(self.folder)
        codec = find(self.name).chain.tokenizer[1]
        self.codec = self.part("vae", **settings_of(codec, settings))
        own = {**find(self.name).config, **settings_of(self.name, settings), **self.configs.get("voxcpm", {})}
        self.patch = own.get("patch_size", 2)
        self.tokenizer = load_tokenizer(self.files.get("text_tokenizer") or self.folder or find(self.name).hub_id)
        self.sample_rate = self.codec.sample_rate

    def example(self, text: str, audio: Tensor) -> Example:
        audio = functional.pad(audio, (0, -len(audio) % (self.patch * self.codec.hop_length)))
        return Example(voxcpm_ids(self.tokenizer, text), self.codec.encode(audio[None, None]).values[0])


MAKERS = {"cosyvoice": CosyVoiceShards, "sparktts": SparkShards, "voxcpm": VoxCPMShards}
"""By the family in the registry."""


def shard_maker(name: str, folder: str | Path | None = None, files: Mapping[str, Any] | None = None,
                configs: Mapping[str, Mapping[str, Any]] | None = None) -> ShardMaker:
    """What makes the examples of a registered model; see :class:`ShardMaker`.

    Raises:
        ValueError: a model that has no such examples, or files that are missing.
    """
    entry = find(name)
    if entry.family not in MAKERS or entry.kind != "generator" or entry.chain is None:
        known = [other.name for other in list_models("generator") if other.family in MAKERS and other.chain]
        raise ValueError(f"{name} has no pretokenised examples; models that have: {', '.join(known)}")
    return MAKERS[entry.family](name, folder, files or {}, configs or {})


def recordings(source: Path, sample_rate: int) -> Iterable[tuple[str | None, Tensor] | ValueError]:
    """Words and samples (T,) of a folder, a parquet file or a prepared file; an error for a damaged recording."""
    if source.suffix == ".safetensors":
        data = SpeechDataset(source)
        for index, fields in enumerate(data.fields):
            yield fields.get("text"), resample_audio(data.clip(index), data.sample_rate, sample_rate)
        return
    for _, clip in clips_of([source]):
        yield clip if isinstance(clip, ValueError) else (clip.fields.get("text"), torch.from_numpy(
            clip.at(sample_rate)).float())


@torch.no_grad()
def write_shard(maker: ShardMaker, recorded: Iterable[tuple[str | None, Tensor] | ValueError],
                output: str | Path) -> tuple[int, int, list[str]]:
    """Write the examples of recordings.

    Returns:
        Examples and tokens written, and why recordings were left out.

    Raises:
        ValueError: none is left.
    """
    made, left_out = [], []
    for place, one in enumerate(recorded, 1):
        try:
            if isinstance(one, ValueError):
                raise one
            text, audio = one
            if not text:
                raise ValueError("it has no text; give one in metadata.csv, or in a .txt of the same name")
            check_words(text)
            made.append(maker.example(text, audio))
        except ValueError as error:
            left_out.append(f"recording {place}: {error}")
    if not made:
        raise ValueError(f"no recording can be used; {'; '.join(left_out[:3]) or 'there is none'}")
    instructions = torch.tensor([example.instruction for example in made])
    write_examples(output, [torch.tensor(example.ids) for example in made], [example.tokens.cpu() for example in made],
                   None if made[0].speaker is None else torch.stack([example.speaker for example in made]),
                   instructions if bool(instructions.any()) else None)
    return len(made), sum(len(example.tokens) for example in made), left_out
