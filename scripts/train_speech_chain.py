"""Train a small CosyVoice 2 from sentences, all its parts, and write it in the layout of the authors' release.

Each stage is done when its result is there, and a run that was stopped goes on, so the same command continues. The
sentences are a .csv with the columns text, phonemes and split, spoken by the voice of hibari-tts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from photophone.codecs.hift.model import HiFT
from photophone.codecs.speech_units.campplus import CAMPlusSpeaker
from photophone.codecs.speech_units.onnx_write import write_voice_network
from photophone.codecs.speech_units.s3 import S3Tokenizer
from photophone.core.command import run_command
from photophone.core.tokens import Tokens
from photophone.data.audio import write_audio
from photophone.data.speech import SpeechDataset, prepare_speech, resample_prepared
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
    without_pauses,
    write_flow_examples,
    write_lm_examples,
    write_release_folder,
)
from photophone.training.tasks.guided_lm import guides_of

SCRIPTS = Path(__file__).parent
CONFIGS = SCRIPTS.parent / "configs"
SPLITS = ("train", "val")
STAGES = ("data", "units", "tokens", "frames", "llm", "flow", "hift", "folder", "evaluate")
HIGH, LOW = 24000, 16000
VOCABULARY_SIZE, UNIT_SECONDS = 768, 0.04
VOICE_SECONDS = 3
"""Of the recording that the chain speaks with, about."""
COPIES, DROPOUT = 1, 0.1
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
    """The vocabulary, the units of all clips, and examples of the language model."""
    vocabulary = folder / VOCABULARY
    tokenizer = S3Tokenizer.from_pretrained(folder / "units" / "export").eval()
    for split in SPLITS:
        if examples(folder, split, "llm").exists():
            continue
        data = SpeechDataset(speech(folder, split, LOW))
        texts = [fields["text"] for fields in data.fields]
        if not vocabulary.exists():
            make_vocabulary(texts, vocabulary, VOCABULARY_SIZE)
        units = encode_units(tokenizer, data)
        Tokens(pad_sequence(units, batch_first=True), torch.tensor([len(row) for row in units])).save(
            folder / "data" / f"units-{split}.safetensors")
        write_lm_examples(examples(folder, split, "llm"), data.fields, units, without_pauses(units, data, UNIT_SECONDS),
                          vocabulary, seconds=UNIT_SECONDS, copies=COPIES if split == "train" else 0, dropout=DROPOUT)


def make_frames(folder: Path) -> None:
    """Examples of the flow."""
    network = folder / "data" / VOICE_NETWORK
    if not network.exists():
        write_voice_network(network)
    speaker, vocoder = CAMPlusSpeaker(network), HiFT()  # for its frames alone
    for split in SPLITS:
        if examples(folder, split, "flow").exists():
            continue
        low, high = SpeechDataset(speech(folder, split, LOW)), SpeechDataset(speech(folder, split, HIGH))
        tokens = Tokens.load(folder / "data" / f"units-{split}.safetensors")
        units = [row[mask] for row, mask in zip(tokens.values, tokens.mask, strict=True)]
        write_flow_examples(examples(folder, split, "flow"), units, without_pauses(units, low, UNIT_SECONDS), high,
                            vocoder, speaker, low)


def train(folder: Path, part: str, script: str, files: tuple[Path, Path], overrides: list[str]) -> None:
    """Train a part to the end of its settings, from where it stands, in a process of its own: precision is chosen once.

    Raises:
        SystemExit: what the training ended with, when it did not reach its end.
    """
    command = [sys.executable, str(SCRIPTS / script), "--config", str(CONFIGS / f"small_cosyvoice_{part}.yaml"),
               "--output", str(folder / part), "--resume", f"data={files[0]}", f"validation={files[1]}", *overrides]
    ended = subprocess.run(command, check=False).returncode
    if ended:
        sys.exit(ended)


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
            guides = [f"task.guides=[{guides_of(files[0])}]"] if stage == "llm" else []
            train(folder, stage, "train_codec.py" if rate else "train_tts.py", files, [*guides, *arguments.set])


if __name__ == "__main__":
    run_command(main)
