"""ALIT's lengths: fewer passes, the fewest that are good enough, and rows of different length in one batch."""

import pytest
import torch
from tiny import build

from photophone import SeededNoise, Tokens

NAME = "alit-s-vqgan-in1k"


def pictures(model, rows=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(rows, 3, model.image_size, model.image_size, generator=generator) * 2 - 1


def test_fewer_tokens_are_those_of_fewer_passes():
    model = build(NAME)
    images = pictures(model)
    part = model.config.pass_tokens
    few, all_tokens = model.encode(images, num_tokens=part), model.encode(images)
    assert few.values.shape == (3, part) and all_tokens.values.shape == (3, model.num_tokens)
    (only,) = model.passes(images, steps=1)
    assert torch.equal(few.values, model.bottleneck.encode(only.hidden))
    assert model.decode(few).shape == images.shape
    for wrong in (0, part + 1, model.num_tokens + part):
        with pytest.raises(ValueError, match=f"multiple of {part} up to {model.num_tokens}, got {wrong}"):
            model.encode(images, num_tokens=wrong)


def test_each_image_gets_as_few_tokens_as_it_needs():
    model = build(NAME)
    images = pictures(model)
    part = model.config.pass_tokens
    errors = torch.stack([model.error(model.encode(images, num_tokens=count).values, images)
                          for count in range(part, model.num_tokens + 1, part)], dim=1).detach()
    loose = model.encode(images, threshold=2.0)
    assert loose.lengths.tolist() == [part] * 3 and loose.values.shape == (3, part)
    best = model.encode(images, threshold=0.0)
    assert best.lengths.tolist() == [(1 + int(row.argmin())) * part for row in errors]
    between = float(errors[0].min() + errors[0].max()) / 2
    found = model.encode(images, threshold=between)
    for row, length in enumerate(found.lengths.tolist()):
        alone = model.encode(images[row:row + 1], threshold=between)
        assert alone.lengths.tolist() == [length] and torch.equal(alone.values[0], found.values[row, :length])


def test_rows_of_different_length_are_drawn_as_alone():
    model = build(NAME)
    part = model.config.pass_tokens
    values = model.encode(pictures(model)).values
    tokens = Tokens(values, torch.tensor([part, 3 * part, part]))
    together = model.decode(tokens)
    for row, length in enumerate(tokens.lengths.tolist()):
        alone = model.decode(Tokens(values[row:row + 1, :length]))
        torch.testing.assert_close(together[row:row + 1], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="decodes Long tokens"):
        model.decode(Tokens(values, torch.tensor([part + 1, part, part])))


def test_draws_are_a_choice():
    """A noise alone changes nothing; with ``drawn`` cells rest by chance, and the seed decides."""
    model = build(NAME)
    images = pictures(model)
    plain = model.encode(images).values
    assert torch.equal(model.encode(images, noise=SeededNoise.from_seeds([1, 2, 3])).values, plain)
    drawn = [model.encode(images, noise=SeededNoise.from_seeds(seeds), drawn=True).values
             for seeds in ([1, 2, 3], [1, 2, 3])]
    assert torch.equal(*drawn)
