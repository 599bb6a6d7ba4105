"""Passes of the backbone for one image: counted in tiny models, against what their order of tokens says."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny import build
from torch import nn

from photophone import SeededNoise
from photophone.decoding.calls import count_calls
from photophone.loading.registry import find

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # behind: names of its are in use here
import backbone_calls  # noqa: E402 - a script, which is no package


def counted(name, **options):
    model = build(name)
    sampler = model.Sampler.from_settings({**find(name).tiny_sampler, **options})
    with count_calls(model.backbone_part) as calls:
        model.generate(model.example_condition(2), noise=SeededNoise.from_seeds([1, 2]), sampler=sampler)
    return calls


def test_passes_and_rows_are_counted_inside_the_block_alone():
    layer = nn.Linear(2, 2)
    with count_calls(layer) as calls:
        layer(torch.ones(3, 2))
        layer(torch.ones(4, 2))
    layer(torch.ones(5, 2))
    assert (calls.passes, calls.rows) == (2, 7)


@pytest.mark.parametrize(("name", "passes"), [
    ("llamagen-b-256", 4 * 4), ("elm-l-2-10", 4 * 4), ("bitdance-b-1x", 4 * 4), ("bitdance-b-4x", 4 * 4 // 4),
    ("bitdance-14b-64x", 4 * 4 // 4), ("bar-b", 2 * 2), ("orthus-7b-base", 4), ("seed-llama-8b-sft", 32),
    ("ming-univision-16b-a3b", 5), ("arra-adapt-mimic-7b", 4), ("var-d16", 3), ("hart-0.7b-1024", 3)])
def test_a_token_a_step_or_a_scale_is_a_pass(name, passes):
    """Ming's last pass remembers the last of its four tokens."""
    assert counted(name).passes == passes


@pytest.mark.parametrize(("name", "option"), [("maskgen-vq-l", "num_order_steps"), ("maskgen-kl-l", "num_order_steps"),
                                              ("elm-mlm-l-1-16", "num_order_steps"), ("mar-base", "num_order_steps"),
                                              ("tokenset-s", "num_inference_steps")])
@pytest.mark.parametrize("steps", [2, 4])
def test_a_masked_or_diffused_step_is_a_pass(name, option, steps):
    assert counted(name, **{option: steps}).passes == steps


def test_an_iteration_to_the_fixed_point_is_a_pass_of_the_block():
    assert counted("fpdm-xl", num_inference_steps=3, num_iterations=5).passes == 15


def test_guidance_adds_rows_and_no_passes():
    guided, alone = counted("orthus-7b-base", guidance_scale=2.0), counted("orthus-7b-base", guidance_scale=1.0)
    assert guided.passes == alone.passes == 4 and guided.rows == 2 * alone.rows == 16


def test_counts_at_published_lengths_are_the_published_ones():
    """What the document shows was counted for every system of the benchmark, and is what the authors state."""
    rows = json.loads(backbone_calls.RESULTS.read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == [system.name for system in backbone_calls.SYSTEMS]
    assert [row["counted"] for row in rows] == [system.passes for system in backbone_calls.SYSTEMS]


def test_a_short_one_is_counted_anew():
    system = next(one for one in backbone_calls.SYSTEMS if one.name == "bitdance-b-16x")
    assert backbone_calls.count(system) == system.passes == 16
