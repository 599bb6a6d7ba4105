"""Turn recordings of noise (parquet files or folders) into the training format, long ones too."""

from __future__ import annotations

import argparse
from pathlib import Path

from photophone.core.command import run_command
from photophone.core.files import check_targets
from photophone.core.limits import MAX_NOISE_SECONDS
from photophone.data.speech import prepare_speech


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path, help="parquet files with a column audio, or folders")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--sample-rate", type=int, default=16000, help="in Hz (default 16000)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    check_targets([arguments.output, arguments.output.with_suffix(".jsonl")], arguments.overwrite)
    written, skipped = prepare_speech(arguments.sources, arguments.output, arguments.sample_rate,
                                      max_seconds=MAX_NOISE_SECONDS)
    print(f"{written} noises at {arguments.sample_rate} Hz in {arguments.output}, {skipped} corrupt skipped")


if __name__ == "__main__":
    run_command(main)
