"""The demo's tab of edits, and pictures that are transparent or led away from words, by its API."""

import io

import numpy as np
import pytest
from hostile import picture
from PIL import Image
from visitors import Visitor

from photophone.demo.app import Settings, serving
from photophone.demo.edit_tab import BETWEEN, LINES, REGION, SHEET, VARIATIONS
from photophone.demo.models import Choice

BOX = [32, 0, 32, 64]


@pytest.fixture(scope="module")
def served():
    with serving(Choice(speech=None, enhance=None), Settings()) as address:
        yield address


def edit(visitor, mode, file=None, prompt="red apple, 3d emoji", other="lion, 3d emoji", strength=0.5, box=BOX,
         number=2, guidance=3.0):
    return visitor.call("edit", [mode, file, prompt, other, strength, *box, number, guidance, 7, False])


def seen(visitor, made):
    return [np.asarray(Image.open(io.BytesIO(visitor.fetch(one["image"]))).convert("RGB"), int) for one in made[0]]


def test_every_edit_makes_pictures(served):
    visitor = Visitor(served)
    for mode, prompt, count in ((VARIATIONS, "red apple, 3d emoji", 2), (REGION, "red apple, 3d emoji", 2),
                                (BETWEEN, "red apple, 3d emoji", 2), (SHEET, "a cat", 1),
                                (LINES, "a cat\n\ntwo dogs", 2)):
        file = visitor.upload("a.png", picture()) if mode in (VARIATIONS, REGION) else None
        state, made = edit(visitor, mode, file, prompt)
        assert state == "complete", (mode, made)
        images = seen(visitor, made)
        assert len(images) == count and all(image.std() > 10 for image in images), mode
        assert mode in made[1] and made[3]["settings"]["mode"] == mode


def test_what_lies_outside_the_part_stays(served):
    visitor = Visitor(served)
    source = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = io.BytesIO()
    source.save(data, format="PNG")
    _, made = edit(visitor, REGION, visitor.upload("a.png", data.getvalue()))
    for image in seen(visitor, made):
        np.testing.assert_array_equal(image[:, :32], np.asarray(source, int)[:, :32])


def test_refusals_say_why(served):
    visitor = Visitor(served)
    file = visitor.upload("a.png", picture())
    for options, words in (({"mode": "x"}, "not in the list of choices"),
                           ({"mode": VARIATIONS}, "upload a picture first"),
                           ({"mode": REGION, "file": file, "box": [0, 0, 64, 64]}, "white everywhere"),
                           ({"mode": REGION, "file": file, "box": [0.5, 0, 4, 4]}, "a side of the part"),
                           ({"mode": VARIATIONS, "file": file, "strength": 0.001}, "0.05"),
                           ({"mode": LINES, "prompt": "a\n" * 9}, "there are 9"),
                           ({"mode": LINES, "prompt": ""}, "there are 0"),
                           ({"mode": BETWEEN, "other": ""}, "the prompt is empty")):
        state, message = edit(visitor, **options)
        assert state == "error" and words in message, (options, message)


def test_transparent_led_away_and_large(served):
    visitor = Visitor(served)
    further = (["", False, 64], ["red", False, 64], ["", True, 64], ["", False, 128])
    plain, away, clear, large = (visitor.call("image", ["a red apple", 1, 7, False, 4, 3.0, 1.0, *more])[1]
                                 for more in further)
    (first,), (second,), (third,) = (seen(visitor, made) for made in (plain, away, large))
    assert np.abs(first - second).mean() > 1
    assert first.shape[:2] == (64, 64) and third.shape[:2] == (128, 128)
    assert Image.open(io.BytesIO(visitor.fetch(clear[0][0]["image"]))).mode == "RGBA"
