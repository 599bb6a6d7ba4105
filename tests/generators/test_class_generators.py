"""Generators of classes beyond the contract: statistics, solvers, schedules, the metrics of masked tokens."""

import math

import pytest
import torch
from tiny import build

from photophone import ClassLabels, SeededNoise, Tokens, create_model, list_models
from photophone.decoding.guidance import scheduled_guidance
from photophone.decoding.masked import mask_counts
from photophone.generators.masking import mask_tokens, masked_token_loss
from photophone.generators.sit.model import SiT, line_positions
from photophone.generators.titok.model import UViTBert
from photophone.loading.registry import find

NAMES = [entry.name for entry in list_models("generator")
         if entry.target.startswith(("photophone.generators.titok.model:", "photophone.generators.sit.model:"))]
ONE = ClassLabels(torch.tensor([1]))


def generate(model, condition=ONE, **options):
    noise = SeededNoise.from_seeds(range(1, 1 + len(condition)))
    return model.generate(condition, noise=noise, sampler=model.Sampler(**options)).values


@pytest.mark.parametrize("name", NAMES)
def test_published_sizes_build(name):
    with torch.device("meta"):
        model = create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) > 10**8


@pytest.mark.parametrize("name", ["titok-l32-generator", "sit-xl-softvq-l-64", "mar-base", "xar-base", "var-d16",
                                  "llamagen-b-256", "mar-huge-cspd-base"])
def test_wrong_labels_are_refused(name):
    for labels in (torch.tensor([10]), torch.tensor([-1]), torch.tensor([1.0]), torch.tensor([[1]])):
        with pytest.raises(ValueError, match=r"labels must (be Long \(B,\)|lie in 0..9)"):
            build(name).generate(ClassLabels(labels), noise=SeededNoise.from_seeds([1]))


@pytest.mark.parametrize("name", ["sit-xl-softvq-l-64", "dit-xl-softvq-l-64"])
def test_statistics_scale_the_tokens(name):
    model = build(name)
    scaled = type(model)(**{**find(name).tiny, "token_mean": 3.0, "token_std": 2.0})
    scaled.load_state_dict(model.state_dict())
    plain, other = (generate(m.eval(), num_inference_steps=3) for m in (model, scaled))
    torch.testing.assert_close(other, plain * 2 + 3)


def test_statistics_of_training_tokens_become_part_of_the_config(tmp_path):
    tokens = Tokens(3 + 2 * torch.randn(64, 8, 6, generator=torch.Generator().manual_seed(0)))
    model = SiT(**find("sit-xl-softvq-l-64").tiny)
    model.fit_statistics(tokens)
    model.save_pretrained(tmp_path)
    mean, std = SiT.from_pretrained(tmp_path).statistics()
    torch.testing.assert_close(mean, tokens.values.mean(dim=(0, 1)))
    torch.testing.assert_close(std, tokens.values.std(dim=(0, 1)))
    given = SiT(**{**find("sit-xl-softvq-l-64").tiny, "token_mean": 1.0})
    given.fit_statistics(tokens)
    assert given.config.token_mean == 1.0  # of published weights


def test_solvers_of_sit_agree_on_a_constant_velocity():
    model = SiT(**find("sit-xl-softvq-l-64").tiny).eval()
    with torch.no_grad():
        for weight in model.final_layer.parameters():
            weight.zero_()
        model.final_layer.linear.bias.fill_(0.5)
    x = SeededNoise.from_seeds([1]).normal(1, 8, 6)
    for solver in ("euler", "heun"):
        torch.testing.assert_close(generate(model, num_inference_steps=3, solver=solver), x - 0.5)
    with pytest.raises(ValueError, match="solver must be one of euler, heun, sde, got 'rk4'"):
        generate(model, solver="rk4")


def test_guidance_of_sit_acts_between_its_times():
    model = build("sit-xl-softvq-l-64")
    options = {"num_inference_steps": 4, "solver": "euler"}
    plain = generate(model, guidance_scale=1.0, **options)
    assert torch.equal(plain, generate(model, guidance_scale=3.0, guidance_from=0.8, guidance_until=0.9, **options))
    assert not torch.equal(plain, generate(model, guidance_scale=3.0, guidance_from=0.9, guidance_until=1.0, **options))


def test_positions_are_sines_and_cosines_in_turn():
    table = line_positions(5, 8)
    assert table.shape == (5, 8)
    torch.testing.assert_close(table[:, 0], torch.arange(5.0).sin())
    torch.testing.assert_close(table[:, 1], torch.arange(5.0).cos())


def test_mask_counts_fall_to_one_and_stay():
    assert mask_counts(6, 1) == []
    assert mask_counts(2, 5) == [1, 1, 1, 1]
    counts = mask_counts(128, 8)
    expected = [math.floor(128 * math.acos(step / 8) / (math.pi / 2)) for step in range(1, 8)]
    assert counts == expected
    with pytest.raises(ValueError, match="at least 1, got 0"):
        mask_counts(4, 0)


def test_settings_out_of_range_are_refused():
    model = build("titok-l32-generator")
    for options, words in (({"guidance_schedule": "cosine"}, "guidance_schedule must be one of"),
                           ({"temperature": -1.0}, "temperature must be 0 to 20"),
                           ({"num_order_steps": 0}, "num_order_steps must be 1 to 1000")):
        with pytest.raises(ValueError, match=words):
            generate(model, **options)
    with pytest.raises(ValueError, match=r"no option num_inference_steps; it has .*\(num_order_steps are the steps"):
        model.Sampler.from_settings({"num_inference_steps": 8}, "ImageBert")
    with pytest.raises(ValueError, match="depth must be even, got 3"):
        UViTBert(depth=3, width=32, num_heads=2)


def test_schedules_of_guidance_go_from_none_to_all():
    for schedule in ("linear", "power-cosine"):
        course = [scheduled_guidance(5.0, schedule, step / 8) for step in range(9)]
        assert course[0] == 1 and course[-1] == 5 and course == sorted(course)
        assert {scheduled_guidance(1.0, schedule, step / 8) for step in range(9)} == {1.0}
    assert scheduled_guidance(5.0, "linear", 0.25) == 2.0 and scheduled_guidance(5.0, "constant", 0.0) == 5.0
    assert scheduled_guidance(5.0, "power-cosine", 0.5, power=1.0) == pytest.approx(3.0)


def test_accuracy_is_that_of_masked_places_row_by_row():
    """Three rows with 5, 5 and 6 hidden places, one of which is right: (1/5 + 0 + 0) / 3, whatever is visible."""
    tokens = torch.zeros(3, 9, dtype=torch.long)
    masked = torch.arange(9) < torch.tensor([[5], [5], [6]])
    logits = torch.nn.functional.one_hot(torch.ones_like(tokens), 4).float()
    logits[0, 2] = torch.tensor([9.0, 0.0, 0.0, 0.0])
    assert float(masked_token_loss(logits, tokens, masked)[1]) == pytest.approx(0.2 / 3)
    logits[:, 7:] = torch.tensor([9.0, 0.0, 0.0, 0.0])  # visible places, all right
    assert float(masked_token_loss(logits, tokens, masked)[1]) == pytest.approx(0.2 / 3)
    output = build("titok-l32-generator").loss(Tokens(torch.zeros(3, 8, dtype=torch.long)),
                                               ClassLabels(torch.tensor([0, 1, 2])))
    assert set(output.metrics) == {"right_codes"} and 0 <= float(output.metrics["right_codes"]) <= 1


def test_at_least_one_token_is_masked():
    ids, masked = mask_tokens(torch.zeros(64, 5, dtype=torch.long), 9, SeededNoise.from_seeds(range(64)))
    assert bool(masked.any(dim=1).all()) and bool((ids == 9).eq(masked).all())
    assert len(set(masked.sum(dim=1).tolist())) > 2
