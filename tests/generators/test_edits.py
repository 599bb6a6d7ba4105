"""Edits of FlowAR: tokens that are given, two captions blended, a caption that guidance leads away from."""

from dataclasses import replace

import pytest
import torch
from tiny import SMALL_GENERATOR, shake

from photophone import FlowARGenerator, SeededNoise, Tokens
from photophone.generators.conditions import CaptionBlend, CaptionIds

ORDERS = {"next_x": {}, "raster": {"head": "flow", "head_config": {"width": 32, "depth": 1}},
          "random": {"head": "flow", "head_config": {"width": 32, "depth": 1}}}


def build(order="next_x", **changes):
    torch.manual_seed(0)
    return shake(FlowARGenerator(**{**SMALL_GENERATOR, "order": order, **ORDERS[order], **changes}))


def caption(seed, rows=2):
    ids = torch.randint(3, 100, (1, 6), generator=torch.Generator().manual_seed(seed)).repeat(rows, 1)
    return CaptionIds(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([1, 0, 0, 0, 0, 0]))


def noise(*seeds):
    return SeededNoise.from_seeds(seeds)


def sampler(model, **options):
    return model.Sampler(**{"num_inference_steps": 3, "guidance_scale": 2.0, **options})


def mapped():
    """A model of one cell whose head follows a flow map, as the built-in one."""
    return build(cell_size=4, head_config={**SMALL_GENERATOR["head_config"], "cell_size": 4,
                                           "guidance_range": [1.0, 6.0]})


def tokens(rows=2):
    return Tokens(torch.randn(rows, 4, 8, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("order", ORDERS)
def test_all_noise_re_draws_as_if_nothing_were_given(order):
    model, condition = build(order), caption(0)
    made = model.generate(condition, noise=noise(1, 2), sampler=sampler(model)).values
    again = model.redraw(tokens(), condition, strength=1.0, noise=noise(1, 2), sampler=sampler(model)).values
    torch.testing.assert_close(again, made)


@pytest.mark.parametrize("order", ORDERS)
def test_little_noise_keeps_what_is_given(order):
    model, given = build(order), tokens()
    distance = [float((model.redraw(given, caption(0), strength=strength, noise=noise(1, 2), sampler=sampler(model)
                                    ).values - given.values).norm()) for strength in (0.01, 0.3, 1.0)]
    assert distance[0] < 0.1 * distance[2] and distance[0] < distance[1] < distance[2]


def test_one_step_of_a_map_from_given_tokens_is_the_closed_form():
    model, given, strength = mapped(), tokens(), 0.6
    made = model.redraw(given, caption(0), strength=strength, noise=noise(1, 2),
                        sampler=sampler(model, num_inference_steps=1)).values
    eps = noise(1, 2).normal(2, 4, 8)
    x = (1 - strength) * given.values + strength * eps
    text = model.all_texts(caption(0), False)
    with torch.no_grad():
        head = model.token_head
        hidden = model.hidden(text.ids, text.mask, model.blank.expand(2, 4, -1))
        mean = head.mean_velocity(head.project(hidden), x, x.new_tensor([strength]), x.new_zeros(1), 2.0)
    torch.testing.assert_close(made, x - strength * mean, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_the_ends_of_a_blend_are_the_captions_alone(order):
    model, first, second = build(order), caption(0, 3), caption(1, 3)
    blend = CaptionBlend(first.ids, first.mask, first.null_ids, second.ids, second.mask, torch.tensor([0.0, 0.5, 1.0]))
    made = model.generate(blend, noise=noise(7, 7, 7), sampler=sampler(model)).values
    ends = [model.generate(one, noise=noise(7, 7, 7), sampler=sampler(model)).values[0] for one in (first, second)]
    torch.testing.assert_close(made[0], ends[0])
    torch.testing.assert_close(made[2], ends[1])
    assert float((made[1] - ends[0]).norm()) > 1e-4 and float((made[1] - ends[1]).norm()) > 1e-4


def test_to_be_led_away_from_the_empty_caption_is_guidance():
    model, condition = build(), caption(0)
    empty = replace(condition, null_mask=torch.tensor([True, False, False, False, False, False]))
    made = [model.generate(one, noise=noise(1, 2), sampler=sampler(model)).values for one in (condition, empty)]
    torch.testing.assert_close(made[0], made[1])


@pytest.mark.parametrize("model", [build(), mapped()], ids=["plain", "map"])
def test_to_be_led_away_from_the_caption_itself_is_no_guidance(model):
    condition = caption(0)
    away = replace(condition, null_ids=condition.ids[0], null_mask=condition.mask[0])
    made = model.generate(away, noise=noise(1, 2), sampler=sampler(model, guidance_scale=4.0)).values
    plain = model.generate(condition, noise=noise(1, 2), sampler=sampler(model, guidance_scale=1.0)).values
    torch.testing.assert_close(made, plain, atol=1e-5, rtol=1e-4)
    other = caption(3)
    away = replace(condition, null_ids=other.ids[0], null_mask=other.mask[0])
    assert not torch.allclose(model.generate(away, noise=noise(1, 2), sampler=sampler(model)).values, plain)


@pytest.mark.parametrize(("strength", "rows", "words"), [
    (0, 2, "over 0 and at most 1, got 0"), (1.1, 2, "got 1.1"), (float("nan"), 2, "nan"), (0.5, 3, "3 rows of tokens")])
def test_values_outside_the_limits_are_refused(strength, rows, words):
    model = build()
    with pytest.raises(ValueError, match=words):
        model.redraw(tokens(rows), caption(0), strength=strength, noise=noise(1, 2))


def test_what_a_model_cannot_do_is_refused():
    model = build(head="gaussian", head_config={})
    with pytest.raises(ValueError, match="GaussianHead neither begins with given tokens"):
        model.redraw(tokens(), caption(0), strength=0.5, noise=noise(1, 2))
    with pytest.raises(ValueError, match=r"tokens must be float \(2, 4, 8\)"):
        build().redraw(Tokens(torch.randn(2, 5, 8)), caption(0), strength=0.5, noise=noise(1, 2))
    with pytest.raises(ValueError, match='"sde" begins with noise alone'):
        build().redraw(tokens(), caption(0), strength=0.5, noise=noise(1, 2), sampler=sampler(build(), solver="sde"))
