"""Let named voices of teachers speak sentences, with the time of every phoneme: training data for several voices.

The voice "heart" is that of hibari-tts; those of Kokoro need a folder of install_kokoro.py. Sentences are dealt out to
the voices in turn, those of medium length first. Parts are written one by one; the same command goes on behind those
that are there, and with more --minutes it goes on further.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.core.command import run_command
from photophone.data.speech_sources import read_sentences
from photophone.data.spoken_parts import Plan, speak_parts
from photophone.data.teachers import Teachers
from photophone.text.phonemes import phonemize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sentences", type=Path, help="a .csv with the column text, perhaps phonemes "
                                                           "(American) and split")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the parts; training reads it")
    parser.add_argument("--voice", action="append", required=True, metavar="NAME",
                        help="heart, or one of Kokoro's such as am_michael; again for more")
    parser.add_argument("--kokoro", type=Path, help="folder of install_kokoro.py")
    parser.add_argument("--split", help="rows to take (train, val, test); default all")
    parser.add_argument("--minutes", type=float, help="stop when every voice has so many (default: when every voice "
                                                      "has spoken all sentences)")
    parser.add_argument("--sample-rate", type=int, default=24000, help="in Hz (default 24000)")
    parser.add_argument("--part", type=int, default=64, help="sentences of a part (default 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the sentences")
    arguments = parser.parse_args()
    sentences = list(read_sentences(arguments.sentences, arguments.split, phonemize=lambda text: ""))
    plan = Plan(sentences, arguments.voice, arguments.sample_rate, arguments.part, arguments.seed)
    speak = Teachers(arguments.voice, phonemize, arguments.kokoro)
    for speaker, (clips, seconds) in speak_parts(plan, arguments.output, speak, arguments.minutes).items():
        print(f"{speaker}: {clips} clips, {seconds / 60:.1f} min")
    refused = sum(len(path.read_text(encoding="utf-8").splitlines())
                  for path in arguments.output.glob("part-*.refused.tsv"))
    print(f"{refused} refused, in {arguments.output}/part-*.refused.tsv")


if __name__ == "__main__":
    run_command(main)
