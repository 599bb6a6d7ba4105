#!/usr/bin/env bash
# Opus in MP4, written and read by PyAV, comes back longer than it went in; in Ogg and WebM it does not.
#
# An Opus stream begins with a pre-skip and ends inside a frame. PyAV takes off the pre-skip everywhere, and the rest
# behind the end in Ogg and WebM. In MP4 the length stands in the edit list, which decoding does not apply to the last
# frame although the stream's own duration says the right number: 648 samples of what the encoder filled up with remain,
# and a file that is decoded, encoded and decoded again grows each time.
#
# Seen with av 18.1.0 (PyPI wheel with its own FFmpeg), Python 3.11; 48,000 samples at 48 kHz in frames of 20 ms:
#   ogg 48000, webm 48000, mp4 48648 with a stream duration of 48000
#
# For users: cut to the stream's duration.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy

cat > "$folder/look.py" <<'PY'
import io

import av
import numpy as np

sound = (0.3 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype(np.float32)


def lengths(container):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libopus", rate=48000, layout="mono")
        for start in range(0, len(sound), 960):
            frame = av.AudioFrame.from_ndarray(sound[None, start:start + 960].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as reader:
        told = reader.streams.audio[0].duration
        return sum(frame.samples for frame in reader.decode(audio=0)), told


found = {container: lengths(container) for container in ("ogg", "webm", "mp4")}
print(found)
assert found["ogg"][0] == found["webm"][0] == 48000
assert found["mp4"] == (48648, 48000)
PY
cd "$folder"
"$folder/env/bin/python" "$folder/look.py"
