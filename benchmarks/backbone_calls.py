"""How often does the backbone run for one image, and how often do the authors say it does?

Each generator is built with its published order of tokens and sampler, but narrow, shallow and with random weights, and
makes one image. Where a small head makes each token, it takes one step: its steps are no passes of the backbone.
``scripts/make_docs_tables.py`` writes the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from photophone import SeededNoise, create_model
from photophone.core.files import atomic_write
from photophone.decoding.calls import count_calls
from photophone.loading.registry import find

RESULTS = Path(__file__).with_name("backbone_calls.json")


@dataclass(frozen=True)
class Published:
    """What the authors state of one system.

    Args:
        name: of the registry.
        passes: of the backbone for an image.
        source: what says so.
        kept: settings that say how many tokens there are, which stay as published.
        sampler: options beside the published ones.
        tokenizer: settings of the tokenizer that the model reads, beside those of tests.
    """

    name: str
    passes: int
    source: str
    kept: Sequence[str] = ()
    sampler: dict[str, Any] | None = None
    tokenizer: dict[str, Any] | None = None


FEW = {"num_inference_steps": 2}
"""Of the head, which is no part of the backbone."""
IDS = ["vocab_size", "image_start", "first_size", "first_query"]
SYSTEMS = (
    Published("maskgen-vq-l", 16, "16 sampling steps (README)", ["num_tokens"]),
    Published("maskgen-kl-l", 32, "32 steps, one for each token", ["num_tokens"], {}),
    Published("hart-0.7b-1024", 14, "14 scales, the last in one step (2410.10812)", ["scales"], FEW,
              {"image_size": 256, "scales": find("hart-0.7b-1024").config["scales"]}),
    Published("elm-l-2-10", 256, "256 cells one by one (2410.16257)", ["grid_size"]),
    Published("elm-mlm-l-1-16", 10, "10 masked steps (official script)", ["grid_size"], {"guidance_scale": 4.0}),
    Published("tokenset-s", 25, "25 steps (2503.16425)", ["num_tokens"]),
    Published("bitdance-b-1x", 256, "256 tokens one by one (2602.14041)", ["grid_size", "step_side"], FEW),
    Published("bitdance-b-4x", 64, "4 tokens a step", ["grid_size", "step_side"], FEW),
    Published("bitdance-b-16x", 16, "16 tokens a step", ["grid_size", "step_side"], FEW),
    Published("bitdance-14b-64x", 64, "4,096 tokens, 64 a step", ["grid", "step_side", *IDS], FEW),
    Published("bitdance-14b-16x", 64, "1,024 tokens, 16 a step", ["grid", "step_side", *IDS], FEW),
    Published("bar-b", 256, "256 tokens one by one (2602.09024)", ["grid_size", "step_side"], {"bit_steps": "6"}),
    Published("bar-b-patch2", 64, "4 tokens a step", ["grid_size", "step_side"], {"bit_steps": "24"}),
    Published("bar-b-patch4", 16, "16 tokens a step", ["grid_size", "step_side"], {"bit_steps": "96"}),
    Published("orthus-7b-instruct", 1024, "1,024 features one by one (2412.00127)", ["num_tokens"], FEW),
    Published("seed-llama-8b-sft", 32, "32 codes one by one (2310.01218)", ["num_tokens"]),
    Published("ming-univision-16b-a3b", 257, "256 tokens, and one pass that remembers the last (2510.06590)",
              ["num_tokens"], FEW, {"image_size": 128}),
    Published("arra-adapt-mimic-7b", 1024, "1,024 codes one by one, as Chameleon", ["num_tokens"], {"top_k": 0}),
    Published("fpdm-xl", 1300, "50 steps of 26 iterations, for the 28 blocks of DiT (2401.08740)", ["grid_size"]),
    Published("llamagen-b-256", 256, "256 codes one by one (2406.06525)", ["grid_size"]),
    Published("var-d16", 10, "10 scales (2404.02905)", ["scales"], {},
              {"image_size": 64, "scales": [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]}),
    Published("nar-b-256", 31, "2 n - 1 steps for n x n tokens", ["grid_size"]),
)


def narrow(system: Published) -> torch.nn.Module:
    """The model with its published tokens and order, and the widths and depths of tests."""
    entry = find(system.name)
    torch.manual_seed(0)
    small = {key: value for key, value in entry.tiny.items() if key not in system.kept}
    model = create_model(system.name, **small).eval()
    if system.tokenizer is not None:
        tokenizer = find(entry.chain.tokenizer[1])
        model.connect(create_model(tokenizer.name, **{**tokenizer.tiny, **system.tokenizer}).eval())
    return model


def count(system: Published) -> int:
    """Passes for one image."""
    model, entry = narrow(system), find(system.name)
    options = {name: value for name, value in {**entry.published_sampler, **(system.sampler or {})}.items()
               if name in model.Sampler.options()}
    condition, noise = model.example_condition(1), SeededNoise.from_seeds([1])
    with count_calls(model.backbone_part) as calls:
        model.generate(condition, noise=noise, sampler=model.Sampler.from_settings(options))
    return calls.passes


def write(counted: dict[str, int]) -> None:
    """Put counts by names into the results, beside those that are there."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    counted = {**{row["name"]: row["counted"] for row in known}, **counted}
    rows = [{"name": system.name, "counted": counted[system.name], "published": system.passes, "source": system.source}
            for system in SYSTEMS if system.name in counted]
    with atomic_write(RESULTS) as partial:
        partial.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="registered generators; none counts all")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for system in SYSTEMS:
        if not arguments.names or system.name in arguments.names:
            passes = count(system)
            print(f"{system.name:24s} counted {passes:5d}  published {system.passes:5d}  {system.source}", flush=True)
            write({system.name: passes})


if __name__ == "__main__":
    main()
