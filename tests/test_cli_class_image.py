"""`photophone class-image`: images of classes from a saved pipeline and from official files."""

import json

import pytest
from PIL import Image
from tiny import small_chain

from photophone import ClassToImagePipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes") / "model"
    ClassToImagePipeline(*small_chain("llamagen-b-256")).save_pretrained(folder)
    return folder


def test_images_of_classes_with_their_settings(run, folder, tmp_path):
    command = ["class-image", 2, 7, "-m", folder, "-n", 2, "--seed", 5, "--guidance", 1.5, "--option", "top_k=40"]
    code, output, errors = run(*command, "-o", tmp_path / "images")
    assert code == 0, errors
    names = [f"class-{label}-{seed}" for label, seed in ((2, 5), (2, 6), (7, 7), (7, 8))]
    files = [tmp_path / "images" / f"{name}.png" for name in names]
    assert output.splitlines() == [f"{file}  (seed {seed})" for file, seed in zip(files, (5, 6, 7, 8))]
    facts = json.loads(files[2].with_suffix(".json").read_text())
    assert (facts["class_label"], facts["top_k"], facts["guidance_scale"]) == (7, 40, 1.5)
    code, output, _ = run(*command, "-o", tmp_path / "again", "--json")
    printed = json.loads(output)
    assert code == 0 and printed["seeds"] == [5, 6, 7, 8] and printed["top_k"] == 40
    for file, again in zip(files, printed["files"]):
        assert Image.open(file).tobytes() == Image.open(again).tobytes()


@pytest.mark.parametrize(("arguments", "words"), [
    (["-m", "FOLDER", "-n", "0"], "--number must be at least 1, got 0"),
    (["-m", "FOLDER", "--seed", "-1"], "--seed must be 0 to"),
    (["-m", "FOLDER", "--option", "top_k"], "--option must be of the form NAME=VALUE, got 'top_k'"),
    (["-m", "FOLDER", "--option", "top_q=3"], "top_q"),
    (["-m", "FOLDER", "--option", "class_labels=3"], "class_labels is none"),
    (["-m", "FOLDER", "--weights", "vae=a.ckpt"], "--weights belongs to registered generators"),
    (["-m", "FOLDER", "--guidance", "-1"], "-1"),
    (["-m", "llamagen-b-256", "--weights", "brush=a.pt"], "has no checkpoint named brush"),
    (["-m", "latent1d-tiny-vq"], "has no pipeline from original checkpoints"),
    (["-m", "nowhere"], "nowhere is neither a folder"),
], ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "")
def test_errors_of_users_take_one_line(run, folder, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(folder) if part == "FOLDER" else part for part in arguments]
    code, output, errors = run("class-image", 3, *arguments)
    assert (code, output) == (2, "") and words in errors and len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_label_that_the_model_does_not_have_is_refused(run, folder, tmp_path):
    code, _, errors = run("class-image", 12345, "-m", folder, "-o", tmp_path)
    assert code == 2 and "12345" in errors
