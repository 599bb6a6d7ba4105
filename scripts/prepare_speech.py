"""Turn recordings (parquet, LJSpeech, LibriTTS or plain folders) or sentences into the training format.

Sentences are a .csv with the column text, perhaps phonemes and split; the voice of hibari-tts speaks them and says how
long each phoneme takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.core.command import run_command
from photophone.core.files import check_targets
from photophone.data.speech import prepare_speech
from photophone.text.phonemes import phonemize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path, help="parquet files, folders, or .csv lists of sentences")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--sample-rate", type=int, default=16000, help="in Hz (default 16000)")
    parser.add_argument("--split", help="rows of a .csv to take (train, val, test); default all")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    check_targets([arguments.output, arguments.output.with_suffix(".jsonl")], arguments.overwrite)
    written, skipped = prepare_speech(arguments.sources, arguments.output, arguments.sample_rate, arguments.split,
                                      phonemize=phonemize)
    print(f"{written} clips at {arguments.sample_rate} Hz in {arguments.output}, {skipped} corrupt skipped")


if __name__ == "__main__":
    run_command(main)
