"""Write a folder as the authors of Spark-TTS publish theirs, of a trained language model and codec."""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.codecs.bicodec.model import BiCodec
from photophone.core.command import run_command
from photophone.core.files import atomic_folder
from photophone.generators.sparktts.model import SparkTTS
from photophone.text.voxcpm import load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", required=True, help="folder of the language model")
    parser.add_argument("--codec", required=True, help="folder of the codec")
    parser.add_argument("--vocabulary", required=True, help="folder of the vocabulary")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace it if it is there")
    arguments = parser.parse_args()
    with atomic_folder(arguments.output, overwrite=arguments.overwrite) as partial:
        SparkTTS.from_pretrained(arguments.lm).save_original(partial / "LLM")
        load_tokenizer(arguments.vocabulary).save_pretrained(partial / "LLM")
        BiCodec.from_pretrained(arguments.codec).save_original(partial)
    print(f"written: {arguments.output}")


if __name__ == "__main__":
    run_command(main)
