"""A block used twice is two blocks with the same weights."""

import pytest
import torch
from tiny import shake

from photophone.heads.local_dit import LocalDiT

SETTINGS = {"token_dim": 4, "cond_dim": 6, "width": 32, "num_heads": 2, "cell_size": 4}


def test_repeats_share_weights_but_not_offsets():
    looped = shake(LocalDiT(**SETTINGS, depth=1, repeats=2), scale=0.2)
    unrolled = LocalDiT(**SETTINGS, depth=2)
    state = looped.state_dict()
    twice = {}
    for key, value in state.items():
        if not key.startswith("blocks.0."):
            twice[key] = value
            continue
        for use in range(2):
            name = key.replace("blocks.0.", f"blocks.{use}.")
            twice[name] = value[use:use + 1] if key.endswith("offsets") else value
    unrolled.load_state_dict(twice)
    generator = torch.Generator().manual_seed(0)
    x, condition = (torch.randn(2, 8, size, generator=generator) for size in (4, 6))
    t = torch.tensor([0.2, 0.7])
    torch.testing.assert_close(looped(x, t, condition), unrolled(x, t, condition), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("repeats", [1, 3])
def test_depth_from_repeats_costs_offsets_only(repeats):
    count = sum(p.numel() for p in LocalDiT(**SETTINGS, depth=2, repeats=repeats).parameters())
    once = sum(p.numel() for p in LocalDiT(**SETTINGS, depth=2).parameters())
    assert count - once == (repeats - 1) * 2 * 6 * 32
