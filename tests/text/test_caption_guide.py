"""Prompts of ordinary people as captions: the built-in guide, its rules, its file."""

import csv
import json
from pathlib import Path

import pytest

from photophone.evaluation.tasks.image_prompts import ordinary_prompts
from photophone.loading.registry import builtin_folder
from photophone.text.caption_guide import FILE, CaptionGuide, learn_guide
from photophone.text.caption_tokenizer import CaptionTokenizer

FOLDER = Path(builtin_folder("photophone/tiny-image")) / "text_tokenizer"
ROWS = [{"label": label, "style": style, "tags": tags} for label, tags in (
    ("automobile", "vehicle"), ("railway car", "train"), ("dog", "pet"), ("dog face", "pet"),
    ("hot beverage", "coffee"), ("red heart", "love"), ("horse", "racing"), ("running shirt", "race"),
    ("fire engine", "fire truck"))
    for style in ("3d emoji", "flat emoji", "noto emoji", "blob emoji")]


@pytest.fixture(scope="module")
def guide():
    return CaptionGuide.load(FOLDER)


@pytest.fixture(scope="module")
def small():
    return learn_guide(ROWS, "3d emoji")


def shows(guide, prompt, labels):
    caption = guide.caption(prompt).removesuffix(f", {guide.default_style}")
    return any(caption == label or caption.endswith(f" {label}") for label in labels)


def test_ordinary_prompts_find_their_subject(guide):
    prompts = ordinary_prompts()
    assert len(prompts) == 100 and len({labels for _, labels in prompts}) == 100
    assert sum(shows(guide, prompt, labels) for prompt, labels in prompts) >= 95


def test_further_prompts_find_theirs(guide):
    rows = list(csv.DictReader((Path(__file__).parent / "further_prompts.csv").open()))
    assert sum(shows(guide, row["prompt"], row["label"].split("|")) for row in rows) >= 0.9 * len(rows)


@pytest.mark.parametrize("caption", [
    "red apple, 3d emoji", "blue rocket, silhouette icon", "green dragon, monster, pixel art", "cat emoji",
    "pixel art cat", "an apple in 3d emoji", "flag of France, round flag", "cat, noto"])
def test_a_prompt_with_a_style_stands_as_it_is(guide, caption):
    assert guide.caption(caption) == caption


@pytest.mark.parametrize(("prompt", "caption"), [
    ("A Dog", "dog, 3d emoji"), ("two dogs", "dog, 3d emoji"), ("a cute dog", "dog, 3d emoji"),
    ("red car on white", "red automobile, 3d emoji"), ("a cup of coffee", "hot beverage, 3d emoji"),
    ("picture of a horse running", "horse, 3d emoji"), ("fire truck", "fire engine, 3d emoji"),
    ("heart", "red heart, 3d emoji"), ("quantum flux", "quantum flux"), ("the", "the")])
def test_rules(small, prompt, caption):
    assert small.caption(prompt) == caption


def test_a_guide_is_saved_with_its_vocabulary(small, tmp_path):
    vocabulary = CaptionTokenizer.from_pretrained(FOLDER)
    assert vocabulary.guide is not None
    vocabulary.guide = small
    vocabulary.save_pretrained(tmp_path)
    assert CaptionTokenizer.from_pretrained(tmp_path).guide.to_dict() == small.to_dict()
    (tmp_path / FILE).unlink()
    assert CaptionTokenizer.from_pretrained(tmp_path).guide is None


@pytest.mark.parametrize(("change", "words"), [
    ({"subjects": ["dog"]}, "no guide to captions"), ({"styles": None}, "no guide"),
    ({"aliases": {"car": 3}}, "no guide"), ({"default_style": "oil"}, "default style among its styles, got 'oil'"),
    ({"subjects": {}}, "needs subjects")])
def test_damaged_guides_are_refused(small, tmp_path, change, words):
    (tmp_path / FILE).write_text(json.dumps({**small.to_dict(), **change}))
    with pytest.raises(ValueError, match=words):
        CaptionGuide.load(tmp_path)
