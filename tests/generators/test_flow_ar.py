"""FlowAR beyond the contract: every continuous head, orders, statistics, noise of the context."""

import pytest
import torch
from tiny import SMALL_GENERATOR, shake

from photophone import CaptionIds, FlowARGenerator, ReplayNoise, SeededNoise, Tokens, create_model, list_models
from photophone.decoding.loop import cosine_reveal_counts

HEADS = {"flow": {"width": 32, "depth": 1}, "local_dit": SMALL_GENERATOR["head_config"], "gaussian": {},
         "diffusion": {"width": 32, "depth": 1}}


def build(**changes):
    torch.manual_seed(0)
    return shake(FlowARGenerator(**{**SMALL_GENERATOR, **changes}))


def condition(rows=2):
    ids = torch.randint(3, 100, (rows, 6), generator=torch.Generator().manual_seed(0))
    return CaptionIds(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([1, 0, 0, 0, 0, 0]))


def generate(model, condition, seeds, **options):
    return model.generate(condition, noise=SeededNoise.from_seeds(seeds), sampler=model.Sampler(**options)).values


@pytest.mark.parametrize("order", ["raster", "next_x", "random"])
@pytest.mark.parametrize("head", HEADS)
def test_every_continuous_head_trains_and_samples(head, order):
    if head == "local_dit" and order != "next_x":
        pytest.skip("a cell of the head needs a cell of the backbone")
    model = build(order=order, head=head, head_config=HEADS[head], text_depth=1)
    model.train()(Tokens(torch.randn(2, 4, 8)), condition()).loss.backward()
    assert not [key for key, weight in model.named_parameters() if weight.grad is None]
    sample = [generate(model.eval(), condition(), [1, 2], guidance_scale=2.0, num_inference_steps=steps)
              for steps in (2, 2, 5)]
    assert sample[0].shape == (2, 4, 8) and bool(sample[0].isfinite().all())
    assert torch.equal(sample[0], sample[1])
    if head != "gaussian":  # which has no steps
        assert not torch.equal(sample[0], sample[2])


def test_statistics_normalise_each_position_and_channel():
    model = build()
    tokens = 3 + 2 * torch.randn(64, 4, 8)
    tokens[:, 2, 5] = 7.0  # constant
    model.fit_statistics(Tokens(tokens))
    torch.testing.assert_close(model.token_mean, tokens.mean(0))
    assert float(model.token_std[2, 5]) == pytest.approx(1e-3)
    sampled = generate(model, condition(), [0, 1])
    assert float((sampled[:, 2, 5] - 7).abs().max()) < 0.1


def test_dropped_captions_are_the_null_caption():
    """Rows whose draw falls below text_drop lose their caption in training; the others keep it."""
    model = build(text_drop=0.5, context_noise=0.0, head="gaussian", head_config={})
    given, tokens = condition(2), Tokens(torch.randn(2, 4, 8))

    def loss(captions, *uniform):
        noise = ReplayNoise(uniform=[*uniform, torch.zeros(2, 1, 1)], normal=[torch.zeros(2, 4, 8)])
        return model.loss(tokens, captions, noise=noise).loss

    null_mask = torch.tensor([True, False, False, False, False, False])
    mixed = CaptionIds(torch.stack([given.ids[0], given.null_ids]), torch.stack([given.mask[0], null_mask]),
                       given.null_ids)
    expected, whole = loss(mixed), loss(given)  # eval mode
    model.train()
    dropped = loss(given, torch.tensor([0.6, 0.4]))
    torch.testing.assert_close(dropped, expected)
    torch.testing.assert_close(loss(given, torch.tensor([0.6, 0.6])), whole)
    assert not torch.allclose(dropped, whole)


@pytest.mark.parametrize(("changes", "words"), [
    ({"order": "spiral"}, "'spiral'"), ({"cell_size": 3}, "cells of 3"), ({"head": "none"}, "unknown head 'none'"),
    ({"num_heads": 3}, "64 is not a multiple of 3 heads"),
])
def test_wrong_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        FlowARGenerator(**{**SMALL_GENERATOR, **changes})


@pytest.mark.parametrize(("changes", "options", "words"), [
    ({"order": "random", "head": "flow", "head_config": HEADS["flow"]}, {"num_order_steps": 9}, r"1\.\.4 steps, got 9"),
    ({}, {"num_order_steps": 2}, "belong to the order random, this model has next_x"),
    ({}, {"solver": "ddim"}, "solver must be one of .*'ddim'"),
    ({}, {"solver": "rk4"}, "solver must be one of .*'rk4'"),
    ({}, {"solver": "sde", "time_shift": 2.0}, "takes no time_shift, got 2.0"),
    ({"head": "gaussian", "head_config": {}}, {"solver": "euler"}, "GaussianHead has no solver"),
    ({"head": "diffusion", "head_config": HEADS["diffusion"]}, {"time_shift": 2.0}, "DiffusionHead has no time_shift"),
    ({"head": "diffusion", "head_config": HEADS["diffusion"]}, {"solver": "euler"}, "sampler must be one of"),
])
def test_options_that_order_and_head_do_not_have_are_refused_before_sampling(changes, options, words):
    model, seen = build(**changes), []
    with pytest.raises(ValueError, match=words):
        model.generate(condition(), noise=SeededNoise.from_seeds([1, 2]), sampler=model.Sampler(**options),
                       callback=lambda step, total: seen.append(step))
    assert seen == []


def test_options_of_heads_act():
    model, diffusion = build(), build(head="diffusion", head_config=HEADS["diffusion"])
    made = [generate(model, condition(), [1, 2], num_inference_steps=3, **options) for options in (
        {}, {"solver": "heun"}, {"solver": "sde"}, {"time_shift": 3.0}, {"scaled_guidance": True})]
    made += [generate(diffusion, condition(), [1, 2], num_inference_steps=3, **options)
             for options in ({}, {"solver": "ddim"})]
    assert len({tuple(values.flatten().tolist()) for values in made}) == len(made)


@pytest.mark.parametrize(("given", "words"), [
    (lambda c: CaptionIds(c.ids.float(), c.mask, c.null_ids), "caption ids must be Long"),
    (lambda c: CaptionIds(c.ids, c.mask[:, 1:], c.null_ids), "the mask of captions must be"),
    (lambda c: CaptionIds(c.ids, c.mask, c.null_ids[1:]), "the null caption must be Long"),
    (lambda c: CaptionIds(c.ids + 10_000, c.mask, c.null_ids), "caption ids must lie in 0..159, got 10"),
    (lambda c: CaptionIds(*(part.repeat(*[1] * (part.ndim - 1), 9) for part in (c.ids, c.mask, c.null_ids))),
     "L in 1..12")])
def test_wrong_captions_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        build().generate(given(condition()), noise=SeededNoise.from_seeds([1, 2]))


# registered sizes ------------------------------------------------------------------------------------------------

NAMES = [entry.name for entry in list_models("generator") if entry.class_name == "FlowARGenerator"]
OPTIONS = {"guidance_scale": 2.0, "temperature": 0.9, "num_inference_steps": 3}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module", params=NAMES)
def registered(request):
    torch.manual_seed(0)
    model = shake(create_model(request.param), scale=0.02)
    model.fit_statistics(Tokens(0.3 + 1.5 * torch.randn(32, model.config.num_tokens, model.config.token_dim)))
    return model


def full_passes(model, condition, noise):
    """Generation without cache: the hidden states of the whole sequence are computed anew for each step."""
    rows, config, null = len(condition), model.config, model.null_text(condition)
    ids, mask = torch.cat([condition.ids, null.ids]), torch.cat([condition.mask, null.mask])
    options = {"guidance": OPTIONS["guidance_scale"], "temperature": OPTIONS["temperature"], "noise": noise,
               "num_steps": OPTIONS["num_inference_steps"]}
    values = torch.zeros(rows, config.num_tokens, config.token_dim)
    if config.order == "random":
        order = noise.permutation(rows, config.num_tokens)
        counts = cosine_reveal_counts(config.num_tokens, config.num_tokens // 4)
        steps = [part.tolist() for part in order.split(counts, dim=1)]
    else:
        cell = config.cell_size if config.order == "next_x" else 1
        steps = [[list(range(start, start + cell))] * rows for start in range(0, config.num_tokens, cell)]
    known = torch.zeros(rows, config.num_tokens, dtype=torch.bool)
    for places in steps:
        both = values.repeat(2, 1, 1)
        embedded = model.hide(both, (~known).repeat(2, 1)) if config.order == "random" else model.shift(both)
        hidden = model.hidden(ids, mask, embedded)
        wanted = torch.stack([hidden[row, places[row % rows]] for row in range(2 * rows)])
        drawn = model.token_head.sample(wanted, **options)
        for row, place in enumerate(places):
            values[row, place], known[row, place] = drawn[row], True
    return values * model.token_std + model.token_mean


def test_cached_decoding_equals_a_full_pass_for_each_step(registered):
    given = registered.example_condition(3)
    ours = generate(registered, given, [1, 2, 3], **OPTIONS)
    with torch.no_grad():
        expected = full_passes(registered, given, SeededNoise.from_seeds([1, 2, 3]))
    torch.testing.assert_close(ours, expected, **CLOSE)


@torch.no_grad()
def test_hidden_states_do_not_see_what_comes_later(registered):
    given, length = registered.example_condition(2), registered.config.num_tokens
    context = torch.randn(2, length, registered.config.token_dim, generator=torch.Generator().manual_seed(3))
    other = context.clone()
    other[:, length // 2:] = 100.0

    def hidden(embedded):
        return registered.hidden(given.ids, given.mask, embedded)

    if registered.config.order == "random":
        masked = (torch.arange(length) >= length // 2).expand(2, -1)
        before, after = (hidden(registered.hide(tokens, masked)) for tokens in (context, other))
        torch.testing.assert_close(before, after, **CLOSE)
        assert not torch.allclose(before, hidden(registered.hide(context + 1, masked)), **CLOSE)
        return
    before, after = (hidden(registered.shift(tokens)) for tokens in (context, other))
    cell = registered.order.cell
    seen = max(cell, length // 2 + cell)  # the cell after the first that changed
    torch.testing.assert_close(before[:, : length // 2 + 1], after[:, : length // 2 + 1], **CLOSE)
    if seen < length:
        assert not torch.allclose(before[:, seen:], after[:, seen:], **CLOSE)


def test_padding_of_captions_changes_nothing(registered):
    whole = registered.example_condition(4)
    mask = torch.arange(12) < torch.tensor([[3], [12], [7], [5]])
    ids, null = whole.ids[:1, :12].expand(4, -1).masked_fill(~mask, 0), whole.null_ids[:12]
    expected = generate(registered, CaptionIds(ids, mask, null), [1, 2, 3, 4], **OPTIONS)
    rubbish = torch.where(mask, ids, 7)
    longer = [torch.nn.functional.pad(tensor, (0, 5)) for tensor in (rubbish, mask, null)]
    for given in ((rubbish, mask, null), longer):
        made = generate(registered, CaptionIds(*given), [1, 2, 3, 4], **OPTIONS)
        torch.testing.assert_close(made, expected, **CLOSE)
