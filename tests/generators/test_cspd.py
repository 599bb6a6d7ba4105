"""Continuous speculative decoding: the acceptance rule against closed forms, the loop against the target alone."""

import math

import pytest
import torch
from tiny import build, shake

from photophone import ClassLabels, SeededNoise
from photophone.core.noise import GlobalNoise
from photophone.generators.cspd.model import (
    LastStep,
    SpeculativeMAR,
    acceptance_ratio,
    closeness,
    density,
    factor,
    residual_sample,
    speculative_sample,
)
from photophone.loading.registry import find

NAME = "mar-huge-cspd-base"
FAST = {"num_inference_steps": 8, "head_sampler": "ddim", "num_order_steps": 6}


def gaussian(mean, std, rows=1, length=20_000):
    shape = (rows, length, 1)
    return LastStep(torch.full(shape, mean), torch.full(shape, std), torch.zeros(shape))


def twins():
    """A model whose draft is its target."""
    tiny = find(NAME).tiny["target_config"]
    model = shake(SpeculativeMAR(tiny, tiny))
    model.draft.load_state_dict(model.target.state_dict())
    return model


def test_densities_are_those_of_torch():
    torch.manual_seed(0)
    step = LastStep(torch.randn(5, 3), torch.rand(5, 3) + 0.5, torch.randn(5, 3))
    x = torch.randn(5, 3)
    truth = torch.distributions.Normal(step.mean, step.std)
    torch.testing.assert_close(density(x, step), truth.log_prob(x).sum(-1).exp())
    wide = torch.distributions.Normal(step.mean, step.std * 7.0)
    torch.testing.assert_close(closeness(x, step, 7.0), (wide.log_prob(x) - wide.log_prob(step.mean)).sum(-1).exp())


def test_the_ratio_is_that_of_the_densities_and_the_factor():
    torch.manual_seed(0)
    draft, target = (LastStep(torch.randn(5, 3), torch.rand(5, 3) + 0.5, torch.randn(5, 3)) for _ in range(2))
    x = torch.randn(5, 3)
    expected = density(x, target) / density(x, draft) * factor(draft, target)
    torch.testing.assert_close(acceptance_ratio(x, draft, target, 1.0), expected)


def test_the_ratio_stays_finite_where_products_of_deviations_do_not():
    steps = [LastStep(torch.full((1, 400), mean), torch.full((1, 400), 1e-3), torch.zeros(1, 400))
             for mean in (0.0, 1e-5)]
    ratio = acceptance_ratio(steps[0].mean, *steps)
    assert steps[0].std.prod() == 0 and math.isclose(float(ratio), math.exp(-400 * (0.01 / 42) ** 2 / 2), rel_tol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_accepted_and_redrawn_tokens_have_the_distribution_of_the_target(joint):
    """At widening 1 and equal factors the rule is exact: proposals from q become draws from p."""
    torch.manual_seed(0)
    draft, target = gaussian(0.0, 1.0), gaussian(0.7, 0.8)
    x = torch.randn(1, 20_000, 1)
    tokens, ratio, accepted = speculative_sample(x, draft, target, GlobalNoise(), 1.0, joint)
    assert 0.3 < float(accepted.float().mean()) < 0.9 and torch.equal(tokens[accepted], x[accepted])
    assert abs(float(tokens.mean()) - 0.7) < 0.03 and abs(float(tokens.std()) - 0.8) < 0.03
    skew = ((tokens - tokens.mean()) / tokens.std()).pow(3).mean()
    assert abs(float(skew)) < 0.06
    assert ratio.shape == (1, 20_000)


def test_a_token_without_a_proposal_becomes_zero():
    """Where the draft covers the target everywhere nothing is left to draw."""
    target = gaussian(5.0, 1.0, length=4)
    draft = LastStep(target.mean, target.std, torch.full_like(target.mean, 1.0))
    assert torch.equal(residual_sample(draft, target, SeededNoise.from_seeds([1])), torch.zeros(1, 4, 1))


def test_rows_do_not_share_residual_draws():
    draft, target = gaussian(0.0, 1.0, rows=3, length=9), gaussian(1.5, 0.5, rows=3, length=9)
    x, sources = torch.randn(3, 9, 1, generator=torch.Generator().manual_seed(1)), SeededNoise.from_seeds([1, 2, 3])
    together = speculative_sample(x, draft, target, sources, 1.0)[0]
    after = sources.uniform(3, 2)
    for row in range(3):
        source = SeededNoise.from_seeds([row + 1])
        parts = [LastStep(*(part[row:row + 1] for part in vars(step).values())) for step in (draft, target)]
        alone = speculative_sample(x[row:row + 1], *parts, source, 1.0)[0]
        assert torch.equal(alone[0], together[row]) and torch.equal(source.uniform(1, 2)[0], after[row])


def test_a_draft_that_is_the_target_is_always_accepted():
    model, labels, seen = twins(), ClassLabels(torch.tensor([3, 5])), []
    options = {**FAST, "guidance_scale": 2.0}
    alone = model.generate(labels, noise=SeededNoise.from_seeds([1, 2]), sampler=model.Sampler(prefill=1.0, **options))
    both = model.generate_observed(labels, noise=SeededNoise.from_seeds([1, 2]),
                                   sampler=model.Sampler(prefill=0.0, num_draft_steps=1, **options),
                                   observe=lambda ratio, accepted: seen.append((ratio, accepted)))
    assert len(seen) == FAST["num_order_steps"] - 1 and all(bool(accepted.all()) for _, accepted in seen)
    for ratio, _ in seen:
        torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(both.values, alone.values)


def test_verifications_come_when_they_should():
    model, seen = build(NAME), []
    sampler = model.Sampler(prefill=0.2, num_draft_steps=3, **{**FAST, "num_order_steps": 9})
    model.generate_observed(ClassLabels(torch.tensor([1])), noise=SeededNoise.from_seeds([1]), sampler=sampler,
                            observe=lambda ratio, _: seen.append(ratio.shape[1]))
    # steps 0 and 1 are the target's; it verifies at 3, 6 and 8
    assert len(seen) == 3 and sum(seen) == 16 - 2


@pytest.mark.parametrize(("options", "words"), [
    ({"num_draft_steps": 0}, "at least 1, got 0"), ({"prefill": -0.1}, "got -0.1"), ({"prefill": 1.5}, "got 1.5"),
    ({"widening": 0.0}, "widening .*got 0.0"), ({"num_order_steps": 17}, "1..16 steps, got 17"),
    ({"guidance_schedule": "cosine"}, "'cosine'"), ({"joint_residual": 1}, "must be a bool, got 1")], ids=str)
def test_settings_out_of_range_are_refused(options, words):
    model = twins()
    with pytest.raises(ValueError, match=words):
        model.generate(ClassLabels(torch.tensor([1])), noise=SeededNoise.from_seeds([1]),
                       sampler=model.Sampler(**{**FAST, **options}))


def test_models_that_do_not_fit_are_refused():
    tiny = find(NAME).tiny["target_config"]
    with pytest.raises(ValueError, match="agree in num_tokens, got 16 and 9"):
        SpeculativeMAR(tiny, {**tiny, "num_tokens": 9})
    for source in ("mar.pth", {"target": {}}, {"target": {}, "draft": {}, "vae": {}}):
        with pytest.raises(ValueError, match="needs two checkpoints"):
            SpeculativeMAR.from_original(source)
