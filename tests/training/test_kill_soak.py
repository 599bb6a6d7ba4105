"""Trainings that are killed, ended or run out of disk at random moments, and end as if nothing had been: `make soak`.

Forty are killed, a third of them while they save or export; ten are ended by TERM; ten fill their disk.
"""

import contextlib
import json
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
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
KILLS, OTHERS = int(os.environ.get("PHOTOPHONE_KILLS", "40")), 10
SMALL_ENHANCER = {"channels": [8, 12, 16], "squeeze": 4, "width": 48, "hidden": 64, "depth": 2, "token_depth": 1}
KINDS = {
    "train_image_tokenizer": {"model": SMALL_TOKENIZER},
    "train_codec": {"model": SMALL_CODEC, "task": {"crop_seconds": 0.3}},
    "train_tts": {"model": SMALL_SPEECH, "task": {"codec": "codec", "tokens": "tokens.safetensors"}},
    "train_enhancer": {"model": SMALL_ENHANCER,
                       "task": {"codec": "codec", "noise": "voice.safetensors",
                                "mixing": {"seconds": 0.5, "rooms": 4}}},
}
PATIENCE = 600  # seconds, for machines that are busy
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
    start("train_codec", "warm-up", "--help").join()  # the modules are loaded
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


@pytest.mark.parametrize("number", range(KILLS))
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
    check_end(start(script, output.name, "--resume"), output, whole, f"{script} after {kills} kills")


def check_end(process, output, whole, what):
    """The training ends well, with the export of an undisturbed one, and leaves nothing beside it."""
    process.join(PATIENCE)
    assert process.exitcode == 0, what
    assert (exported(output) == whole) is True, what
    left = [path.name for folder in (output, output / "checkpoints") for path in folder.iterdir()]
    assert [name for name in left if name.startswith(".")] in ([], [".lock"]), left


@pytest.mark.parametrize("number", range(OTHERS))
def test_a_training_that_is_told_to_end_loses_no_step(place, start, undisturbed, number):
    rng, script = random.Random(number), list(KINDS)[number % len(KINDS)]
    seconds, whole = undisturbed[script]
    output = place / f"ended-{number}"
    process = start(script, output.name, "--resume")
    while process.is_alive() and not (output / "metrics.jsonl").exists():  # before, there is nothing to save
        time.sleep(0.001)
    process.join(rng.uniform(0, 0.5) * seconds)
    with contextlib.suppress(ProcessLookupError):  # it was done before
        os.kill(process.pid, signal.SIGTERM)
    process.join(PATIENCE)
    assert process.exitcode in (0, 128 + signal.SIGTERM)
    lines = (output / "metrics.jsonl").read_text().splitlines() if (output / "metrics.jsonl").exists() else []
    steps = [int(path.name[5:]) for path in output.glob("checkpoints/step-*")]
    assert not lines or max(steps) >= json.loads(lines[-1])["step"]
    last = max(steps, default=0)
    check_end(start(script, output.name, "--resume"), output, whole, f"{script} after TERM at step {last}")


@pytest.fixture
def disk(place, request):
    """A disk of a few hundred kB to a few MB in ``place``."""
    folder = place / f"disk-{request.node.callspec.params['number']}"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("disks can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("number", range(OTHERS))
def test_a_training_whose_disk_fills_up_goes_on_when_there_is_room(place, start, undisturbed, disk, number):
    rng, script = random.Random(number), list(KINDS)[number % len(KINDS)]
    _, whole = undisturbed[script]
    process = start(script, f"{disk.name}/run", "--resume")
    if number % 2:  # another program takes what is left, once something was saved
        while process.is_alive() and not list(disk.glob("run/checkpoints/step-*")):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.5))
        with (disk / "filling").open("wb", buffering=0) as filling, contextlib.suppress(OSError):
            while True:
                filling.write(bytes(4096))
    process.join(PATIENCE)
    assert process.exitcode in (0, 2), script  # 0: it was done before
    assert not list(disk.glob("run/**/*.part"))
    subprocess.run(["mount", "-o", "remount,size=300m", disk], check=True)
    check_end(start(script, f"{disk.name}/run", "--resume"), disk / "run", whole, f"{script} on a full disk")
