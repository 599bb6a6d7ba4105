"""Scripts: ``--help`` works, and data preparation and tokenizing run from end to end."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from tiny import SMALL_TOKENIZER, draw_icon, icons, shake

from photophone import Latent1DTokenizer, Tokens
from photophone.data.images import ImageDataset

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / name), run_name="__main__")


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_help(name, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, name, "--help")
    assert not stop.value.code
    output = capsys.readouterr().out
    assert "usage" in output and len(output.splitlines()) > 5


def test_preparing_and_tokenizing(tmp_path, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    for (colour, shape), _ in list(icons())[::16]:
        draw_icon(colour, shape).save(tmp_path / "images" / f"{colour}-{shape}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"broken")
    run(monkeypatch, "prepare_images.py", tmp_path / "images", "-o", tmp_path / "icons.safetensors", "--size", 16)
    assert "6 images of 16x16" in capsys.readouterr().out
    model = shake(Latent1DTokenizer(**SMALL_TOKENIZER))
    model.save_pretrained(tmp_path / "tokenizer")
    run(monkeypatch, "tokenize_dataset.py", tmp_path / "icons.safetensors", "-t", tmp_path / "tokenizer", "-o",
        tmp_path / "tokens.safetensors", "--batch-size", 4)
    tokens, data = Tokens.load(tmp_path / "tokens.safetensors"), ImageDataset(tmp_path / "icons.safetensors")
    assert len(data) == 6 and data.fields[0]["caption"].count(" ") == 1
    torch.testing.assert_close(tokens.values, model.encode(data.batch(range(6))).values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments", "words"), [
    ("prepare_images.py", ["nowhere", "-o", "out.safetensors"], "nowhere"),
    ("tokenize_dataset.py", ["nowhere.safetensors", "-t", "nowhere", "-o", "out.safetensors"], "nowhere.safetensors"),
])
def test_missing_files_are_usage_errors(name, arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, name, *arguments)
    assert stop.value.code == 2 and words in capsys.readouterr().err
