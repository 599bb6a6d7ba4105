"""A small CosyVoice 2 made of sentences: its vocabulary, the examples of its parts, and the folder that holds it.

The folder has the names and formats of the authors' release, so what runs it is what runs theirs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from photophone.codecs.hift.model import HiFT
from photophone.codecs.speech_units.blocks import HOP
from photophone.codecs.speech_units.campplus import CAMPlusSpeaker
from photophone.codecs.speech_units.onnx_write import write_s3_onnx, write_voice_network
from photophone.codecs.speech_units.s3 import S3Tokenizer
from photophone.core.tokens import Tokens
from photophone.data.audio import write_audio
from photophone.data.speech import SpeechDataset
from photophone.data.speech_examples import groups_of_like_length, write_examples
from photophone.evaluation.tasks.speech import our_voice
from photophone.generators.cosyvoice.flow import CosyVoiceFlow
from photophone.generators.cosyvoice.qwen_lm import CosyVoiceQwenLM
from photophone.pipelines.speech_fronts import Voice
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.text.cosyvoice import load_cosyvoice_tokenizer
from photophone.training.qwen2_vocabulary import write_qwen2_vocabulary
from photophone.training.spark_examples import word_spans
from photophone.training.speech_chain import SPLITS, SpeechChain
from photophone.training.tasks.guided_lm import write_guides
from photophone.training.tasks.speech_units import spoken_units


def write_lm_examples(output: Path, clips: Sequence[dict[str, Any]], units: Sequence[Tensor], kept: Sequence[slice],
                      vocabulary: Path, *, seconds: float, copies: int = 1, dropout: float = 0.0) -> None:
    """Examples of the language model: ids of the text, and the speech tokens of the clip; and their guides.

    Args:
        output: the file of examples.
        clips: text, phonemes and times of each clip.
        units: of each clip.
        kept: which of them.
        vocabulary: folder of :func:`write_qwen2_vocabulary`.
        seconds: of a unit.
        copies: further times that each clip comes, its words cut into other parts (BPE-dropout, arXiv 1910.13267), so
            that rare words are learned by their letters.
        dropout: share of the merges that those leave out.
    """
    tokenizer = load_cosyvoice_tokenizer(vocabulary, third=False)
    ids, guides = [], []
    for copy in range(1 + copies):
        tokenizer.backend_tokenizer.model.dropout = dropout if copy else None
        for fields, row, part in zip(clips, units, kept, strict=True):
            read = tokenizer(fields["text"], add_special_tokens=False, return_offsets_mapping=True)
            times = (np.arange(len(row)) + 0.5)[part] * seconds
            spans = word_spans(fields, read["offset_mapping"], 0, times)
            spans = np.zeros((len(times), 2)) if spans is None else spans
            ids.append(torch.tensor(read["input_ids"]))
            guides.append(torch.from_numpy(spans).int())
    write_examples(output, ids, [row[part] for row, part in zip(units, kept, strict=True)] * (1 + copies))
    write_guides(output, guides)


@torch.no_grad()
def encode_units(tokenizer: S3Tokenizer, data: SpeechDataset, positions: int = 4000) -> list[Tensor]:
    """Speech tokens Long (N,) of each clip, at most ``positions`` mel frames together, padding included."""
    units: list[Tensor] = [torch.zeros(0)] * len(data)
    for rows in groups_of_like_length(data.lengths // HOP, positions):
        mels = [tokenizer.mel(data.clip(int(row))[None])[0].T for row in rows]
        frames = torch.tensor([len(mel) for mel in mels])
        states, counts = tokenizer.hidden(pad_sequence(mels, batch_first=True).transpose(1, 2), frames)
        for row, values, count in zip(rows, tokenizer.quantize(states), counts.tolist(), strict=True):
            units[row] = values[:count]
    return units


def without_pauses(units: Sequence[Tensor], data: SpeechDataset, seconds: float) -> list[slice]:
    """Which units of each clip are kept: those between its first and last sounds, see :func:`spoken_units`."""
    return [spoken_units(fields, len(row), seconds) for fields, row in zip(data.fields, units, strict=True)]


@torch.no_grad()
def write_flow_examples(output: Path, units: Sequence[Tensor], kept: Sequence[slice], data: SpeechDataset,
                        vocoder: HiFT, speaker: CAMPlusSpeaker, low: SpeechDataset, frames: int = 2) -> None:
    """Examples of the flow: speech tokens of each clip, its mel frames, and the vector of its speaker.

    Args:
        output: the file.
        units: of each clip.
        kept: which of them.
        data: the clips at the vocoder's rate.
        vocoder: makes the frames.
        speaker: makes the vectors.
        low: the clips at 16 kHz.
        frames: of a token.
    """
    tokens, mels, speakers = [], [], []
    for index, (row, part) in enumerate(zip(units, kept, strict=True)):
        mel = vocoder.encode(data.clip(index)[None, None]).values[0]
        last = min(part.stop, len(mel) // frames)
        tokens.append(row[part.start:last])
        mels.append(mel[part.start * frames:last * frames])
        speakers.append(speaker(low.clip(index)))
    write_examples(output, tokens, mels, torch.stack(speakers))


UNITS_FILE = "speech_tokenizer_v2.onnx"
VOCABULARY, VOICE_NETWORK, SIZES, VOICE = "CosyVoice-BlankEN", "campplus.onnx", "part_configs.json", "voice"
PARTS = {"units": S3Tokenizer, "llm": CosyVoiceQwenLM, "flow": CosyVoiceFlow, "hift": HiFT}
"""Parts that are trained, as the registry's chain calls them."""


VOCABULARY_SIZE, UNIT_SECONDS = 768, 0.04
VOICE_SECONDS = 3
"""Of the recording that the chain speaks with, about."""
COPIES, DROPOUT = 1, 0.1
"""Of each text, with words cut otherwise; see :func:`write_lm_examples`."""


def write_release_folder(folder: Path, exports: Mapping[str, Path], vocabulary: Path, voice: tuple[Tensor, int, str]
                         ) -> None:
    """Write trained parts as the authors' release: names, keys and formats are theirs.

    Beside them lie ``part_configs.json``, because their sizes are not those of the release, and a recording of the
    voice, ``voice.wav`` with ``voice.txt``.

    Args:
        folder: to write.
        exports: ``export`` folders of the runs, by the keys of ``PARTS``.
        vocabulary: of :func:`write_qwen2_vocabulary`.
        voice: a recording float (T,), its rate, and its words.
    """
    sizes = {}
    for name, part in PARTS.items():
        model = part.from_pretrained(exports[name])
        sizes[name] = {key: model.config[key] for key in model.config_keys()}
        if isinstance(model, S3Tokenizer):
            write_s3_onnx(model, folder / UNITS_FILE)
        else:
            model.save_original(folder)
    shutil.copytree(vocabulary, folder / VOCABULARY, dirs_exist_ok=True)
    write_voice_network(folder / VOICE_NETWORK, sizes["flow"]["speaker_dim"])
    (folder / SIZES).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    audio, rate, words = voice
    write_audio(folder / f"{VOICE}.wav", audio.numpy(), rate)
    (folder / f"{VOICE}.txt").write_text(words + "\n", encoding="utf-8")


def load_release_folder(folder: Path) -> tuple[TextToSpeechPipeline, Voice]:
    """What :func:`write_release_folder` wrote, through the pipeline that runs the authors' release, and its voice."""
    sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
    pipeline = TextToSpeechPipeline.from_original("cosyvoice2-0.5b", folder, part_configs=sizes)
    return pipeline, Voice(folder / f"{VOICE}.wav", text=(folder / f"{VOICE}.txt").read_text(encoding="utf-8").strip())


class CosyVoiceChain(SpeechChain):
    """CosyVoice 2; see :class:`SpeechChain`."""

    configs = "small_cosyvoice"
    stages = ("units", "tokens", "frames", "llm", "mean", "flow", "hift")
    rates = (24000, 16000)
    codecs: ClassVar[dict[str, int]] = {"units": 16000, "hift": 24000}
    models = ("llm", "mean", "flow")

    def examples(self, split: str, part: str) -> Path:
        return super().examples(split, "flow" if part == "mean" else part)

    def settings(self, part: str) -> list[str]:
        told = super().settings(part)
        return [*told, f"init_from={self.export('mean')}"] if part == "flow" else told

    def make(self, stage: str) -> None:
        for split in SPLITS:
            if self.examples(split, {"tokens": "llm", "frames": "flow"}[stage]).exists():
                continue
            if stage == "tokens":
                self._make_tokens(split)
            else:
                self._make_frames(split)

    def _units(self, split: str) -> Path:
        return self.folder / "data" / f"units-{split}.safetensors"

    def _make_tokens(self, split: str) -> None:
        """The vocabulary, the units of all clips, and examples of the language model."""
        vocabulary, tokenizer = self.folder / VOCABULARY, S3Tokenizer.from_pretrained(self.export("units")).eval()
        data = SpeechDataset(self.speech(split, 16000))
        if not vocabulary.exists():
            write_qwen2_vocabulary([fields["text"] for fields in data.fields], vocabulary, VOCABULARY_SIZE)
        units = encode_units(tokenizer, data)
        Tokens(pad_sequence(units, batch_first=True),
               torch.tensor([len(row) for row in units])).save(self._units(split))
        if split == "train" and self.mixed.exists():
            mixed = SpeechDataset(self.mixed)
            units += encode_units(tokenizer, mixed)
            data = SpeechDataset(self.speech(split, 16000), self.mixed)
        write_lm_examples(self.examples(split, "llm"), data.fields, units, without_pauses(units, data, UNIT_SECONDS),
                          vocabulary, seconds=UNIT_SECONDS, copies=COPIES if split == "train" else 0, dropout=DROPOUT)

    def _make_frames(self, split: str) -> None:
        """Examples of the flow."""
        network = self.folder / "data" / VOICE_NETWORK
        if not network.exists():
            write_voice_network(network)
        low, high = SpeechDataset(self.speech(split, 16000)), SpeechDataset(self.speech(split, 24000))
        tokens = Tokens.load(self._units(split))
        units = [row[mask] for row, mask in zip(tokens.values, tokens.mask, strict=True)]
        write_flow_examples(self.examples(split, "flow"), units, without_pauses(units, low, UNIT_SECONDS), high,
                            HiFT(), CAMPlusSpeaker(network), low)  # HiFT for its frames alone

    def write_release(self) -> None:
        voice = SpeechDataset(self.speech("val", 24000))
        best = int((voice.lengths - VOICE_SECONDS * 24000).abs().argmin())
        write_release_folder(self.folder / "release", {part: self.export(part) for part in PARTS},
                             self.folder / VOCABULARY, (voice.clip(best), 24000, voice.fields[best]["text"]))

    def voice(self, transcript: bool = False, **options: Any) -> Callable[[str], tuple[np.ndarray, int]]:
        """See :meth:`SpeechChain.voice`.

        Args:
            transcript: the voice's recording is continued, with its words; else it tells how the voice sounds.
            **options: of the pipeline's call.
        """
        pipeline, voice = load_release_folder(self.folder / "release")
        pipeline.set_progress_bar_config(disable=True)
        return our_voice(pipeline, 0, voice=voice if transcript else replace(voice, text=None), **options)
