"""HART: what it samples with a cache is what one pass over the whole predicts, in every kind of block."""

from unittest import mock

import pytest
import torch
from tiny import build, shake

from photophone import SeededNoise
from photophone.core.noise import GlobalNoise
from photophone.decoding import next_scale
from photophone.generators.hart.model import HART
from photophone.kernels.sampling import draw
from photophone.loading.registry import find

TINY = find("hart-0.7b-1024").tiny
KINDS = {
    "published": {"modulation": "table", "context_norm": True},
    "blocks": {"modulation": "blocks", "cosine": True},
    "average": {"modulation": "blocks", "pooling": "avg"},
    "plain": {"modulation": "none", "gated": False, "level_waves": False},
    "absolute": {"modulation": "blocks", "rotary": False, "gated": False, "cosine": True, "level_waves": False},
}


def model_of(**changes):
    torch.manual_seed(0)
    model = shake(HART(**{**TINY, **changes}), scale=0.2)
    model.connect(build("hart-vq16-1024"))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_the_sampler_agrees_with_one_pass(kind):
    model = model_of(**KINDS[kind])
    condition = model.example_condition(3)
    sampler, seen = model.Sampler(guidance_scale=1.0, residual=False), []

    def recording(logits, *arguments, **options):
        seen.append(logits)
        return draw(logits, *arguments, **options)

    with mock.patch.object(next_scale, "draw", recording):
        tokens = model.generate(condition, noise=SeededNoise.from_seeds([1, 2, 3]), sampler=sampler)
    codes = model.quantizer.indices(tokens.values)
    assert torch.equal(torch.nn.functional.embedding(codes, model.quantizer.codes.codebook), tokens.values)
    with torch.no_grad():
        logits, rest, kept = model.teacher(tokens.values, condition, GlobalNoise())
    assert kept.shape[1] == model.sizes[-1]  # a scale of 16 cells is seen whole
    torch.testing.assert_close(torch.cat(seen, dim=1), logits, rtol=1e-4, atol=1e-4)
    assert len(codes.unique()) > 10 and bool(rest.isfinite())


def test_cells_of_the_last_scale_come_in_steps():
    model = model_of()
    condition, steps = model.example_condition(2), []
    options = {"guidance_scale": 2.0, "num_order_steps": 4, "temperature": 0.5}
    tokens = model.generate(condition, noise=SeededNoise.from_seeds([1, 2]), sampler=model.Sampler(**options),
                            callback=lambda step, total: steps.append((step, total)))
    assert steps == [(step, 6) for step in range(1, 7)]  # two coarser scales, then four
    whole = model.generate(condition, noise=SeededNoise.from_seeds([1, 2]),
                           sampler=model.Sampler(**{**options, "num_order_steps": 1}))
    coarse = sum(model.sizes[:-1])
    assert torch.equal(tokens.values[:, :coarse], whole.values[:, :coarse])
    assert not torch.allclose(tokens.values[:, coarse:], whole.values[:, coarse:])


def test_official_settings_become_ours():
    official = {"patch_nums": [1, 2, 4], "embed_dim": 32, "depth": 2, "num_heads": 2, "context_token": 5,
                "context_dim": 12, "attn_type": "llama", "mlp_type": "llama", "disable_aln": True, "shared_aln": True,
                "cond_drop_rate": -100.0}
    ours = HART.convert_config(official)
    assert ours["modulation"] == "table" and ours["rotary"] and ours["gated"] and ours["condition_drop"] == 0.0
    assert HART.convert_config({**official, "shared_aln": False})["modulation"] == "none"
    assert not HART.convert_config({**official, "attn_type": "gpt2"})["rotary"]
    with pytest.raises(ValueError, match="use_cross_attn"):
        HART.convert_config({**official, "use_cross_attn": True})


def test_another_tokenizer_is_refused():
    model = model_of()
    with pytest.raises(ValueError, match="needs a HARTTokenizer, got a VARTokenizer"):
        model.connect(build("var-vq16-256"))
    with pytest.raises(ValueError, match="scales, codes and width"):
        shake(HART(**{**TINY, "num_codes": 32})).connect(build("hart-vq16-1024"))
