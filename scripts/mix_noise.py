"""Mix a recording of speech with one of noise at a signal-to-noise ratio, to try an enhancer."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from photophone.core.command import run_command
from photophone.core.files import check_target
from photophone.data.audio import read_audio
from photophone.data.audio_write import write_pieces
from photophone.data.mixing import scale_to_snr

PEAK = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speech", type=Path, help="recording of one voice")
    parser.add_argument("noise", type=Path, help="recording of noise, repeated where it is shorter")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write; its name says the format")
    parser.add_argument("--snr", type=float, default=5.0, help="of active speech, in dB (default 5)")
    parser.add_argument("--sample-rate", type=int, default=16000, help="in Hz (default 16000)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    rate = arguments.sample_rate
    check_target(arguments.output, arguments.overwrite)
    speech, noise = (read_audio(path, rate)[0] for path in (arguments.speech, arguments.noise))
    noise = np.take(noise, np.arange(len(speech)), mode="wrap")
    mixture = speech + scale_to_snr(speech, noise, arguments.snr, rate)
    mixture = (mixture * (PEAK / np.abs(mixture).max())).astype(np.float32)
    write_pieces(arguments.output, [mixture[None]], rate, 1, overwrite=arguments.overwrite)
    print(f"{len(mixture) / rate:.1f} s at {arguments.snr:g} dB in {arguments.output}")


if __name__ == "__main__":
    run_command(main)
