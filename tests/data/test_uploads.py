"""Decoding what strangers upload: the same pixels and samples, refusals, limits, and an end with its owner."""

import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image

from photophone.data import uploads
from photophone.data.audio_stream import AudioReader
from photophone.data.image_decoding import decode_image
from photophone.data.uploads import run_decoder


def test_it_gives_what_the_decoders_give():
    picture, sound = hostile.picture(), hostile.sound(channels=2)
    pixels, none = run_decoder("image", picture, 16)
    np.testing.assert_array_equal(pixels, decode_image(picture, 16))
    samples, rate = run_decoder("audio", sound, 0)
    np.testing.assert_array_equal(samples, np.concatenate(list(AudioReader(sound).blocks()), axis=1))
    assert none == 0 and rate == 16_000 and samples.shape[0] == 2


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


def test_masks_are_read_by_what_is_transparent_or_else_by_what_is_white():
    left = np.zeros((16, 16), bool)
    left[:, :8] = True
    clear = np.full((16, 16, 4), 255, np.uint8)
    clear[left, 3] = 0
    white = np.where(left, 255, 0).astype(np.uint8)
    solid = np.dstack([white] * 3 + [np.full((16, 16), 255, np.uint8)])
    for image in (Image.fromarray(clear), Image.fromarray(white), Image.fromarray(solid),
                  Image.fromarray(clear).convert("LA"), Image.fromarray(white).convert("1")):
        found, _ = run_decoder("mask", encoded(image), 16)
        np.testing.assert_array_equal(found[..., 0] > 127, left, err_msg=image.mode)


def test_every_bad_upload_is_refused_in_a_sentence():
    cases = list(hostile.uploads())
    assert len(cases) > 90
    for kind, name, data in cases:
        began = time.monotonic()
        with pytest.raises(ValueError, match=".") as told:
            run_decoder("image" if kind == "image" else "audio", data, 16)
        words = str(told.value)
        assert "\n" not in words and len(words) <= 300 and "Traceback" not in words and " /" not in words, (name, words)
        assert time.monotonic() - began < 10


def test_several_threads_get_their_own():
    rates = [8000 + 100 * number for number in range(12)]
    sounds = [hostile.sound(rate=rate, seconds=0.1) for rate in rates]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda data: run_decoder("audio", data, 0), sounds))
    assert [rate for _, rate in made] == rates and all(len(audio[0]) == rate // 10 for audio, rate in made)


def test_a_decoder_that_is_gone_is_started_again():
    run_decoder("image", hostile.picture(), 16)
    first = uploads._DECODERS[os.getpid()].process
    first.kill()
    assert run_decoder("image", hostile.picture(), 16)[0].shape == (16, 16, 3)
    assert uploads._DECODERS[os.getpid()].process.pid != first.pid


def test_no_file_stays_open():
    run_decoder("image", hostile.picture(), 16)
    opened = len(os.listdir("/proc/self/fd"))
    for data in (hostile.picture(), b"x", b""):
        try:
            run_decoder("image", data, 16)
        except ValueError:
            continue
    assert len(os.listdir("/proc/self/fd")) == opened


def test_what_takes_too_long_is_told(monkeypatch):
    monkeypatch.setattr(uploads, "DECODER_WALL_SECONDS", 0.0)
    with pytest.raises(ValueError, match="took too long"):
        run_decoder("audio", hostile.sound(seconds=20), 0)


SCRIPT = """
import os, sys
from photophone.data import uploads
sys.path.insert(0, sys.argv[1])
import hostile
uploads.run_decoder("image", hostile.picture(), 16)
decoder = uploads._DECODERS[os.getpid()].process.pid
print(decoder, "SECRET" in open(f"/proc/{decoder}/environ").read(), flush=True)
os.kill(os.getpid(), 9)
"""


def test_it_knows_no_secrets_and_ends_with_its_owner():
    tests = Path(__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", SCRIPT, tests], capture_output=True, text=True, check=False, env={
        **os.environ, "PYTHONPATH": str(tests.parent), "TOKEN": "SECRET"})
    decoder, knows = ran.stdout.split()
    assert ran.returncode == -9 and knows == "False"
    limit = time.monotonic() + 30
    while Path(f"/proc/{decoder}").exists() and "Z" not in Path(f"/proc/{decoder}/stat").read_text().split()[2]:
        assert time.monotonic() < limit
        time.sleep(0.05)


LIMITED = """
import resource, signal
from photophone.data import upload_decoder
upload_decoder.limit_process()
for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE"):
    print(*resource.getrlimit(getattr(resource, name)))
try:
    bytearray(2_000_000_000)
except MemoryError:
    print("no memory")
"""


def test_the_process_of_an_upload_is_bounded():
    ran = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:5] == ["1200000000 1200000000", "4 4", "0 0", "16 16", "no memory"]
