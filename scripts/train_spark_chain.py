"""Train a small Spark-TTS from sentences, all its parts, and write it in the layout of the authors' release.

Each stage is done when its result is there, and a run that was stopped goes on, so the same command continues. The
sentences are a .csv with the columns text, phonemes and split, spoken by the voice of hibari-tts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.codecs.bicodec.model import BiCodec
from photophone.core.command import run_command
from photophone.data.speech import SpeechDataset, prepare_speech
from photophone.evaluation.tasks.speech import our_voice, read_test_sentences
from photophone.text.phonemes import phonemize
from photophone.text.sparktts import VoiceAttributes
from photophone.training.cosyvoice_chain import hear_words
from photophone.training.loop.config import load_config
from photophone.training.loop.trainer import Trainer
from photophone.training.spark_chain import (
    load_release,
    make_vocabulary,
    write_release,
    write_spark_examples,
)
from photophone.training.tasks.guided_lm import guides_of
from photophone.training.tasks.speech_recipes import codec_task, speech_generator_task

CONFIGS = Path(__file__).parents[1] / "configs"
SPLITS = ("train", "val")
STAGES = ("data", "units", "tokens", "llm", "waves", "folder", "evaluate")
VOCABULARY_SIZE = 1400
GENDER = "female"
"""Of the voice of hibari-tts."""


def speech(folder: Path, split: str) -> Path:
    """The prepared file of a split."""
    return folder / "data" / f"voice-{split}.safetensors"


def examples(folder: Path, split: str) -> Path:
    """The examples of the language model."""
    return folder / "data" / f"spark-{split}.safetensors"


def make_tokens(folder: Path) -> None:
    """The vocabulary, and examples of the language model."""
    codec, vocabulary = BiCodec.from_pretrained(folder / "units" / "export").eval(), folder / "vocabulary"
    for split in SPLITS:
        data = SpeechDataset(speech(folder, split))
        if not vocabulary.exists():
            make_vocabulary(vocabulary, data, codec, VOCABULARY_SIZE)
        if not examples(folder, split).exists():
            write_spark_examples(examples(folder, split), data, codec, vocabulary, GENDER)


def train(folder: Path, part: str, settings: list[str]) -> None:
    """Train a part to the end of its settings, from where it stands."""
    files = examples if part == "llm" else speech
    named = [f"data={files(folder, 'train')}", f"validation={files(folder, 'val')}"]
    if part == "llm":
        named.append(f"task.guides=[{guides_of(examples(folder, 'train'))}]")
    if part == "waves":
        named.append(f"init_from={folder / 'units' / 'export'}")
    config = load_config(CONFIGS / f"small_sparktts_{part}.yaml", [*named, *settings])
    task = speech_generator_task(config) if part == "llm" else codec_task(config)
    Trainer(task, config, folder / part, resume=True).run()


def evaluate(folder: Path, sentences: Path, count: int) -> None:
    """Say test sentences through the public pipeline, and print what Whisper base understands."""
    pipeline = load_release(folder / "release")
    pipeline.set_progress_bar_config(disable=True)
    result = hear_words(our_voice(pipeline, 0, voice=VoiceAttributes(GENDER)),
                        read_test_sentences(sentences, "test", count))
    for row in result["rows"]:
        print(f"{row['errors']:3d} of {row['words']:2d}  {row['text']}\n           {row['heard']}")
    print(f"WER {100 * result['wer']:.1f} % on {count} test sentences, {result['seconds']:.1f} s of speech")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sentences", type=Path, help="the .csv")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of everything")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="those to do (default: all)")
    parser.add_argument("--count", type=int, default=20, help="test sentences to evaluate on (default 20)")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="settings that replace the YAML's")
    arguments = parser.parse_args()
    folder = arguments.output
    for stage in arguments.stages:
        print(f"{stage} ...", flush=True)
        if stage == "data":
            for split in SPLITS:
                if not speech(folder, split).exists():
                    prepare_speech([arguments.sentences], speech(folder, split), 16000, split, phonemize=phonemize)
        elif stage == "tokens":
            make_tokens(folder)
        elif stage == "folder":
            write_release(folder / "release", folder / "llm" / "export", folder / "waves" / "export",
                          folder / "vocabulary")
        elif stage == "evaluate":
            evaluate(folder, arguments.sentences, arguments.count)
        else:
            train(folder, stage, arguments.set)


if __name__ == "__main__":
    run_command(main)
