"""Find the time of each phoneme of recordings, and the clips that do not fit their text.

Reads a file of prepare_speech.py, and writes one like it with the times, without the clips that do not fit, beside it
NAME.left_out.tsv. With --check: compares with times that are known, such as those of the teacher voice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from photophone.core.command import run_command
from photophone.core.files import atomic_write, check_targets
from photophone.data.speech import SpeechDataset
from photophone.loading.registry import PRETRAINED
from photophone.training.alignment.clips import align_prepared, alignment_picture
from photophone.training.alignment.lead import clips_with_times, sound_lead
from photophone.training.alignment.measure import boundary_report
from photophone.training.alignment.model import PhonemeAligner

TOLD = 10
"""Clips that are left out and named."""


def write_alignments(arguments: argparse.Namespace, aligner: PhonemeAligner) -> None:
    """The prepared file with times, the list of what is left out, and a picture."""
    listed = arguments.output.with_suffix(".left_out.tsv")
    targets = [arguments.output, arguments.output.with_suffix(".jsonl"), listed]
    check_targets(targets + ([arguments.picture] if arguments.picture else []), arguments.overwrite)
    left_out = align_prepared(aligner, arguments.data, arguments.output, arguments.worst)
    lines = [f"{name}\t{'' if fit is None else f'{fit:.2f}'}\t{why}" for name, (fit, why) in left_out.items()]
    with atomic_write(listed) as partial:
        partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for line in lines[:TOLD]:
        print("left out", line.replace("\t", "  "))
    data = SpeechDataset(arguments.output)
    if arguments.picture:
        alignment_picture(data, arguments.picture)
    lead = sound_lead(clips_with_times(data), data.sample_rate)
    print(f"sounds are heard {1000 * lead:.0f} ms before their times: sound_lead {lead:g}")
    print(f"{len(data)} clips with the times of their phonemes in {arguments.output}, {len(left_out)} left out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="prepared .safetensors of speech with texts")
    parser.add_argument("-o", "--output", type=Path, help="the .safetensors file to write")
    parser.add_argument("-a", "--aligner", type=Path, default=PRETRAINED / "tiny-aligner",
                        help="folder of train_aligner.py (default: the one in the package)")
    parser.add_argument("--worst", type=float, help="smallest fit of a clip that stays, 0 is best (default: a little "
                                                    "under the median of all)")
    parser.add_argument("--picture", type=Path, help="PNG of the first clips, with a line where each phoneme ends")
    parser.add_argument("--check", action="store_true", help="print errors against the times that the data knows")
    parser.add_argument("--noise", type=Path, help="with --check: prepared noises to add")
    parser.add_argument("--snr", type=float, default=10.0, help="with --noise: in dB (default 10)")
    parser.add_argument("--limit", type=int, help="with --check: at most so many clips")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    if arguments.check == (arguments.output is not None):
        parser.error("give either --output or --check")
    aligner = PhonemeAligner.from_pretrained(arguments.aligner)
    if arguments.check:
        noise = SpeechDataset(arguments.noise) if arguments.noise else None
        print(json.dumps(boundary_report(aligner, SpeechDataset(arguments.data), noise, arguments.snr,
                                         arguments.limit)))
    else:
        write_alignments(arguments, aligner)


if __name__ == "__main__":
    run_command(main)
