"""What every registered generator must do: a generator is tested by being registered."""

import json
import pickle

import pytest
import torch
from tiny import Hostile, arguments, build, distinct

from photophone import SeededNoise, create_model
from photophone.decoding.loop import DecodingStopped
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler
from photophone.loading.registry import find

GENERATORS = distinct("generator")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def sampler_of(name, **changes):
    """The tiny sampler of an entry."""
    return build(name).Sampler.from_settings({**find(name).tiny_sampler, **changes})


def generate(name, condition, seeds, model=None, **options):
    return (model or build(name)).generate(condition, noise=SeededNoise.from_seeds(seeds), sampler=sampler_of(name),
                                           **options)


def test_a_model_is_tested_once():
    """Entries of the same class and the same tiny sizes stand for each other."""
    keys = [(find(name).target, json.dumps(arguments(find(name)), sort_keys=True, default=list)) for name in GENERATORS]
    assert len(set(keys)) == len(keys) > 10


@pytest.mark.parametrize("name", GENERATORS)
def test_examples_fit_and_repeat(name):
    model = build(name)
    condition, tokens = model.example_condition(4), model.example_tokens(4)
    assert isinstance(condition, model.Condition) and len(condition) == len(tokens) == 4
    model.check_condition(condition)
    again = model.example_condition(4)
    for part, value in vars(condition).items():
        assert value is None or torch.equal(value, getattr(again, part)), part
    assert len(condition[1:3]) == 2


@pytest.mark.parametrize("name", GENERATORS)
def test_saved_weights_give_bit_equal_outputs(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    entry = find(name)
    if entry.chain and find(entry.chain.tokenizer[1]).kind == "image_tokenizer":
        again.connect(build(entry.chain.tokenizer[1]))
    assert not again.training
    for (key, ours), (_, loaded) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(ours, loaded), key
    condition = model.example_condition(2)
    assert torch.equal(generate(name, condition, [1, 2]).values, generate(name, condition, [1, 2], again).values)


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_means_the_same_tokens_in_any_batch(name):
    model, seeds = build(name), [5, 3, 5, 8, 13, 21, 34, 55]
    condition = model.example_condition(8)
    batch = generate(name, condition, seeds)
    assert len(batch) == 8 and bool(batch.values.isfinite().all())
    for row, seed in enumerate(seeds):
        alone = generate(name, condition[[row]], [seed])
        count = int(alone.mask.sum())  # lengths of None say that all rows are full
        assert int(batch[row].mask.sum()) == count > 0
        axis = 1 if batch.is_continuous else -1
        torch.testing.assert_close(alone.values.narrow(axis, 0, count), batch[row].values.narrow(axis, 0, count),
                                   **CLOSE)
    first, third = batch.values[0], batch.values[2]
    assert not torch.allclose(first.float(), third.float(), **CLOSE)  # one seed, two conditions


@pytest.mark.parametrize("name", GENERATORS)
def test_guidance_1_is_none(name):
    """At guidance 1 no row of the null condition is computed, and the result is that of the condition alone."""
    model = build(name)
    if "guidance_scale" not in model.Sampler.options():
        pytest.skip("the family has no guidance")
    condition, rows = model.example_condition(2), []
    hooks = [module.register_forward_pre_hook(lambda _, given: rows.extend(
        len(value) for value in given[:1] if isinstance(value, torch.Tensor) and value.ndim == 3))
        for module in model.modules() if isinstance(module, torch.nn.Linear)]
    try:
        model.generate(condition, noise=SeededNoise.from_seeds([1, 2]), sampler=sampler_of(name, guidance_scale=1.0))
    finally:
        for hook in hooks:
            hook.remove()
    assert rows and max(rows) <= 2


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_train(name):
    torch.manual_seed(0)
    model = create_model(name, **find(name).tiny).train()
    entry = find(name)
    if entry.chain and find(entry.chain.tokenizer[1]).kind == "image_tokenizer":
        model.connect(build(entry.chain.tokenizer[1]))
    output = model(model.example_tokens(8), model.example_condition(8))
    output.loss.backward()
    assert output.loss.shape == () and bool(output.loss.isfinite())
    assert all(bool(value.isfinite().all()) and not value.requires_grad for value in output.metrics.values())
    assert not [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]


@pytest.mark.parametrize("name", GENERATORS)
def test_conditions_are_dropped_in_training_only(name):
    """In eval mode the loss is a function of the draws of noise and masks alone: dropped rows would change it."""
    model = build(name)
    dropping = [key for key in model.config
                if key.endswith(("_drop", "drop_rate")) and isinstance(model.config[key], float)]
    tokens, condition = model.example_tokens(4), model.example_condition(4)
    losses = []
    for share in (0.0, 1.0):
        before = {key: model.config[key] for key in dropping}
        model.register_to_config(**{key: share for key in dropping})
        try:
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(0)
                losses.append(model.loss(tokens, condition).loss)
        finally:
            model.register_to_config(**before)
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", GENERATORS)
def test_the_callback_counts_and_stops(name):
    condition, seen = build(name).example_condition(1), []
    generate(name, condition, [1], callback=lambda step, total: seen.append((step, total)))
    assert seen == [(step, len(seen)) for step in range(1, len(seen) + 1)] and seen
    with pytest.raises(DecodingStopped, match="after step 1 of"):
        generate(name, condition, [1], callback=lambda step, total: True)


@pytest.mark.parametrize("name", GENERATORS)
def test_streams_give_the_whole(name):
    model = build(name)
    condition = model.example_condition(2)
    if not model.streams:
        with pytest.raises(ValueError, match="does not stream"):
            next(model.stream(condition, noise=SeededNoise.from_seeds([1, 2])))
        return
    parts = list(model.stream(condition, noise=SeededNoise.from_seeds([1, 2]), sampler=sampler_of(name)))
    whole = generate(name, condition, [1, 2])
    axis = 1 if whole.is_continuous else -1  # codes may have an axis of codebooks in front
    made, kept = torch.cat([part.values for part in parts], dim=axis), torch.cat([part.mask for part in parts], dim=1)
    if kept[:, 0].all():
        assert torch.equal(made, whole.values)
    for row in range(2):  # what stands in front of a row may be longer, then it begins in a later part
        ours, all_of_it = (values[row].movedim(min(axis, 0), 0)[mask[row]]
                           for values, mask in ((made, kept), (whole.values, whole.mask)))
        assert torch.equal(ours, all_of_it)
    assert torch.equal(sum(part.mask.sum(dim=1) for part in parts), whole.mask.sum(dim=1))


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_run_in_bfloat16(name, tmp_path):
    build(name).save_pretrained(tmp_path)
    model = type(build(name)).from_pretrained(tmp_path, dtype=torch.bfloat16)
    entry = find(name)
    if entry.chain and find(entry.chain.tokenizer[1]).kind == "image_tokenizer":
        model.connect(build(entry.chain.tokenizer[1]))
    tokens = generate(name, model.example_condition(2), [1, 2], model)
    assert bool(tokens.values.isfinite().all())


@pytest.mark.parametrize("name", GENERATORS)
def test_what_belongs_to_another_family_is_refused(name):
    class Foreign(Sampler):
        pass

    class Other(Condition):
        pass

    model, noise = build(name), SeededNoise.from_seeds([1])
    with pytest.raises(ValueError, match=f"takes a {model.Sampler.__name__}"):
        model.generate(model.example_condition(1), noise=noise, sampler=Foreign())
    with pytest.raises(ValueError, match=f"takes a {model.Condition.__name__}"):
        model.generate(Other(), noise=noise)
    with pytest.raises(ValueError, match="has no option speling"):
        model.Sampler.from_settings({"speling": 1}, type(model).__name__)


@pytest.mark.parametrize("name", GENERATORS)
def test_every_option_knows_its_limits(name):
    """Options say what they mean, defaults are within the limits, and what lies beyond is refused by name."""
    family = build(name).Sampler
    assert all(facts["doc"] for facts in family.options().values())
    for option, facts in family.options().items():
        if facts["choices"]:
            beyond = ["no such choice"]
        else:
            beyond = [facts["high"] + 1] if facts["high"] is not None else []
            beyond += [facts["low"] - 1] if facts["low"] is not None else []
            beyond += [float("nan")] if facts["kind"] is not bool else []
        for value in beyond:
            with pytest.raises(ValueError, match=option):
                family(**{option: value})


@pytest.mark.parametrize("file", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"])
def test_hostile_weights_do_not_run(file, tmp_path):
    model, folder, marker = build(GENERATORS[0]), tmp_path / "model", tmp_path / "code-ran"
    model.save_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    (folder / file).write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    with pytest.raises((OSError, ValueError, pickle.UnpicklingError)):
        type(model).from_pretrained(folder)
    assert not marker.exists()
    pickle.loads((folder / file).read_bytes())  # the file is hostile indeed
    assert marker.exists()
