"""`photophone interleave`: answers of text and images from a saved pipeline."""

import json

import pytest
from tiny import draw_icon, small_interleaved


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved pipeline, and a picture."""
    folder = tmp_path_factory.mktemp("interleaved")
    small_interleaved().save_pretrained(folder / "model")
    draw_icon("red", "circle").save(folder / "red.png")
    return folder


def test_answers_are_pages_with_their_settings(run, folder, tmp_path):
    command = ["interleave", "what <image> is", "-p", folder / "red.png", "-m", folder / "model", "-n", 2, "--seed", 5,
               "--kind", "image", "--option", "num_inference_steps=2"]
    code, output, errors = run(*command, "-o", tmp_path / "answers")
    assert code == 0, errors
    files = [tmp_path / "answers" / f"what-is-{seed}.html" for seed in (5, 6)]
    assert output.splitlines() == [f"{file}  (seed {seed})" for file, seed in zip(files, (5, 6))]
    facts = json.loads(files[0].with_suffix(".json").read_text())
    assert facts["request"] == ["what ", "<image>", " is"] and facts["num_inference_steps"] == 2
    code, output, _ = run(*command, "-o", tmp_path / "again", "--json")
    printed = json.loads(output)
    assert code == 0 and printed["seeds"] == [5, 6] and printed["kind"] == "image" and printed["texts"] == ["", ""]
    assert files[0].read_text() == (tmp_path / "again" / files[0].name).read_text()


def test_text_is_printed(run, folder, tmp_path):
    code, output, errors = run("interleave", "what is", "-m", folder / "model", "--seed", 1, "--kind", "text",
                               "--length", 5, "-o", tmp_path / "answer.html", "--option", "text_temperature=0")
    assert code == 0, errors
    assert output.splitlines()[-1] == f"{tmp_path / 'answer.html'}  (seed 1)"


@pytest.mark.parametrize(("arguments", "words"), [
    (["what", "-n", "0"], "--number must be at least 1, got 0"),
    (["what", "--kind", "film"], "kind must be one of any, image, text, got 'film'"),
    (["what <image>"], "the text marks 1 places with <image>, and 0 --picture were given"),
    (["what", "-p", "nowhere.png"], "nowhere.png cannot be read as an image"),
    (["what", "--length", "0"], "max_ids must be 1 to 8192, got 0"),
    (["what", "--images", "65"], "max_images must be 1 to 64, got 65"),
    (["what", "--option", "top_q=3"], "top_q"),
    (["what", "--weights", "vae=a.ckpt"], "--weights belongs to registered generators"),
    (["what", "-o", "answer.png"], "the name must end in .html"),
], ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "")
def test_errors_of_users_take_one_line(run, folder, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run("interleave", *arguments, "-m", folder / "model")
    assert code == 2 and words in errors and len(errors.strip().splitlines()) == 1
