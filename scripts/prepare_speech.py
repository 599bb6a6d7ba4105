"""Turn recordings (parquet, LJSpeech, LibriTTS or plain folders) or sentences into the training format.

Sentences are a .csv with the column text, perhaps phonemes and split; the voice of hibari-tts speaks them and says how
long each phoneme takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.data.speech import prepare_speech
from photophone.text.phonemes import phonemize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path, help="parquet files, folders, or .csv lists of sentences")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--sample-rate", type=int, default=16000, help="in Hz (default 16000)")
    parser.add_argument("--split", help="rows of a .csv to take (train, val, test); default all")
    arguments = parser.parse_args()
    try:
        written, skipped = prepare_speech(arguments.sources, arguments.output, arguments.sample_rate, arguments.split,
                                          phonemize=phonemize)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{written} clips at {arguments.sample_rate} Hz in {arguments.output}, {skipped} corrupt skipped")


if __name__ == "__main__":
    main()
