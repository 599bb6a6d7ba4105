"""TASTE's spoken language model: late codes, prompts, ends, its LoRA, refusals."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import shake

from photophone import SeededNoise, create_model
from photophone.generators.taste.layout import ContinuationSampler, late_codes, piece_tables
from photophone.generators.taste.spoken_lm import TasteSpokenLM
from photophone.loading.registry import find

CODES = torch.tensor([[[1], [-1], [2], [3], [-1]], [[4], [5], [-1], [0], [0]]])
LENGTHS = torch.tensor([5, 3])
GOLDEN = Path(__file__).parents[1] / "goldens" / "data" / "taste"


def build(**changes):
    torch.manual_seed(0)
    return shake(create_model("taste-llama-1b", **{**find("taste-llama-1b").tiny, **changes}), scale=0.1)


@pytest.mark.parametrize(("delay", "by_word", "wanted"), [
    (0, True, [[1, -1, 2, 3, -1], [4, 5, -1, -1, -1]]),
    (1, True, [[-1, -1, 1, 2, -1, 3], [-1, 4, -1, 5, -1, -1]]),
    (2, True, [[-1, -1, -1, 1, -1, 2, 3], [-1, -1, -1, 4, 5, -1, -1]]),
    (4, True, [[-1] * 6 + [1, 2, 3], [-1] * 5 + [4, 5, -1, -1]]),
    (2, False, [[-1, -1, 1, -1, 2, 3, -1], [-1, -1, 4, 5, -1, -1, -1]])])
def test_codes_come_late(delay, by_word, wanted):
    assert late_codes(CODES, LENGTHS, delay, by_word)[..., 0].tolist() == wanted


def test_pieces_say_what_they_are():
    tables = piece_tables([" a", "b", ".", "!", " it's\n", " ", "<s>", "</s>"], 6, 7)
    assert tables["opens"].tolist() == [True, False, False, False, True, True, True, True]
    assert tables["banned"].tolist() == [False, False, False, True, True, True, False, True]
    assert tables["stops"].nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_every_new_word_gets_codes(delay):
    model = build(delay=delay)
    condition = model.example_condition(3)
    sampler = ContinuationSampler(extra_words=2, text_top_p=0.9, text_temperature=2.0, max_ids=60)
    for given in (condition, replace(condition, codes=None), replace(condition, lengths=0 * condition.lengths)):
        made = model.generate(given, noise=SeededNoise.from_seeds([1, 2, 3]), sampler=sampler)
        for row in range(3):
            count = int(made.mask[row].sum())
            ids, codes = made.values[row, 0, :count], made.values[row, 1:, :count]
            opens = condition.opens[ids]
            opens[0] = True
            assert not condition.banned[ids].any()
            assert ((codes >= 0).all(0) == opens).all() and ((codes == -1).all(0) == ~opens).all()
            before = int(opens[:-1].sum())
            assert before == 6 or 2 <= before < 6 and condition.stops[ids[-1]] or count == 60


def test_text_without_words_is_bounded():
    model = build()
    condition = model.example_condition(1)
    never = replace(condition, opens=torch.zeros_like(condition.opens))
    made = model.generate(never, noise=SeededNoise.from_seeds([1]), sampler=ContinuationSampler(max_ids=7))
    assert made.values.shape == (1, 5, 7) and (made.values[0, 1:, 0] >= 0).all()
    with pytest.raises(ValueError, match="do not fit the model's 256; shorten the text, or lower max_ids"):
        model.generate(condition, noise=SeededNoise.from_seeds([1]))


def test_greedy_text_needs_no_draws():
    model = build()
    condition, sampler = model.example_condition(2), ContinuationSampler(text_top_p=0.0, max_ids=6)
    one, two = (model.generate(condition, noise=SeededNoise.from_seeds(seeds), sampler=sampler).values
                for seeds in ([1, 2], [3, 4]))
    assert torch.equal(one, two)


def test_the_cache_equals_the_whole():
    """What is sampled with a memory is what the whole sequence predicts."""
    model = build()
    condition = model.example_condition(1)
    sampler = ContinuationSampler(text_top_p=0.99, text_temperature=2.0, max_ids=16, extra_words=20)
    made = model.generate(condition, noise=SeededNoise.from_seeds([1]), sampler=sampler).values
    count = int(condition.lengths[0])
    ids = torch.cat([condition.ids[:, :count], made[:, 0]], dim=1)
    codes = torch.cat([condition.codes[:, :count], made[:, 1:].transpose(1, 2)], dim=1)
    with torch.no_grad():
        x, mask, told = model.sequences(ids, codes, torch.tensor([ids.shape[1]]))
        states = model.llama.states(x, mask)
        predicted = model.quantizer.encode_codes(model.code_values(states))
    where = told[..., 0] >= 0
    where[:, :count + 1] = False  # codes of the prompt are not predicted
    assert where.sum() > 2 and torch.equal(predicted[where], told[where])


def test_a_lora_and_other_parts_in_the_file():
    state = {f"{part}.{key}": value for part in ("spoken_lm", "audio_tower")
             for key, value in load_file(GOLDEN / f"{part}.safetensors").items()}
    sizes = find("taste-llama-1b").tiny
    plain = TasteSpokenLM.from_original(state, **sizes)
    name = "spoken_lm.language_model.model.layers.0.self_attn.v_proj"
    down, up = torch.randn(4, 32), torch.randn(16, 4)
    wrapped = {key.replace("language_model.", "language_model.base_model.model."): value
               for key, value in state.items()} | {"speech_decoder.x": torch.ones(2)}
    long = name.replace("language_model.", "language_model.base_model.model.")
    wrapped[f"{long}.base_layer.weight"] = wrapped.pop(f"{long}.weight")
    wrapped |= {f"{long}.lora_A.default.weight": down, f"{long}.lora_B.default.weight": up}
    tuned = TasteSpokenLM.from_original(wrapped, **sizes)
    place = "llama.backbone.blocks.0.attention.to_qkv.weight"
    moved = tuned.state_dict()[place] - plain.state_dict()[place]
    torch.testing.assert_close(moved[-16:], 2.0 * (up @ down))
    assert not moved[:-16].any()
    state["spoken_lm.language_model.lm_head.weight"] += 1
    with pytest.raises(ValueError, match=r"lm_head.weight is not the embedding"):
        TasteSpokenLM.from_original(state, **sizes)


@pytest.mark.parametrize(("changes", "words"), [
    ({"ids": torch.full((2, 5), 48)}, "ids must lie in 0..47"), ({"lengths": torch.tensor([5, 6])}, "of 0..5"),
    ({"codes": None, "lengths": torch.tensor([5, 0])}, "of 1..5"), ({"codes": torch.full((2, 5, 4), 16)}, "in -1..15"),
    ({"opens": torch.zeros(47, dtype=torch.bool)}, "opens must be bool"),
    ({"banned": torch.ones(48, dtype=torch.bool)}, "every id")])
def test_wrong_prompts_are_refused(changes, words):
    model = build()
    with pytest.raises(ValueError, match=words):
        model.check_condition(replace(model.example_condition(2), **changes))


def test_text_stays_close_to_the_model_that_was_there():
    model = build()
    tokens = model.example_tokens(2)
    ids = tokens.values[:, 0]
    with torch.no_grad():
        text = model.llama.embedding(torch.cat([torch.full_like(ids[:, :1], 46), ids[:, :-1]], dim=1))
        reference = model.llama.logits(model.llama.states(text, torch.ones_like(ids, dtype=torch.bool)))
        free, held = model.joint_loss(tokens), model.joint_loss(tokens, reference)
        x, mask, _ = model.sequences(ids, tokens.values[:, 1:].transpose(1, 2), tokens.lengths)
        logits = model.llama.logits(model.llama.states(x, mask))[:, :5]
    logs, wanted = logits[tokens.mask].log_softmax(-1), reference[tokens.mask].log_softmax(-1)
    moved = (wanted.exp() * (wanted - logs)).sum(-1).mean()
    torch.testing.assert_close(held.metrics["text_loss"], 0.9 * moved + 0.1 * free.metrics["text_loss"])
