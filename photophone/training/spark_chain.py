"""A small Spark-TTS made of sentences: examples of its language model, and the folder that holds it.

The folder has the names and formats of the authors' release, so what runs it is what runs theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from photophone.codecs.bicodec.model import BiCodec
from photophone.core.files import atomic_folder
from photophone.data.speech import SpeechDataset
from photophone.data.speech_examples import write_examples
from photophone.evaluation.tasks.speech import our_voice
from photophone.generators.sparktts.model import SparkTTS
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.text.sparktts import VoiceAttributes, added_tokens
from photophone.text.voxcpm import load_tokenizer
from photophone.training.qwen2_vocabulary import write_qwen2_vocabulary
from photophone.training.spark_examples import spark_clips, word_spans
from photophone.training.speech_chain import SPLITS, SpeechChain
from photophone.training.tasks.guided_lm import write_guides
from photophone.training.tasks.speech_units import spoken_units

SIZES = "sizes.json"
"""Sizes of the parts, which the authors' code has as constants."""
VOCABULARY_SIZE = 1400
GENDER = "female"
"""Of the voice of hibari-tts."""


@torch.no_grad()
def encode_voices(codec: BiCodec, data: SpeechDataset) -> list[list[int]]:
    """Voice codes and semantic codes of each clip."""
    return [codec.encode(data.clip(index)[None, None]).values[0].tolist() for index in range(len(data))]


def make_vocabulary(folder: Path, data: SpeechDataset, codec: BiCodec, size: int) -> None:
    """Write a vocabulary of the texts of some clips: byte pairs, and Spark's tokens behind, its end first."""
    from transformers import AddedToken, Qwen2TokenizerFast

    write_qwen2_vocabulary((fields["text"] for fields in data.fields), folder, size)
    tokenizer = Qwen2TokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in added_tokens(
        codec.config.num_codes, codec.speaker_encoder.quantizer.codebook_size)])
    tokenizer.save_pretrained(folder)


def write_spark_examples(output: Path, data: SpeechDataset, codec: BiCodec, vocabulary: Path, gender: str) -> None:
    """Examples of the language model, two of each clip, and their guides; pauses at both ends are left out.

    Args:
        output: the file of examples.
        data: clips with phonemes, times and pitch.
        codec: makes the codes.
        vocabulary: its folder.
        gender: of all voices.
    """
    tokenizer, prompts, answers, guides = load_tokenizer(vocabulary), [], [], []
    voiced, seconds = codec.num_voice_tokens, codec.hop_length / codec.sample_rate
    whole = encode_voices(codec, data)
    kept = [spoken_units(fields, len(row) - voiced, seconds) for fields, row in zip(data.fields, whole, strict=True)]
    codes = [row[:voiced] + row[voiced:][part] for row, part in zip(whole, kept, strict=True)]
    for clip, fields, part in zip(spark_clips(data.fields, codes, voiced, gender), data.fields, kept, strict=True):
        times = seconds * (part.start + np.arange(len(clip.speech))) + codec.frame_samples / 2 / codec.sample_rate
        for prompt, told in clip.examples():
            read, written = tokenizer(prompt, return_offsets_mapping=True), tokenizer(told)["input_ids"]
            prompts.append(torch.tensor(read["input_ids"]))
            answers.append(torch.tensor(written))
            spans = word_spans(fields, read["offset_mapping"], prompt.index(clip.text), times)
            guides.append(_guide(spans, len(written)))
    write_examples(output, prompts, answers)
    write_guides(output, guides)


def _guide(spans: np.ndarray | None, count: int) -> Tensor:
    """Spans of an answer of so many ids, which ends with semantic codes and the id of the end; int32 (count, 2)."""
    guide = torch.zeros(count, 2, dtype=torch.int32)
    if spans is not None:
        guide[count - 1 - len(spans):-1] = torch.from_numpy(spans)
    return guide


def write_release(folder: Path, lm: Path, codec: Path, vocabulary: Path) -> None:
    """Write the parts in the authors' layout; a folder that is there is replaced."""
    with atomic_folder(folder, overwrite=True) as partial:
        SparkTTS.from_pretrained(lm).save_original(partial)
        load_tokenizer(vocabulary).save_pretrained(partial / "LLM")
        trained = BiCodec.from_pretrained(codec)
        trained.save_original(partial)
        sizes = {"bicodec": {key: value for key, value in trained.config.items() if not key.startswith("_")}}
        (partial / SIZES).write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")


def load_release(folder: Path) -> TextToSpeechPipeline:
    """What :func:`write_release` wrote, through the pipeline that runs the authors' release."""
    sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
    return TextToSpeechPipeline.from_original("spark-tts-0.5b", folder, part_configs=sizes)


class SparkChain(SpeechChain):
    """Spark-TTS; see :class:`SpeechChain`."""

    configs = "small_sparktts"
    stages = ("units", "tokens", "llm", "waves")
    rates = (16000,)
    codecs: ClassVar[dict[str, int]] = {"units": 16000, "waves": 16000}
    models = ("llm",)

    def make(self, stage: str) -> None:
        """The vocabulary, and examples of the language model."""
        codec, vocabulary = BiCodec.from_pretrained(self.export("units")).eval(), self.folder / "vocabulary"
        for split in SPLITS:
            data = SpeechDataset(self.speech(split, 16000))
            if not vocabulary.exists():
                make_vocabulary(vocabulary, data, codec, VOCABULARY_SIZE)
            if self.examples(split, "llm").exists():
                continue
            if split == "train" and self.mixed.exists():
                data = SpeechDataset(self.speech(split, 16000), self.mixed)
            write_spark_examples(self.examples(split, "llm"), data, codec, vocabulary, GENDER)

    def settings(self, part: str) -> list[str]:
        told = super().settings(part)
        return [*told, f"init_from={self.export('units')}"] if part == "waves" else told

    def write_release(self) -> None:
        write_release(self.folder / "release", self.export("llm"), self.export("waves"), self.folder / "vocabulary")

    def voice(self, **options: Any) -> Callable[[str], tuple[np.ndarray, int]]:
        """See :meth:`SpeechChain.voice`; ``options`` are of the pipeline's call."""
        pipeline = load_release(self.folder / "release")
        pipeline.set_progress_bar_config(disable=True)
        return our_voice(pipeline, 0, voice=VoiceAttributes(GENDER), **options)
