"""TASTE: units of words, their codes, and the decoder of units."""

from dataclasses import replace

import pytest
import torch
from tiny import shake

from photophone import SeededNoise, create_model
from photophone.generators.taste.quantizer import WordQuantizer
from photophone.generators.taste.unit_decoder import UnitSampler
from photophone.layers.lengths import length_mask
from photophone.loading.registry import find


def build(name):
    torch.manual_seed(0)
    return shake(create_model(name, **find(name).tiny), scale=0.1)


def speech(frames=40):
    generator = torch.Generator().manual_seed(1)
    return {"mel": torch.randn(2, frames, 16, generator=generator),
            "ids": torch.randint(0, 50, (2, 6), generator=generator), "lengths": torch.tensor([6, 4]),
            "words": torch.tensor([[0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 0]])}


def test_ids_of_a_word_have_one_unit_and_rows_do_not_matter():
    model, given = build("taste-tower"), speech()
    with torch.no_grad():
        found = model(**given)
        alone = model(**{name: value[1:] for name, value in given.items()})
    assert found.values.shape == (2, 6, 32) and found.codes.shape == (2, 6, 4)
    for first, second in ((0, 1), (3, 4), (4, 5)):
        torch.testing.assert_close(found.values[0, first], found.values[0, second])
    assert not torch.allclose(found.values[0, 1], found.values[0, 2])
    assert torch.equal(found.values[1, 4:], torch.zeros(2, 32)) and (found.codes[1, 4:] == -1).all()
    torch.testing.assert_close(alone.values, found.values[1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("frames", "text", "words"), [(49, 6, "speech has 49 frames, at most 48"),
                                                       (48, 28, "a text of 28 ids is too long"),
                                                       (2, 40, "a text of 40 ids is too long")])
def test_what_is_too_long_is_refused(frames, text, words):
    model, given = build("taste-tower"), speech(frames)
    ids = torch.zeros(2, text, dtype=torch.long)
    with pytest.raises(ValueError, match=words):
        model(given["mel"], ids, torch.tensor([text, text]), ids)


def test_codes_stand_for_what_they_were_made_of():
    torch.manual_seed(0)
    quantizer = WordQuantizer(8, 4, 16, 3).eval()
    x, mask = torch.randn(2, 5, 8), length_mask(torch.tensor([5, 3]), 5)
    with torch.no_grad():
        found = quantizer(x, mask)
        torch.testing.assert_close(quantizer.decode(found.codes) * mask[..., None], found.values)
        assert torch.equal(quantizer.encode_codes(quantizer.project_in(x))[mask], found.codes[mask])


def test_training_moves_the_books_and_leaves_levels_out():
    torch.manual_seed(0)
    quantizer = WordQuantizer(8, 4, 16, 3).train()
    before, x = quantizer.books.clone(), torch.randn(2, 5, 8, requires_grad=True)
    found = quantizer(x, torch.ones(2, 5, dtype=torch.bool), SeededNoise.from_seeds([3]))
    kept = int((found.codes[0, 0] >= 0).sum())
    assert 1 <= kept <= 3 and (found.losses[kept:] == 0).all() and (found.losses[:kept] > 0).all()
    moved = [not torch.equal(old, new) for old, new in zip(before, quantizer.books)]
    assert moved == [level < kept for level in range(3)]
    (found.values.sum() + found.losses.sum()).backward()
    assert bool(x.grad.isfinite().all()) and quantizer.project_in.weight.grad is not None


def test_no_end_comes_too_early_and_units_may_be_missing():
    model = build("taste-unit-decoder")
    condition = model.example_condition(2)
    sampler = UnitSampler(least_ratio=1.5, most_ratio=1.5)
    for given in (condition, replace(condition, units=None)):
        made = model.generate(given, noise=SeededNoise.from_seeds([1, 2]), sampler=sampler)
        assert made.mask.sum(1).tolist() == [int(1.5 * 7), int(1.5 * 6)]
        assert int(made.values.min()) >= 0 and int(made.values.max()) < model.end


def test_wrong_words_are_refused():
    model = build("taste-unit-decoder")
    condition = model.example_condition(2)
    for changes, words in [({"ids": condition.ids + 56}, "ids must lie in 0..55"),
                           ({"lengths": torch.tensor([4, 5])}, "of 1..4"), ({"units": condition.units[:, 1:]}, "units"),
                           ({"speaker": condition.speaker[:, 1:]}, "speaker vectors")]:
        with pytest.raises(ValueError, match=words):
            model.check_condition(replace(condition, **changes))
