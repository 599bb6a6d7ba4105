"""Sixteen visitors for two minutes: `make soak`."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from visitors import IMAGE_DEFAULTS, SPEECH_DEFAULTS, Visitor

from photophone import TextToImagePipeline, TextToSpeechPipeline

VISITORS, SECONDS, WARM_UP, GROWTH_MB = 16, 120, 30, 100
PROMPTS = ["a red apple, 3d emoji", "blue rocket, silhouette icon", "birthday cake, flat emoji"]
TEXTS = ["Who goes there?", "Light carries sound."]


def resident_mb(process):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


@pytest.fixture(scope="module")
def truth():
    """What each request must give: pictures and speech made without the demo."""
    images, speech = (family.from_pretrained(f"photophone/tiny-{name}") for family, name in (
        (TextToImagePipeline, "image"), (TextToSpeechPipeline, "speech")))
    made = {}
    names = "num_inference_steps", "guidance_scale", "temperature"
    image_settings, speech_settings = (dict(zip(names, given)) for given in (IMAGE_DEFAULTS, SPEECH_DEFAULTS))
    for seed, prompt in enumerate(PROMPTS):
        result = images(prompt, generator=torch.Generator().manual_seed(seed), **image_settings)
        made["image", prompt, seed] = np.asarray(result.images[0], float)
    for seed, text in enumerate(TEXTS):
        result = speech(text, generator=torch.Generator().manual_seed(seed), **speech_settings)
        made["speech", text, seed] = result.audio[0]
    return made


def one_visit(address, index, truth, until, ends):
    visitor, wishes = Visitor(address), list(truth)
    turn = index
    while time.monotonic() < until:
        kind, words, seed = wish = wishes[turn % len(wishes)]
        turn += 1
        given = [words, 1, seed, False, *IMAGE_DEFAULTS] if kind == "image" else [words, 1.0, seed, False,
                                                                                 *SPEECH_DEFAULTS]
        state, answer = visitor.call(kind, given)
        if state == "refused" and "full" in str(answer):
            ends.append("busy")
            time.sleep(0.2)
            continue
        if state != "complete":
            ends.append(f"{wish}: {state} {answer}")
            continue
        file = visitor.fetch(answer[0][0]["image"] if kind == "image" else answer[1])
        got = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), float) if kind == "image" else soundfile.read(
            io.BytesIO(file))[0]
        expected, tolerance = truth[wish], 2 if kind == "image" else 2e-3
        same = got.shape == expected.shape and np.abs(got - expected).max() <= tolerance
        ends.append("right" if same else f"{wish}: mixed up")


@pytest.mark.slow
def test_sixteen_visitors_get_their_own_results_and_memory_stays(truth):
    command = [sys.executable, "-m", "photophone.cli", "demo", "--enhance-model", "none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r"http://\S+", process.stdout.readline())[0]
            ends, started, sizes = [], time.monotonic(), {}
            threads = [threading.Thread(target=one_visit, args=(address, index, truth, started + SECONDS, ends))
                       for index in range(VISITORS)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                sizes[time.monotonic() - started] = resident_mb(process)
                time.sleep(2)
            warm = max(size for at, size in sizes.items() if WARM_UP - 10 <= at <= WARM_UP)
            growth = max(sizes.values()) - warm
            print(f"{len(ends)} requests, {ends.count('right')} right, {ends.count('busy')} busy, "
                  f"{warm:.0f} MB warm, {growth:+.0f} MB")
            assert set(ends) <= {"right", "busy"}, [end for end in ends if end not in ("right", "busy")][:5]
            assert ends.count("right") >= VISITORS
            assert growth < GROWTH_MB
        finally:
            os.kill(process.pid, signal.SIGINT)
            process.wait(20)
