"""Forty trainings that are killed at random moments, a third of them while they save or export: `make soak`."""

import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from speech import SMALL_CODEC, SMALL_SPEECH, small_codec, write_speech
from tiny import SMALL_TOKENIZER, write_prepared

from photophone.core.files import atomic_write
from photophone.core.tokens import Tokens
from photophone.data.speech import SpeechDataset

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "scripts"
RUNS = int(os.environ.get("PHOTOPHONE_KILLS", "40"))
SMALL_ENHANCER = {"channels": [8, 12, 16], "squeeze": 4, "width": 48, "hidden": 64, "depth": 2, "token_depth": 1}
KINDS = {
    "train_image_tokenizer": {"model": SMALL_TOKENIZER},
    "train_codec": {"model": SMALL_CODEC, "task": {"crop_seconds": 0.3}},
    "train_tts": {"model": SMALL_SPEECH, "task": {"codec": "codec", "tokens": "tokens.safetensors"}},
    "train_enhancer": {"model": SMALL_ENHANCER,
                       "task": {"codec": "codec", "noise": "voice.safetensors",
                                "mixing": {"seconds": 0.5, "rooms": 4}}},
}
SETTINGS = {"steps": 30, "batch_size": 4, "warmup_steps": 5, "log_every": 5, "validate_every": 5, "preview_every": 0,
            "checkpoint_every": 5}


def train(script, arguments, folder):
    """What the command does, in a process that has the heavy modules already."""
    os.chdir(folder)
    os.setpgrp()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(SCRIPTS.parent))
    torch.set_num_threads(1)
    runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with prepared data, the settings of each kind of training, and an undisturbed run of each."""
    folder = tmp_path_factory.mktemp("soak")
    write_prepared(folder / "icons.safetensors")
    data = SpeechDataset(write_speech(folder / "voice.safetensors"))
    codec = small_codec()
    codec.save_pretrained(folder / "codec")
    rows = [codec.encode(data.clip(i)[None, None]).values[0] for i in range(len(data))]
    lengths = torch.tensor([len(row) for row in rows])
    Tokens(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths).save(folder / "tokens.safetensors")
    for script, settings in KINDS.items():
        prepared = "icons" if script == "train_image_tokenizer" else "voice"
        with atomic_write(folder / f"{script}.yaml") as partial:
            partial.write_text(yaml.safe_dump({"data": f"{prepared}.safetensors", **SETTINGS, **settings}))
    return folder


@pytest.fixture(scope="module")
def start(place):
    """``start(script, output, *more)``: a process of its own for a training."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["photophone.training.loop.command", "photophone.training.tasks.speech_recipes",
                                    "photophone.training.tasks.image_tokenizer"])
    processes = []

    def call(script, output, *more):
        arguments = ["--config", f"{script}.yaml", "--output", output, *more]
        process = context.Process(target=train, args=(script, arguments, place), daemon=True)
        process.start()
        processes.append(process)
        return process

    yield call
    for process in processes:
        process.kill()


@pytest.fixture(scope="module")
def undisturbed(place, start):
    """Seconds that a run takes, and the bytes of its export, by script."""
    found = {}
    for script in KINDS:
        began = time.monotonic()
        process = start(script, f"whole-{script}")
        process.join()
        assert process.exitcode == 0, script
        found[script] = time.monotonic() - began, exported(place / f"whole-{script}")
        assert found[script][1], script
    return found


def exported(folder):
    files = sorted(path for path in (folder / "export").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def wait_for_saving(process, output, deadline):
    """Until a checkpoint or an export is being written, or exchanged with the old one."""
    while process.is_alive() and time.monotonic() < deadline:
        for folder in (output, output / "checkpoints"):
            if folder.is_dir() and any(name.startswith(".") and name != ".lock" for name in os.listdir(folder)):
                return
        time.sleep(0.0005)


@pytest.mark.parametrize("number", range(RUNS))
def test_a_killed_training_ends_as_an_undisturbed_one(place, start, undisturbed, number):
    rng, script = random.Random(number), list(KINDS)[number % len(KINDS)]
    seconds, whole = undisturbed[script]
    output, kills = place / f"run-{number}", 0
    for _ in range(rng.choice((1, 1, 2, 3))):
        process = start(script, output.name, "--resume")
        if number % 3 == 0:
            for _ in range(rng.randint(1, 4)):
                wait_for_saving(process, output, time.monotonic() + 3 * seconds)
                time.sleep(rng.uniform(0, 0.02))
        else:
            process.join(rng.uniform(0.1, 1.1) * seconds)
        kills += process.is_alive()
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
    last = start(script, output.name, "--resume")
    last.join(30 * seconds + 60)
    assert last.exitcode == 0
    assert (exported(output) == whole) is True, f"{script} after {kills} kills"
    left = [path.name for folder in (output, output / "checkpoints") for path in folder.iterdir()]
    assert [name for name in left if name.startswith(".")] in ([], [".lock"]), left
