"""FlowAR beyond the contract: every continuous head, orders, statistics, noise of the context."""

import pytest
import torch
from tiny import SMALL_GENERATOR, shake

from photophone import FlowARGenerator, ReplayNoise, SeededNoise

HEADS = {"flow": {"width": 32, "depth": 1}, "local_dit": SMALL_GENERATOR["head_config"], "gaussian": {},
         "diffusion": {"width": 32, "depth": 1}}


def build(**changes):
    torch.manual_seed(0)
    return shake(FlowARGenerator(**{**SMALL_GENERATOR, **changes}))


def condition(rows=2):
    ids = torch.randint(3, 100, (rows, 6), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("order", ["raster", "next_x", "random"])
@pytest.mark.parametrize("head", HEADS)
def test_every_continuous_head_trains_and_samples(head, order):
    if head == "local_dit" and order != "next_x":
        pytest.skip("a cell of the head needs a cell of the backbone")
    model = build(order=order, head=head, head_config=HEADS[head], text_depth=1)
    ids, mask, null = condition()
    model(ids, mask, torch.randn(2, 4, 8), null).backward()
    assert not [key for key, weight in model.named_parameters() if weight.grad is None]
    sample = [model.generate(ids, mask, null, noise=SeededNoise.from_seeds([1, 2]), guidance_scale=2.0,
                             num_inference_steps=steps).values for steps in (2, 2, 5)]
    assert sample[0].shape == (2, 4, 8) and bool(sample[0].isfinite().all())
    assert torch.equal(sample[0], sample[1])
    if head != "gaussian":  # which has no steps
        assert not torch.equal(sample[0], sample[2])


def test_statistics_normalise_each_position_and_channel():
    model = build()
    tokens = 3 + 2 * torch.randn(64, 4, 8)
    tokens[:, 2, 5] = 7.0  # constant
    model.set_statistics(tokens)
    torch.testing.assert_close(model.token_mean, tokens.mean(0))
    assert float(model.token_std[2, 5]) == pytest.approx(1e-3)
    sampled = model.generate(*condition(), noise=SeededNoise.from_seeds([0, 1])).values
    assert float((sampled[:, 2, 5] - 7).abs().max()) < 0.1


def test_dropped_captions_are_the_null_caption():
    """Rows whose draw falls below text_drop lose their caption; the others keep it."""
    model = build(text_drop=0.5, context_noise=0.0, head="gaussian", head_config={})
    ids, mask, null = condition(2)
    tokens = torch.randn(2, 4, 8)

    def loss(ids, mask, uniform, null=null):
        draws = [*uniform, torch.zeros(2, 1, 1)]
        return model(ids, mask, tokens, null, ReplayNoise(uniform=draws, normal=[torch.zeros(2, 4, 8)]))

    null_mask = torch.tensor([True, False, False, False, False, False])
    mixed_ids, mixed_mask = torch.stack([ids[0], null]), torch.stack([mask[0], null_mask])
    dropped = loss(ids, mask, [torch.tensor([0.6, 0.4])])
    torch.testing.assert_close(dropped, loss(mixed_ids, mixed_mask, [], null=None))
    assert not torch.allclose(dropped, loss(ids, mask, [torch.tensor([0.6, 0.6])]))


@pytest.mark.parametrize(("changes", "words"), [
    ({"order": "spiral"}, "'spiral'"), ({"cell_size": 3}, "cells of 3"), ({"head": "none"}, "unknown head 'none'"),
    ({"num_heads": 3}, "64 is not a multiple of 3 heads"),
])
def test_wrong_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        FlowARGenerator(**{**SMALL_GENERATOR, **changes})


def test_too_many_order_steps_are_refused():
    model = build(order="random", head="flow", head_config=HEADS["flow"])
    with pytest.raises(ValueError, match=r"1\.\.4 steps, got 9"):
        model.generate(*condition(), noise=SeededNoise.from_seeds([1, 2]), num_order_steps=9)
