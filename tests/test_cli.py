"""The command line: exit codes, one-line errors, start-up time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from photophone import list_models
from photophone.cli import known_faults
from photophone.kernels.dispatch import OPERATIONS

ROOT = Path(__file__).parents[1]


def python(code):
    """Processor seconds and stdout of a fresh interpreter: unlike wall time, these do not depend on other programs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    output = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, process.returncode, output


def best_of_three(code):
    runs = [python(code) for _ in range(3)]
    assert [code for _, code, _ in runs] == [0, 0, 0]
    return min(seconds for seconds, _, _ in runs), runs[0][2]


def test_importing_is_fast_and_loads_nothing_heavy():
    heavy = ("torch", "diffusers", "transformers", "numpy", "PIL")
    seconds, output = best_of_three(f"import sys, photophone; print([m for m in {heavy} if m in sys.modules])")
    assert output.strip() == "[]" and seconds < 0.5


def test_help_is_fast():
    code = ("import sys; sys.argv = ['photophone', '--help']\nfrom photophone.cli import main\n"
            "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules")
    seconds, output = best_of_three(code)
    assert all(command in output for command in ("image", "models", "convert", "tokenize", "detokenize",
                                                  "evaluate", "doctor")) and seconds < 1.0


@pytest.mark.parametrize("command", [[], ["image"], ["class-image"], ["interleave"], ["models"], ["convert"],
                                     ["tokenize"], ["detokenize"], ["evaluate"], ["evaluate", "image"],
                                     ["evaluate", "codec"], ["encode"], ["decode"], ["doctor"]], ids=" ".join)
def test_every_command_has_help(run, command):
    code, output, _ = run(*command, "--help")
    assert code == 0 and "Usage" in output


def test_models_are_listed(run):
    code, output, _ = run("models")
    assert code == 0 and len(output.splitlines()) == len(list_models())
    assert all(entry.name in output and entry.summary in output for entry in list_models())


def test_one_model_is_shown_in_full(run):
    code, output, _ = run("models", "latent1d-tiny-vq")
    assert code == 0 and "weights_licence" in output and "Apache-2.0" in output
    code, output, _ = run("models", "latent1d-tiny-vq", "--json")
    (entry,) = json.loads(output)
    assert code == 0 and entry["name"] == "latent1d-tiny-vq" and entry["config"]["quantizer"] == "vq"
    assert len(json.loads(run("models", "--json")[1])) == len(list_models())


def test_doctor_names_versions_and_devices(run):
    code, text, _ = run("doctor")
    assert code == 0 and "torch" in text and "cpu" in text
    code, output, _ = run("doctor", "--json")
    facts = json.loads(output)
    assert code == 0 and facts["packages"]["torch"] and "cpu" in facts["devices"] and facts["threads"] >= 1
    used = facts["used_threads"]
    assert 1 <= used["small"] <= used["large"] <= used["torch"] == facts["threads"]
    assert f"{used['small']} for small operations, {used['large']} for large ones ({used['why']})" in text
    assert set(facts["kernels"]) == {*OPERATIONS, "decode", "frames"}
    assert all(f"  {name} " in text for name in OPERATIONS)


def test_doctor_says_who_asked_for_threads(run, monkeypatch):
    monkeypatch.setenv("PHOTOPHONE_THREADS", "1")
    assert "1 for small operations, 1 for large ones (PHOTOPHONE_THREADS=1); torch has" in run("doctor")[1]
    monkeypatch.setenv("PHOTOPHONE_THREADS", "all")
    code, _, told = run("doctor")
    assert code == 2 and told == ("photophone: PHOTOPHONE_THREADS must be a whole number of 1 to 1024 threads, got "
                                  "'all'\n")


def test_doctor_warns_of_versions_that_misbehave(run, monkeypatch):
    seen = {"torch": "2.11.0+cpu", "torchaudio": "2.11.1", "transformers": "5.24.0", "gradio": "6.20.0",
            "typer": "0.15.4"}
    lines = known_faults.known_faults(seen)
    assert [line.split(":")[0] for line in lines] == [
        "torchaudio 2.11.1 with torch 2.11.0+cpu", "torch 2.11.0+cpu", "gradio 6.20.0"]  # typer needs a newer click
    assert all("pip install" in line for line in lines)
    assert known_faults.known_faults({"torch": "2.14.1", "torchaudio": "2.11.1"}) == []
    monkeypatch.setattr(known_faults, "installed_versions", lambda names: seen)
    text, facts = run("doctor")[1], json.loads(run("doctor", "--json")[1])
    assert facts["warnings"] == lines and all(f"warning: {line}" in text for line in lines)


def test_images_are_written_with_their_seeds(run, saved, tmp_path):
    code, output, _ = run("image", "red circle", "blue square", "-n", 2, "--seed", 7, "--steps", 2, "-m", saved, "-o",
                          tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert code == 0 and files == ["blue-square-10.png", "blue-square-9.png", "red-circle-7.png", "red-circle-8.png"]
    assert len(output.splitlines()) == 4 and "(seed 10)" in output
    code, output, _ = run("image", "blue square", "--seed", 9, "--steps", 2, "-m", saved, "-o", tmp_path / "one.png",
                          "--json")
    facts = json.loads(output)
    assert code == 0 and facts["files"] == [str(tmp_path / "one.png")] and facts["seeds"] == [9]
    same = Image.open(tmp_path / "one.png"), Image.open(tmp_path / "out" / "blue-square-9.png")
    assert same[0].tobytes() == same[1].tobytes()


def test_quiet_prints_nothing(run, saved, tmp_path):
    assert run("image", "red circle", "-q", "--steps", 1, "-m", saved, "-o", tmp_path) == (0, "", "")
    assert len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.parametrize(("arguments", "words"), [
    (["models", "latent1d-tiny-vqq"], "did you mean latent1d-tiny-vq"),
    (["image", ""], "the prompt is empty"), (["image", "red\x07"], "control character U+0007"),
    (["image", "x" * 2000], "2000 characters, the limit is 1000"), (["image", "red", "-n", "0"], "at least 1, got 0"),
    (["image", "red", "--seed", "-1"], "--seed must be 0 to"), (["image", "red", "--steps", "0"], "got 0"),
    (["image", "red", "--guidance", "99"], "got 99"), (["image", "red", "--size", "512"], "16x16"),
    (["image", "red", "--temperature", "nan"], "got nan"), (["image", "красный"], "not trained on"),
    (["image", "red", "--device", "quantum"], "'quantum' cannot be used here"),
    (["image", "red", "-m", "nowhere"], "nowhere is neither a folder"),
    (["image", "red", "-m", "photophone/tiny-imag"], "did you mean photophone/tiny-image"),
    (["image", "red", "-n", "2", "-o", "two.png"], "2 images do not fit one file"),
    (["image", "red", "-o", "/proc/nowhere"], "/proc/nowhere"),
    (["evaluate", "image", "-m", "nowhere"], "nowhere is neither a folder"),
])
def test_errors_of_users_take_one_line(run, saved, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "image" and "-m" not in arguments:
        arguments = [*arguments, "-m", str(saved)]
    code, output, error = run(*arguments)
    assert (code, output) == (2, "") and words in error and error.startswith("photophone: ")
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["paint"], ["image", "red", "--seed", "x"], ["models", "--colour"]],
                         ids=" ".join)
def test_wrong_usage_exits_with_two(run, arguments):
    code, output, error = run(*arguments)
    assert code == 2 and output == "" and "Usage" in error


def test_a_damaged_model_is_named(run, saved, tmp_path):
    import shutil
    copy = shutil.copytree(saved, tmp_path / "copy")
    file = copy / "token_generator" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    code, _, error = run("image", "red circle", "-m", copy)
    assert code == 2 and "is damaged" in error and len(error.splitlines()) == 1
