"""Train a small CosyVoice 2 from sentences, all its parts, and write it in the layout of the authors' release.

Each stage is done when its result is there, and a run that was stopped goes on, so the same command continues. The
sentences are a .csv with the columns text, phonemes and split, spoken by the voice of hibari-tts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from photophone.codecs.hift.model import HiFT
from photophone.codecs.speech_units.campplus import CAMPlusSpeaker
from photophone.codecs.speech_units.onnx_write import write_voice_network
from photophone.codecs.speech_units.s3 import S3Tokenizer
from photophone.core.command import run_command
from photophone.data.audio import write_audio
from photophone.data.speech import SpeechDataset, prepare_speech, resample_prepared
from photophone.data.speech_examples import SpeechExamples
from photophone.evaluation.tasks.speech import our_voice, read_test_sentences
from photophone.text.phonemes import phonemize
from photophone.training.cosyvoice_chain import (
    PARTS,
    VOCABULARY,
    VOICE_NETWORK,
    encode_units,
    hear_words,
    load_release_folder,
    make_vocabulary,
    write_flow_examples,
    write_lm_examples,
    write_release_folder,
)
from photophone.training.loop.config import TrainConfig, load_config
from photophone.training.loop.task import Task
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.speech_recipes import codec_task, speech_generator_task

CONFIGS = Path(__file__).parents[1] / "configs"
SPLITS = ("train", "val")
STAGES = ("data", "units", "tokens", "frames", "llm", "flow", "hift", "folder", "evaluate")
HIGH, LOW = 24000, 16000
VOCABULARY_SIZE = 768
VOICE_SECONDS = 3
"""Of the recording that the chain speaks with, about."""
COPIES, DROPOUT = 3, 0.1
"""Of each text, with words cut otherwise; see :func:`photophone.training.cosyvoice_chain.write_lm_examples`."""


def speech(folder: Path, split: str, rate: int) -> Path:
    """The prepared file of a split."""
    return folder / "data" / f"voice-{split}-{rate // 1000}k.safetensors"


def examples(folder: Path, split: str, part: str) -> Path:
    """The file of examples of a part."""
    return folder / "data" / f"cosyvoice-{part}-{split}.safetensors"


def make_data(folder: Path, sentences: Path) -> None:
    """Speech at both rates."""
    for split in SPLITS:
        if not speech(folder, split, HIGH).exists():
            prepare_speech([sentences], speech(folder, split, HIGH), HIGH, split, phonemize=phonemize)
        if not speech(folder, split, LOW).exists():
            resample_prepared(speech(folder, split, HIGH), speech(folder, split, LOW), LOW)


def make_tokens(folder: Path) -> None:
    """The vocabulary, and examples of the language model."""
    vocabulary = folder / VOCABULARY
    tokenizer = S3Tokenizer.from_pretrained(folder / "units" / "export").eval()
    for split in SPLITS:
        data = SpeechDataset(speech(folder, split, LOW))
        texts = [fields["text"] for fields in data.fields]
        if not vocabulary.exists():
            make_vocabulary(texts, vocabulary, VOCABULARY_SIZE)
        if not examples(folder, split, "llm").exists():
            copies = COPIES if split == "train" else 0
            write_lm_examples(examples(folder, split, "llm"), texts, encode_units(tokenizer, data), vocabulary,
                              copies=copies, dropout=DROPOUT)


def make_frames(folder: Path) -> None:
    """Examples of the flow."""
    network = folder / "data" / VOICE_NETWORK
    if not network.exists():
        write_voice_network(network)
    speaker, vocoder = CAMPlusSpeaker(network), HiFT()  # for its frames alone
    for split in SPLITS:
        if not examples(folder, split, "flow").exists():
            low, high = SpeechDataset(speech(folder, split, LOW)), SpeechDataset(speech(folder, split, HIGH))
            units = SpeechExamples(examples(folder, split, "llm")).tokens[:len(low)]  # copies come behind
            write_flow_examples(examples(folder, split, "flow"), units, high, vocoder, speaker, low)


def train(folder: Path, part: str, build: Callable[[TrainConfig], Task], files: tuple[Path, Path],
          overrides: list[str]) -> None:
    """Train a part to the end of its settings, from where it stands."""
    config = load_config(CONFIGS / f"small_cosyvoice_{part}.yaml",
                         [f"data={files[0]}", f"validation={files[1]}", *overrides])
    Trainer(build(config), config, folder / part, resume=True).run()


def evaluate(folder: Path, sentences: Path, count: int, transcript: bool) -> None:
    """Say test sentences through the public pipeline, print what Whisper base understands, and keep the clips."""
    pipeline, voice = load_release_folder(folder / "release")
    pipeline.set_progress_bar_config(disable=True)
    voice = voice if transcript else replace(voice, text=None)
    speak = our_voice(pipeline, 0, voice=voice)
    spoken: list[tuple[np.ndarray, int]] = []

    def keep(text: str) -> tuple[np.ndarray, int]:
        spoken.append(speak(text))
        return spoken[-1]

    result = hear_words(keep, read_test_sentences(sentences, "test", count))
    for index, (audio, rate) in enumerate(spoken):
        write_audio(folder / "spoken" / f"{index:03d}.wav", audio, rate)
    for row in result["rows"]:
        print(f"{row['errors']:3d} of {row['words']:2d}  {row['text']}\n           {row['heard']}")
    print(f"WER {100 * result['wer']:.1f} % on {len(spoken)} test sentences, {result['seconds']:.1f} s of speech, "
          f"real-time factor {result['real_time_factor']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sentences", type=Path, help="the .csv")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of everything")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="those to do (default: all)")
    parser.add_argument("--count", type=int, default=20, help="test sentences to evaluate on (default 20)")
    parser.add_argument("--transcript", action="store_true", help="evaluate with the words of the voice's recording, "
                                                                  "which is then continued")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings that replace the YAML's")
    arguments = parser.parse_args()
    folder = arguments.output
    for stage in arguments.stages:
        print(f"{stage} ...", flush=True)
        if stage == "data":
            make_data(folder, arguments.sentences)
        elif stage == "tokens":
            make_tokens(folder)
        elif stage == "frames":
            make_frames(folder)
        elif stage == "evaluate":
            evaluate(folder, arguments.sentences, arguments.count, arguments.transcript)
        elif stage == "folder":
            voice = SpeechDataset(speech(folder, "val", HIGH))
            best = int((voice.lengths - VOICE_SECONDS * HIGH).abs().argmin())
            exports = {part: folder / part / "export" for part in PARTS}
            write_release_folder(folder / "release", exports, folder / VOCABULARY,
                                 (voice.clip(best), HIGH, voice.fields[best]["text"]))
        else:
            rate = {"units": LOW, "hift": HIGH}.get(stage)
            files = tuple(speech(folder, split, rate) if rate else examples(folder, split, stage) for split in SPLITS)
            train(folder, stage, codec_task if rate else speech_generator_task, files, arguments.set)


if __name__ == "__main__":
    run_command(main)
