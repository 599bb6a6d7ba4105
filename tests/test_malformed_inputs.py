"""Malformed inputs over all commands: they end with 0 or 2, soon, in little memory, without a traceback."""

import contextlib
import multiprocessing
import os
import resource
import runpy
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from malformed import Cases
from speech import SMALL_CODEC, small_codec, small_speech
from tiny import SMALL_TOKENIZER, shake, small_pipeline, write_prepared

from photophone import (
    Latent1DTokenizer,
    SpeechEnhancementPipeline,
    SpeechEnhancer,
    StreamCodec,
    TextToSpeechPipeline,
)

SECONDS, MEGABYTES = 20, 1024
PATIENCE = 300  # seconds, for machines that are busy
QUICK, MANY = 200, int(os.environ.get("PHOTOPHONE_MALFORMED", "2000"))
SCRIPTS = Path(__file__).parents[1] / "scripts"
SMALL_ENHANCER = {"channels": [8, 12, 16], "squeeze": 4, "width": 48, "hidden": 64, "depth": 2, "token_depth": 1,
                  "token_dim": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Saved small models of every kind, tokens of two of them, and prepared data."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    codec, tokenizer = small_codec(), shake(Latent1DTokenizer(**SMALL_TOKENIZER))
    TextToSpeechPipeline(small_speech(), StreamCodec(**SMALL_CODEC)).save_pretrained(folder / "voice")
    small_pipeline().save_pretrained(folder / "pictures")
    SpeechEnhancementPipeline(SpeechEnhancer(**SMALL_ENHANCER)).save_pretrained(folder / "enhancer")
    codec.save_pretrained(folder / "codec")
    tokenizer.save_pretrained(folder / "tokenizer")
    codec.encode(0.1 * torch.randn(1, 1, 4000)).save(folder / "speech.safetensors")
    tokenizer.encode(torch.rand(1, 3, tokenizer.image_size, tokenizer.image_size)).save(folder / "picture.safetensors")
    write_prepared(folder / "icons.safetensors")
    return folder


def run(arguments, folder, answer):
    """The command in a process that has the heavy modules already; sends its seconds and its largest memory in MB."""
    os.chdir(folder)
    torch.set_num_threads(1)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    sys.argv = [arguments[0], *arguments[1:]]
    try:
        if arguments[0].startswith("train_"):
            runpy.run_path(str(SCRIPTS / f"{arguments[0]}.py"), run_name="__main__")
        else:
            from photophone.cli import main
            sys.argv = ["photophone", *arguments]
            main()
    finally:
        used = resource.getrusage(resource.RUSAGE_SELF)
        answer.send((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))


def outcome(context, arguments, folder):
    """(exit code or "no end", seconds of the processor, megabytes, what it printed)."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run, args=(arguments, folder, theirs), daemon=True)
    process.start()
    theirs.close()
    process.join(PATIENCE)
    code, (seconds, memory) = process.exitcode, (0.0, 0.0)
    process.kill()
    if ours.poll():
        with contextlib.suppress(EOFError):
            seconds, memory = ours.recv()
    printed = "".join((folder / name).read_text(errors="replace") for name in ("stdout", "stderr")
                      if (folder / name).exists())
    return "no end" if code is None else code, seconds, memory, printed


def check(place, numbers):
    """Every case that does not end as it must, in words."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["photophone.cli", "photophone.pipelines.text_to_speech",
                                    "photophone.pipelines.text_to_image", "photophone.pipelines.speech_enhancement",
                                    "photophone.training.loop.command", "photophone.training.tasks.image_recipes",
                                    "photophone.training.tasks.image_tokenizer"])
    cases, wrong, ends = Cases(place), [], {0: 0, 2: 0}
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            arguments = cases.make(number, Path(name))
            code, seconds, memory, printed = outcome(context, arguments, Path(name))
            left = [str(path.relative_to(name)) for path in Path(name).rglob("*.part")]
        if code in (0, 2) and seconds < SECONDS and memory < MEGABYTES and "Traceback" not in printed and not left:
            ends[code] += 1
        else:
            told = printed.strip().splitlines()[-1:] or [""]
            wrong.append(f"{number}: exit {code}, {seconds:.1f} s, {memory:.0f} MB, left {left}: {told[0][:300]} "
                         f"[{' '.join(arguments)[:200]}]")
    print(f"{ends[0]} read, {ends[2]} refused")
    return wrong


def test_two_hundred_malformed_inputs_are_read_or_refused(place):
    assert check(place, range(QUICK)) == []


@pytest.mark.slow
def test_two_thousand_malformed_inputs_are_read_or_refused(place):
    assert check(place, range(QUICK, QUICK + MANY)) == []
