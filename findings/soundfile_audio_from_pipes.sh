#!/usr/bin/env bash
# soundfile gives a twelfth of an MP3 of variable bit rate that ffmpeg wrote into a pipe, without an error, and cannot read
# a FLAC from there at all.
#
# Into a pipe ffmpeg cannot go back to write how long the file became. The MP3's first frame then tells of fewer frames
# than follow, and libsndfile believes it: info and read agree on 0.26 s of 3 s. The FLAC leaves its number of samples open,
# as the format allows; libsndfile then counts 2**63 - 1, and read asks for an array of that size.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2) and the ffmpeg 7.0.2 of imageio-ffmpeg 0.6.0: MP3 of variable bit rate
# 0.258 s, of constant bit rate 3.05 s, FLAC ValueError "array is too big".
# Read in blocks it ends in "Internal psf_fseek() failed", because soundfile seeks behind every block.
#
# For users: read such files by another decoder (PyAV, ffmpeg), or let ffmpeg write into a file.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 imageio-ffmpeg==0.6.0

cat > "$folder/look.py" <<'PY'
import io
import subprocess

import imageio_ffmpeg
import soundfile

TONE = ["-f", "lavfi", "-i", "sine=frequency=220:duration=3:sample_rate=24000"]


def piped(*options: str) -> io.BytesIO:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *TONE, *options, "-"]
    return io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)


def seconds(file: io.BytesIO) -> float:
    audio, rate = soundfile.read(file)
    return len(audio) / rate


variable, constant = seconds(piped("-f", "mp3", "-q:a", "4")), seconds(piped("-f", "mp3"))
print(f"MP3 of 3 s: variable bit rate {variable:.3f} s, constant {constant:.3f} s")
assert variable < 0.5 and constant > 2.9

flac = piped("-f", "flac")
assert soundfile.info(flac).frames == 2**63 - 1
flac.seek(0)
try:
    soundfile.read(flac)
    raise SystemExit("the FLAC could be read")
except ValueError as error:
    print("FLAC:", error)
    assert "too big" in str(error)
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
