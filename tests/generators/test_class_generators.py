"""Generators of classes on one-dimensional tokens: what every registered one does, and the schedules they share."""

import math

import pytest
import torch
from tiny import shake

from photophone import SeededNoise, create_model, list_models
from photophone.decoding.loop import DecodingStopped
from photophone.decoding.masked import arccos_mask_counts
from photophone.generators.sit.model import line_positions
from photophone.generators.titok.model import MaskedImageGenerator, UViTBert, mask_tokens
from photophone.loading.registry import find

NAMES = [entry.name for entry in list_models("generator")
         if entry.target.startswith(("photophone.generators.titok.model:", "photophone.generators.sit.model:"))]
FAMILIES = ["titok-l32-generator", "titok-s128-generator", "sit-xl-softvq-l-64", "dit-xl-softvq-l-64"]


def tiny(name):
    torch.manual_seed(0)
    return shake(create_model(name, **find(name).tiny))


def tokens_of(model, rows):
    config, generator = model.config, torch.Generator().manual_seed(1)
    if isinstance(model, MaskedImageGenerator):
        return torch.randint(config.num_codes, (rows, config.num_tokens), generator=generator)
    return torch.randn(rows, config.num_tokens, config.token_dim, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes_build(name):
    with torch.device("meta"):
        model = create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) > 10**8


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_means_the_same_tokens_in_any_batch(name):
    model, labels, seeds = tiny(name), torch.tensor([1, 7, 1]), [3, 4, 5]
    batch = model.generate(labels, noise=SeededNoise.from_seeds(seeds), num_inference_steps=4).values
    assert batch.shape[:2] == (3, model.config.num_tokens) and not torch.equal(batch[0], batch[2])
    for row, seed in enumerate(seeds):
        alone = model.generate(labels[row:row + 1], noise=SeededNoise.from_seeds([seed]), num_inference_steps=4).values
        torch.testing.assert_close(alone[0], batch[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_weights_give_equal_tokens(name, tmp_path):
    model, labels = tiny(name), torch.tensor([2, 3])
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    ours, loaded = (m.generate(labels, noise=SeededNoise.from_seeds([1, 2]), num_inference_steps=3).values
                    for m in (model, again))
    assert torch.equal(ours, loaded)


@pytest.mark.parametrize("name", FAMILIES)
def test_all_weights_train(name):
    model = tiny(name).train()
    loss = model(torch.tensor([0, 1, 2, 3]), tokens_of(model, 4), noise=SeededNoise.from_seeds(range(4)))
    loss.backward()
    assert loss.shape == () and bool(loss.isfinite())
    assert not [key for key, weight in model.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("name", FAMILIES)
def test_wrong_labels_are_refused_and_the_callback_stops(name):
    model = tiny(name)
    noise = SeededNoise.from_seeds([1])
    for labels in (torch.tensor([10]), torch.tensor([-1]), torch.tensor([1.0]), torch.tensor([[1]])):
        with pytest.raises(ValueError, match=r"labels must be Long \(B,\) in 0..9"):
            model.generate(labels, noise=noise)
    with pytest.raises(DecodingStopped, match="after step 1 of 3"):
        model.generate(torch.tensor([1]), noise=noise, num_inference_steps=3, callback=lambda step, total: True)


@pytest.mark.parametrize("name", ["sit-xl-softvq-l-64", "dit-xl-softvq-l-64"])
def test_statistics_scale_the_tokens(name):
    model = tiny(name)
    scaled = type(model)(**{**find(name).tiny, "token_mean": 3.0, "token_std": 2.0})
    scaled.load_state_dict(model.state_dict())
    labels = torch.tensor([1])
    plain, other = (m.eval().generate(labels, noise=SeededNoise.from_seeds([1]), num_inference_steps=3).values
                    for m in (model, scaled))
    torch.testing.assert_close(other, plain * 2 + 3)


def test_samplers_of_sit_agree_on_a_constant_velocity():
    model = tiny("sit-xl-softvq-l-64")
    with torch.no_grad():
        for weight in model.final_layer.parameters():
            weight.zero_()
        model.final_layer.linear.bias.fill_(0.5)
    for sampler in ("euler", "heun"):
        x = SeededNoise.from_seeds([1]).normal(1, 8, 6)
        tokens = model.generate(torch.tensor([1]), noise=SeededNoise.from_seeds([1]), num_inference_steps=3,
                                sampler=sampler).values
        torch.testing.assert_close(tokens, x - 0.5)
    with pytest.raises(ValueError, match="sampler must be one of"):
        model.generate(torch.tensor([1]), noise=SeededNoise.from_seeds([1]), sampler="rk4")


def test_positions_are_sines_and_cosines_in_turn():
    table = line_positions(5, 8)
    assert table.shape == (5, 8)
    torch.testing.assert_close(table[:, 0], torch.arange(5.0).sin())
    torch.testing.assert_close(table[:, 1], torch.arange(5.0).cos())


def test_mask_counts_fall_to_one_and_stay():
    assert arccos_mask_counts(6, 1) == []
    assert arccos_mask_counts(2, 5) == [1, 1, 1, 1]
    counts = arccos_mask_counts(128, 8)
    expected = [math.floor(128 * math.acos(step / 8) / (math.pi / 2)) for step in range(1, 8)]
    assert counts == expected
    with pytest.raises(ValueError, match="at least 1, got 0"):
        arccos_mask_counts(4, 0)


def test_settings_out_of_range_are_refused():
    model, noise, labels = tiny("titok-l32-generator"), SeededNoise.from_seeds([1]), torch.tensor([1])
    for options, words in (({"guidance_schedule": "cosine"}, "guidance schedule must be one of"),
                           ({"temperature": -1.0}, "negative"), ({"num_inference_steps": 0}, "at least 1")):
        with pytest.raises(ValueError, match=words):
            model.generate(labels, noise=noise, **options)
    with pytest.raises(ValueError, match="depth must be even, got 3"):
        UViTBert(depth=3, width=32, num_heads=2)


def test_at_least_one_token_is_masked():
    ids, masked = mask_tokens(torch.zeros(64, 5, dtype=torch.long), 9, SeededNoise.from_seeds(range(64)))
    assert bool(masked.any(dim=1).all()) and bool((ids == 9).eq(masked).all())
    assert len(set(masked.sum(dim=1).tolist())) > 2
