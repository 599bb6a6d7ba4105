"""Turn recordings or sentences into the training format.

Recordings are folders (LJSpeech, LibriTTS, LibriSpeech, or audio files with a .txt each), tables that name them (.csv,
.tsv, .jsonl), parquet files or webdataset tars. Sentences are a .csv with the column text, perhaps phonemes and split;
the voice of hibari-tts speaks them and says how long each phoneme takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.core.command import run_command
from photophone.core.files import atomic_write, check_targets
from photophone.data.clip_cleaning import VoiceClips
from photophone.data.speech import SpeechDataset, prepare_speech, speakers_of
from photophone.text.phonemes import phonemize

TOLD = 10
"""Clips that were skipped and are named, and speakers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path, help="folders, tables, parquet files, tars, or .csv lists of "
                                                              "sentences")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--sample-rate", type=int, default=16000, help="in Hz (default 16000)")
    parser.add_argument("--split", help="rows of a .csv to take (train, val, test); default all")
    parser.add_argument("--voice", action="store_true", help="for training a voice: trim silence at the ends, bring "
                                                             "all to one loudness, refuse clips without text, "
                                                             "too long, silent or clipped")
    parser.add_argument("--speaker", help="with --voice: only the clips of this speaker")
    parser.add_argument("--refused", type=Path, help="file to write: each clip that was skipped, a tab, and why")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    if arguments.speaker and not arguments.voice:
        parser.error("--speaker goes with --voice")
    listed = [arguments.refused] if arguments.refused else []
    check_targets([arguments.output, arguments.output.with_suffix(".jsonl"), *listed], arguments.overwrite)
    refused: dict[str, str] = {}
    written, skipped = prepare_speech(arguments.sources, arguments.output, arguments.sample_rate, arguments.split,
                                      phonemize=phonemize, refused=refused,
                                      clean=VoiceClips(arguments.speaker) if arguments.voice else None)
    for name, reason in list(refused.items())[:TOLD]:
        print(f"skipped {name}: {reason}")
    if arguments.refused:
        with atomic_write(arguments.refused) as partial:
            partial.write_text("".join(f"{name}\t{reason}\n" for name, reason in refused.items()), encoding="utf-8")
    data = SpeechDataset(arguments.output)
    for speaker, (clips, seconds) in list(speakers_of(data.fields, data.lengths, data.sample_rate).items())[:TOLD]:
        print(f"{speaker or 'no name'}: {clips} clips, {seconds / 60:.1f} min")
    print(f"{written} clips at {arguments.sample_rate} Hz in {arguments.output}, {skipped} corrupt skipped")


if __name__ == "__main__":
    run_command(main)
