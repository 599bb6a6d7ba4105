"""Attention against its definition in float64, and through diffusers' dispatcher."""

from __future__ import annotations

import math

import pytest
import torch

from photophone.layers.attention import attend, attention_backend
from photophone.layers.rotary import sequence_rotary
from photophone.layers.window_attention import TABLE, rotary_slice


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = (torch.randn(2, 3, length, 8, generator=generator) for length in (5, 7, 7))
    mask = torch.rand(2, 1, 5, 7, generator=generator) < 0.6
    mask[..., 0] = True  # every query sees something
    return queries, keys, values, mask


def by_definition(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    logits = queries.double() @ keys.double().transpose(-1, -2) / math.sqrt(8)
    weights = torch.where(mask, logits, -math.inf).softmax(dim=-1)
    return weights @ values.double()


def test_attend_is_attention() -> None:
    torch.testing.assert_close(attend(*inputs()).double(), by_definition(*inputs()), rtol=1e-5, atol=1e-6)


def test_a_scale_replaces_the_usual_one() -> None:
    queries, keys, values, mask = inputs()
    expected = attend(queries * 3, keys, values, mask)
    torch.testing.assert_close(attend(queries, keys, values, mask, scale=3 / math.sqrt(8)), expected)
    with attention_backend("_native_math"):
        torch.testing.assert_close(attend(queries, keys, values, mask, scale=3 / math.sqrt(8)), expected)
    trained = [x.bfloat16().requires_grad_() for x in (queries, keys, values)]
    torch.testing.assert_close(attend(*trained, mask, scale=3 / math.sqrt(8)).float(), expected, rtol=5e-2, atol=5e-2)


def test_training_in_bfloat16_gives_the_outputs_and_gradients_of_the_definition() -> None:
    *three, mask = inputs()
    mask[:, :, 2] = False  # one query sees nothing and gets nothing
    parts = [x.bfloat16().requires_grad_() for x in three]
    made = attend(*parts, mask)
    made.float().square().sum().backward()
    exact = [x.detach().double().requires_grad_() for x in parts]
    expected = by_definition(*exact, mask).nan_to_num()
    torch.testing.assert_close(made.double(), expected, rtol=2e-2, atol=2e-2)
    assert not made[:, :, 2].any()
    seen = by_definition(exact[0][:, :, [0, 1, 3, 4]], *exact[1:], mask[:, :, [0, 1, 3, 4]])
    seen.square().sum().backward()
    for ours, truth in zip(parts, exact):
        torch.testing.assert_close(ours.grad.double(), truth.grad, rtol=5e-2, atol=5e-2)


def test_backends_of_diffusers_give_the_same() -> None:
    with attention_backend("_native_math"):
        made = attend(*inputs())
    torch.testing.assert_close(made.double(), by_definition(*inputs()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made, attend(*inputs()), rtol=1e-5, atol=1e-6)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="no-such"), attention_backend("no-such"):
        attend(*inputs())


def test_rotary_tables_of_a_stream_stay_small() -> None:
    """Those of any positions are those of the whole, from tables that begin near them."""
    whole = sequence_rotary(8 * TABLE, 16, 100_000.0)
    device = torch.device("cpu")
    for start, end in ((0, 3), (0, 3000), (1000, 1030), (TABLE, TABLE + 1), (7 * TABLE - 1, 7 * TABLE + 1)):
        made = rotary_slice(start, end, 16, 100_000.0, device)
        assert torch.equal(made, whole[start:end])
        assert made.untyped_storage().nbytes() <= 8 * 8 * max(2 * TABLE, 4 * (end - start))
    assert rotary_slice(10**6, 10**6 + 1, 16, 100_000.0, device).untyped_storage().nbytes() == 8 * 8 * TABLE
