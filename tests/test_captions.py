"""Captions: normalisation, vocabulary, refusals, variation."""

import numpy as np
import pytest
import torch
from tiny import COLOURS, icons

from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.text.captions import encode_captions, shorten, train_caption_tokenizer, vary_caption
from photophone.text.plain_caption import normalize_caption

FIELDS = [fields for _, fields in icons()]
LIMIT = 10


@pytest.fixture(scope="module")
def vocabulary():
    return train_caption_tokenizer([fields["caption"] for fields in FIELDS], 150, LIMIT)


@pytest.mark.parametrize(("text", "expected"), [
    ("A Red  APPLE", "a red apple"), ("\tred\n apple ", "red apple"), ("café Ångström", "cafe angstrom"),
    ("ﬁsh ½ ①", "fish 1⁄2 1"), ("“it’s”", '"it\'s"'), ("pie – hot — now", "pie - hot - now"), ("İstanbul", "istanbul"),
    ("e\u0301clair", "eclair"), ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"), ("non\u00a0breaking", "non breaking"), ("", ""),
    ("\u0301", ""), ("红 apple", "红 apple"),
])
def test_normalisation(text, expected):
    assert normalize_caption(text) == expected
    assert normalize_caption(expected) == expected


def test_ids_mask_and_null(vocabulary):
    ids, mask, null = encode_captions(vocabulary, ["red circle", "RED  Círcle, pixel art", ""])
    assert ids.shape == mask.shape == (3, LIMIT) and null.shape == (LIMIT,)
    assert ids.dtype == torch.long and mask.dtype == torch.bool
    assert torch.equal(mask, ids != vocabulary.pad_id)
    lengths = mask.sum(1).tolist()
    assert 0 < lengths[0] < lengths[1] <= LIMIT and lengths[2] == 0
    assert all(bool(row[:length].all()) for row, length in zip(mask, lengths))  # padding is at the end
    assert torch.equal(ids[0, : lengths[0]], ids[1, : lengths[0]])  # normalised before it is split
    assert vocabulary.tokens(null[:2].tolist()) == ["<null>", "<pad>"]
    for row, text in zip(ids, ["red circle", "red circle, pixel art"]):
        pieces = vocabulary.tokens(row[row != vocabulary.pad_id].tolist())
        assert "".join(pieces).replace("▁", " ").replace(" ,", ",").strip() == text


def test_trimming_pads_to_the_longest(vocabulary):
    full, _, _ = encode_captions(vocabulary, ["red circle", "red"])
    ids, mask, null = encode_captions(vocabulary, ["red circle", "red"], trim=True)
    assert ids.shape[1] == int(mask.sum(1).max()) < LIMIT and len(null) == ids.shape[1]
    assert torch.equal(ids, full[:, : ids.shape[1]])
    assert encode_captions(vocabulary, ["", ""], trim=True)[0].shape == (2, 1)


def test_long_captions_are_refused_or_cut(vocabulary):
    long = "red circle " * 9
    with pytest.raises(ValueError, match=rf"\d+ tokens, the model reads {LIMIT}; shorten it"):
        encode_captions(vocabulary, ["red", long])
    for trim in (False, True):
        ids, mask, _ = encode_captions(vocabulary, ["red", long], truncate=True, trim=trim)
        assert ids.shape == (2, LIMIT) and bool(mask[1].all())


@pytest.mark.parametrize(("text", "words"), [
    ("red 苹果 circle", "not trained on: 果, 苹;"), ("красный circle", "not trained on: а, и, к"), ("red 🍎", "🍎"),
    ("red < circle", "not trained on: <;"), ("red\u200b circle", r"not trained on: U\+200B;"),
    ("red \u202e circle", r"U\+202E"), ("a <pad> circle", "<, >;"), ("<null>", "<, >;"), ("<unk>", "<, >;"),
    ("红" * 40, "not trained on: 红;"),
])
def test_unknown_characters_are_named(vocabulary, text, words):
    with pytest.raises(ValueError, match=words) as error:
        encode_captions(vocabulary, ["red", text])
    assert len(str(error.value)) < 250 and "\n" not in str(error.value)


def test_special_tokens_cannot_be_written_into_a_caption(vocabulary):
    for text in ("red <pad> circle", "<null> red"):
        ids, mask, null = encode_captions(vocabulary, [text], truncate=True)
        length = int(mask.sum())
        assert bool(mask[0, :length].all()) and int(null[0]) not in ids[0].tolist()


def test_vocabularies_survive_saving(vocabulary, tmp_path):
    from transformers import AutoTokenizer
    vocabulary.save_pretrained(tmp_path)
    again = CaptionTokenizer.from_pretrained(tmp_path)
    assert again.max_length == LIMIT and len(again) == len(vocabulary)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == LIMIT and theirs.pad_token_id == again.pad_id
    text = normalize_caption("red circle, pixel art")
    assert theirs(text, add_special_tokens=False)["input_ids"] == again.encode([text])[0]
    for ours, loaded in zip(*(encode_captions(v, ["red circle, pixel art"]) for v in (vocabulary, again))):
        assert torch.equal(ours, loaded)
    with pytest.raises(ValueError, match="not trained on: <"):
        encode_captions(again, ["red < <pad>"])


def test_variations_are_repeatable_and_free():
    first, second = ([vary_caption(fields, np.random.default_rng([3, i]), keep=0.5) for i, fields in enumerate(FIELDS)]
                     for _ in range(2))
    assert first == second
    kept = sum(text == fields["caption"] for text, fields in zip(first, FIELDS))
    assert 0.3 * len(FIELDS) < kept < 0.8 * len(FIELDS)
    assert len(set(first)) > len(FIELDS) / 2 and all(text.strip() for text in first)


def test_variations_keep_the_colour_and_the_subject():
    rng = np.random.default_rng(0)
    for fields in FIELDS * 5:
        words = vary_caption(fields, rng, keep=0.0).replace(",", " ").split()
        assert fields["colours"] in words and fields["label"] in words
        assert len(set(words) & set(COLOURS)) == 1


def test_articles_fit():
    fields = {"caption": "orange, flat emoji", "label": "orange", "style": "", "tags": "", "colours": ""}
    made = {vary_caption(fields, np.random.default_rng(seed), keep=0.0) for seed in range(40)}
    assert made == {"orange", "an orange"}


@pytest.mark.parametrize("fields", [
    {"caption": "only this", "label": "", "style": "pixel art", "tags": "a b", "colours": ""},
    {"caption": "", "label": "", "style": "", "tags": "", "colours": ""},
])
def test_captions_without_a_label_stay(fields):
    assert vary_caption(fields, np.random.default_rng(0), keep=0.0) == fields["caption"]


def test_shortening_for_messages():
    assert shorten("x" * 60) == "x" * 60
    assert shorten("x" * 61) == "x" * 59 + "…"
