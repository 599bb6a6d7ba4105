"""`photophone image` beside plain prompts: edits, ways between prompts, sheets, files of prompts, refusals."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny import draw_icon


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_icon("blue", "ring", 16).save("ring.png")
    mask = Image.new("L", (16, 16))
    mask.paste(255, (8, 0, 16, 16))
    mask.save("mask.png")
    return tmp_path


def image(run, saved, *arguments):
    return run("image", *arguments, "-m", saved, "--steps", "2")


def facts(file):
    return json.loads(file.read_text())


def test_variations_and_parts(run, saved, place):
    assert image(run, saved, "--from", "ring.png", "--strength", "0.3", "-n", "2", "--seed", "5", "-o", "v")[0] == 0
    assert sorted(file.name for file in (place / "v").iterdir()) == ["image-5.json", "image-5.png", "image-6.json",
                                                                     "image-6.png"]
    assert facts(place / "v/image-5.json")["strength"] == 0.3
    for name, part in (("a", ["--mask", "mask.png"]), ("b", ["--region", "8,0,8,16"])):
        code, _, errors = image(run, saved, "red ring", "--from", "ring.png", *part, "--rounds", "2", "--seed", "5",
                                "-o", f"{name}.png")
        assert code == 0, errors
    given, made, again = (np.asarray(Image.open(name).convert("RGB")) for name in ("ring.png", "a.png", "b.png"))
    np.testing.assert_array_equal(made[:, :8], given[:, :8])
    np.testing.assert_array_equal(made, again)


def test_ways_and_sheets(run, saved, place):
    assert image(run, saved, "red ring", "--to", "blue square", "--seed", "5", "-o", "way")[0] == 0
    shares = sorted(facts(file)["share"] for file in (place / "way").glob("*.json"))
    assert len(shares) == 8 and shares[0] == 0 and shares[-1] == 1
    code, output, _ = image(run, saved, "red ring", "--grid", "1,4", "-n", "3", "--seed", "5", "-o", "sheet.png",
                            "--json")
    assert code == 0 and json.loads(output)["files"] == ["sheet.png"]
    told = facts(place / "sheet.json")
    assert told["guidance_scale"] == [1.0, 4.0] and told["seed"] == [5, 6, 7]


def test_files_of_prompts_go_on(run, saved, place):
    (place / "prompts.csv").write_text("prompt,seed\nred ring,3\nblue square,\n")
    code, output, _ = image(run, saved, "--prompts", "prompts.csv", "-n", "2", "-o", "many")
    assert code == 0 and "4 images made, 0 were there" in output
    (place / "many" / "00002-red-ring.png").unlink()
    code, output, errors = image(run, saved, "--prompts", "prompts.csv", "-n", "2", "-o", "many", "--json")
    assert code == 0 and json.loads(output) == {"manifest": "many/manifest.json", "made": 1, "there_before": 3}, errors
    assert [one["seed"] for one in facts(place / "many/manifest.json")["done"]] == [3, 4, 2, 3]
    code, _, errors = image(run, saved, "--prompts", "prompts.csv", "-n", "2", "--guidance", "1", "-o", "many")
    assert code == 2 and "another request" in errors


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "write what the picture shows"), (["a", "--to", "b", "--grid", "1"], "--to and --grid do not go together"),
    (["a", "b", "--to", "c"], "--to takes one prompt, got 2"), (["a", "--strength", "0.5"], "add --from PICTURE"),
    (["a", "--mask", "mask.png"], "--mask belongs to a picture"), (["a", "--region", "0,0,4,4"], "--region belongs"),
    (["--from", "ring.png", "--rounds", "2"], "--rounds belongs to --mask and --region"),
    (["--from", "ring.png", "--mask", "mask.png", "--region", "0,0,4,4"], "give one of them"),
    (["--from", "ring.png", "--mask", "mask.png", "--strength", "0.5"], "--strength belongs to variations"),
    (["--from", "ring.png", "--region", "0,0,4"], "inside 16x16 pixels"),
    (["--from", "ring.png", "--region", "a,b"], "--region must be LEFT,TOP,WIDTH,HEIGHT"),
    (["--from", "ring.png", "--strength", "2"], "strength must be over 0 and at most 1, got 2"),
    (["--from", "none.png"], "none.png"), (["--from", "mask.json"], "mask.json"),
    (["a", "--prompts", "p.txt"], "give none beside it"), (["--prompts", "none.txt"], "none.txt"),
    (["a", "--grid", "1,x"], "numbers with commas"), (["a", "--negative", ""], "the prompt is empty"),
    (["red", "--transparent", "-o", "a.jpg"], "cannot hold a transparent picture"),
    (["red", "--transparent"], "no matting network"), (["red", "--size", "512"], "makes 16x16 images")])
def test_options_that_do_not_go_together_are_refused(run, saved, place, arguments, words):
    code, output, errors = image(run, saved, *arguments)
    assert (code, output) == (2, "") and words in errors
    assert sorted(file.name for file in place.iterdir()) == ["mask.png", "ring.png"]
