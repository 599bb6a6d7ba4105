"""Guidance rows, masked mean and the table of heads."""

import pytest
import torch

from photophone.heads import HEADS, build_head
from photophone.heads.base import split_guidance
from photophone.kernels.solver import combine_guidance
from photophone.layers.lengths import masked_mean


def test_guidance_splits_and_combines():
    hidden = torch.randn(6, 4, 5)
    assert split_guidance(hidden, 1.0) == (hidden, None)
    cond, uncond = split_guidance(hidden, 3.0)
    assert torch.equal(torch.cat([cond, uncond]), hidden)
    torch.testing.assert_close(combine_guidance(cond, uncond, 3.0), 3 * cond - 2 * uncond)
    assert torch.equal(combine_guidance(cond, None, 3.0), cond)
    assert torch.equal(split_guidance(hidden, torch.ones(3))[1], uncond)  # a tensor always means two halves


def test_guidance_of_each_row():
    cond, uncond, scales = torch.randn(3, 4, 5), torch.randn(3, 4, 5), torch.tensor([0.0, 1.0, 2.5])
    rows = [combine_guidance(cond[i], uncond[i], scales[i].item()) for i in range(3)]
    torch.testing.assert_close(combine_guidance(cond, uncond, scales), torch.stack(rows))


def test_bad_guidance_is_refused():
    with pytest.raises(ValueError, match="5 rows"):
        split_guidance(torch.zeros(5, 2, 2), 2.0)
    with pytest.raises(ValueError, match=r"\(3,\), got \(2,\)"):
        split_guidance(torch.zeros(6, 2, 2), torch.ones(2))


def test_masked_mean():
    values, mask = torch.tensor([[1.0, float("nan")], [3.0, 5.0]]), torch.tensor([[True, False], [True, True]])
    assert masked_mean(values, mask) == 3
    assert masked_mean(values, torch.zeros(2, 2, dtype=torch.bool)) == 0
    assert masked_mean(torch.ones(2, 2), None) == 1
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        masked_mean(values, torch.ones(2, dtype=torch.bool))


def test_table_of_heads_is_closed():
    head = build_head("gaussian", in_dim=4, token_dim=2)
    assert type(head) is HEADS["gaussian"]
    with pytest.raises(ValueError, match="'os.system'; known: categorical, diffusion"):
        build_head("os.system")
