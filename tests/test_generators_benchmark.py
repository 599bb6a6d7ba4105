"""benchmarks/generators.py on tiny systems: FLOPs by blocks and steps, projections, ratios."""

import sys
from pathlib import Path

import pytest
import torch

from photophone.generators.bitdance.model import BitDance
from photophone.generators.llamagen.model import LlamaGenGPT
from photophone.generators.mar.model import MAR
from photophone.generators.nar.model import NAR
from photophone.generators.xar.model import XAR

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # behind: names of theirs are in use here

import generator_systems  # noqa: E402 - scripts, which are no package
import generators  # noqa: E402

CODES = {"grid_size": 4, "num_codes": 32, "num_classes": 5, "width": 32, "num_heads": 2, "hidden_multiple": 32}


def tiny_dit(depth):
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel(num_layers=depth, num_attention_heads=2, attention_head_dim=8, in_channels=4,
                                 out_channels=8, sample_size=32, patch_size=8, num_embeds_ada_norm=1000).eval()


TINY = {
    "ar": generator_systems.System("AR", lambda depth: LlamaGenGPT(**CODES, depth=depth).eval(), 3),
    "nar": generator_systems.System("NAR", lambda depth: NAR(**CODES, depth=depth).eval(), 3),
    "mar": generator_systems.System("MAR", lambda depth: MAR(
        num_tokens=16, token_dim=4, num_classes=5, encoder_width=32, encoder_depth=depth, encoder_heads=2,
        decoder_width=32, decoder_depth=depth, decoder_heads=2, buffer_size=4, head_width=32, head_depth=1).eval(), 3,
        {"num_order_steps": 4}, 5),
    "bitdance-4": generator_systems.System("BitDance", lambda depth: BitDance(
        grid_size=4, token_dim=8, num_codebooks=1, num_classes=5, class_tokens=2, step_side=2, width=32, depth=depth,
        num_heads=2, head_width=64, head_depth=2).eval(), 3, solver_steps=4, timed_steps=2),
    "xar": generator_systems.System("xAR", lambda depth: XAR(
        grid_size=4, token_dim=4, num_classes=5, width=32, encoder_depth=depth, encoder_heads=2, decoder_depth=depth,
        decoder_heads=2).eval(), 3, solver_steps=5, timed_steps=3),
    "dit": generator_systems.System("DiT", tiny_dit, 3, solver_steps=5, timed_steps=3,
                                    make=generator_systems.denoise),
}


@pytest.fixture
def systems(monkeypatch):
    for module in (generators, generator_systems):
        monkeypatch.setattr(module, "SYSTEMS", TINY)
    return TINY


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_flops_of_one_and_two_blocks_tell_those_of_all(systems, name):
    system = systems[name]
    whole = generators.counted(name, system.depth, system.solver_steps or 2)
    assert generators.flops(name, generators.counts(name), system.solver_steps) == whole
    assert whole == sorted(whole) and whole[0] > 0
    assert len(whole) == {"ar": 16, "nar": 7, "mar": 4, "bitdance-4": 4, "xar": 4, "dit": 1}[name]


def test_a_run_that_is_cut_short_is_projected_by_flops(systems):
    whole, cut = generators.measure("nar", 2, 60.0), generators.measure("nar", 2, 0.0)
    assert whole["share"] == 1 and 0 < cut["share"] < 0.5 and whole["steps"] == cut["steps"] == 7
    assert whole["flops"] == cut["flops"] and cut["seconds"] > 0
    assert cut["rate"] == pytest.approx(2 * cut["flops"] / cut["seconds"])
    few = generators.measure("bitdance-4", 1, 60.0)
    assert few["share"] < 1 and few["steps"] == 4  # two solver steps of four
    found = {("nar", 1): whole, ("nar", 8): whole, ("ar", 1): cut, ("ar", 8): cut}
    columns, rows = generators.speeds(found)
    assert len(rows) == 4 and all(len(row) == len(columns) for row in rows)
    assert rows[0][-1] == 100 and rows[2][-1] == round(100 * cut["share"])


def test_claims_are_told_where_both_systems_were_measured(systems, monkeypatch):
    monkeypatch.setattr(generators, "CLAIMS", [("NAR, times AR", "nar", "ar", 1.5), ("MAR", "mar", "ar", 1.0)])
    found = {(name, batch): {**generators.measure(name, 1, 60.0), "seconds": seconds} for batch in (1, 8)
             for name, seconds in (("nar", 2.0), ("ar", 2.5 * batch))}
    columns, rows = generators.claims(found)  # of MAR nothing is known
    ((words, paper, *ratios, work, steps, others, reached),) = rows
    assert (words, paper, ratios, steps, others, reached) == ("NAR, times AR", 1.5, [1.25, 10.0], 7, 16, "yes")
    assert work == found["ar", 1]["flops"] / found["nar", 1]["flops"] and len(columns) == 8


def test_parallel_steps_are_those_of_par():
    model = LlamaGenGPT(**{**CODES, "grid_size": 16}, depth=1).eval()
    seen = []
    with torch.no_grad():
        generator_systems.parallel_steps(model, 2, lambda step, total: seen.append((step, total)))
    assert seen[-1] == (67, 67) and len(seen) == 67


def test_the_measured_systems_have_about_100_million_parameters():
    for name, system in generator_systems.SYSTEMS.items():
        with torch.device("meta"):
            model = system.build(system.depth)
        count = sum(weight.numel() for weight in model.parameters())
        assert 90e6 < count < 116e6 or name in ("xar-base", "dit-xl")
