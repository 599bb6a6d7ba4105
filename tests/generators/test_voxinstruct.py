"""VoxInstruct: what may come where, prompts, ends, books, and the LoRA of its text encoder."""

from dataclasses import replace

import pytest
import torch
from tiny import shake

from photophone import SeededNoise, create_model
from photophone.generators.voxinstruct.condition import BookSampler, InstructionSampler, WrittenSpeech
from photophone.generators.voxinstruct.network import convert_keys
from photophone.loading.registry import find


def build(name):
    torch.manual_seed(0)
    return shake(create_model(name, **find(name).tiny), scale=0.2)


def test_ids_come_where_they_may_and_prompts_stand_behind_the_units():
    model = build("voxinstruct-ar")
    layout, condition = model.layout, model.example_condition(6)
    made = model.generate(condition, noise=SeededNoise.from_seeds(range(6)), sampler=InstructionSampler(max_ids=60))
    prompts = condition.prompt_codes(layout, model.config.num_books)[:, 0]
    ended = 0
    for row in range(6):
        ids = made.values[row, :int(made.mask[row].sum())].tolist()
        assert len(ids) <= 55
        if layout.semantic_end not in ids:
            continue
        place = ids.index(layout.semantic_end)
        assert all(number < layout.border for number in ids[:place])
        assert ids[place + 1:place + 3] == prompts[row].tolist()
        codes = ids[place + 3:]
        assert all(layout.border <= number < layout.begin or number == layout.end for number in codes)
        assert layout.end not in codes[:-1]
        ended += 1
    assert ended


@pytest.mark.parametrize("options", [{"semantic_guidance": 1.0, "text_guidance": 1.0, "unit_guidance": 1.0},
                                     {"text_guidance": 1.0}, {"unit_guidance": 1.0}, {"temperature": 0.0}])
def test_guidance_of_1_and_greedy_runs(options):
    model = build("voxinstruct-ar")
    condition, sampler = model.example_condition(2), InstructionSampler(max_ids=14, **options)
    one, two = (model.generate(condition, noise=SeededNoise.from_seeds(seeds), sampler=sampler).values
                for seeds in ([1, 2], [1, 2] if options.get("temperature") is None else [3, 4]))
    assert torch.equal(one, two)


@pytest.mark.parametrize("steps", [1, 3, 7, 50])
def test_all_books_are_filled_and_the_first_is_kept(steps):
    model = build("voxinstruct-nar")
    ids, lengths = model._example_ids(2, 0)
    condition = replace(model.example_condition(2), ids=ids[:, 0], lengths=lengths)
    noise, sampler = SeededNoise.from_seeds([1, 2]), BookSampler(num_order_steps=steps)
    made = model.generate(condition, noise=noise, sampler=sampler)
    alone = model.generate(condition[[1]], noise=noise, sampler=sampler)
    assert torch.equal(alone.values, made.values[1:, :, :4])
    assert made.values.shape == (2, 4, 5) and made.mask.sum(1).tolist() == [5, 4]
    assert int(made.values.min()) >= 0 and int(made.values.max()) < model.config.num_codes
    first = condition.ids[0, 6:11] - model.layout.first_code
    assert torch.equal(made.values[0, 0], first)
    assert torch.equal(made.values[:, :, :2], condition.codes)


def test_wrong_conditions_are_refused():
    model = build("voxinstruct-nar")
    given = vars(model.example_condition(2))
    end = model.layout.semantic_end
    for changes, words in [({"text_ids": given["text_ids"] + 30}, "text_ids must lie in 0..29"),
                           ({"text_ids": given["text_ids"].repeat(1, 2), "text_mask": given["text_mask"].repeat(1, 2)},
                            "1 to 9 tokens, got 10"),
                           ({"language": given["language"] + 2}, "language must lie in 0..1"),
                           ({"codes": None}, "both units and codes"), ({"codes": given["codes"][:, 1:]}, "of 4 books"),
                           ({"ids": None}, "ids must be Long"), ({"ids": given["ids"].clamp(max=end - 1)}, "once"),
                           ({"ids": given["ids"] + 100}, "ids must lie in 0..27")]:
        with pytest.raises(ValueError, match=words):
            model.check_condition(WrittenSpeech(**{**given, **changes}))
    first = build("voxinstruct-ar")
    with pytest.raises(ValueError, match="max_ids=6 leaves no room behind a prompt of 7 ids"):
        first.generate(first.example_condition(1), noise=SeededNoise.from_seeds([1]),
                       sampler=InstructionSampler(max_ids=6))


def test_a_lora_becomes_part_of_the_weights():
    weight, up, down = torch.randn(6, 6), torch.randn(6, 2), torch.randn(2, 6)
    prefix = "t5_model.base_model.model.encoder.block.0.layer.0.SelfAttention"
    merged = convert_keys({f"{prefix}.q.base_layer.weight": weight, f"{prefix}.q.lora_A.default.weight": down,
                           f"{prefix}.q.lora_B.default.weight": up, f"{prefix}.k.weight": weight}, "model.")
    place = "text.mt5.block.0.layer.0.SelfAttention"
    assert set(merged) == {f"{place}.q.weight", f"{place}.k.weight"}
    torch.testing.assert_close(merged[f"{place}.q.weight"], weight + up @ down)
    assert torch.equal(merged[f"{place}.k.weight"], weight)
