"""Rotary tables, fused self-attention and the modulated block against closed forms."""

import pytest
import torch

from photophone.kernels.rotary import rotate
from photophone.layers.adaln_block import ORDERS, AdaLNBlock
from photophone.layers.llama_block import LlamaBlock
from photophone.layers.rotary import grid_rotary, with_condition_rows
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import FeedForward, LayerCache
from photophone.layers.var_attention import VARAttention


def test_rotary_products_depend_on_the_distance_alone():
    torch.manual_seed(0)
    table = grid_rotary(3, 5, 8)
    assert table.shape == (15, 4, 2)
    query, key = (rotate(torch.randn(8).expand(1, 1, 15, 8), table)[0, 0].view(3, 5, 8) for _ in range(2))
    torch.testing.assert_close(query[0, 0] @ key[1, 2], query[1, 2] @ key[2, 4])
    assert not torch.isclose(query[0, 0] @ key[1, 2], query[0, 0] @ key[2, 1])
    torch.testing.assert_close(query.norm(dim=-1), query[0, 0].norm().expand(3, 5))


def test_condition_rows_vanish():
    table = with_condition_rows(grid_rotary(2, 2, 4), 3)
    turned = rotate(torch.ones(1, 1, 7, 4), table)
    assert bool((turned[:, :, :3] == 0).all()) and bool((turned[:, :, 3] == 1).all())
    with pytest.raises(ValueError, match="multiple of 4"):
        grid_rotary(2, 2, 6)


@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 1}, {"bias": False, "out_bias": False}])
@pytest.mark.parametrize("turned", [False, True])
@torch.no_grad()
def test_cached_attention_equals_a_causal_mask(options, turned):
    torch.manual_seed(0)
    attention = SelfAttention(16, 2, **options)
    x = torch.randn(2, 6, 16)
    table = grid_rotary(2, 3, 8)
    whole = attention(x, torch.ones(6, 6, dtype=torch.bool).tril(), table if turned else None)
    cache = LayerCache(2, options.get("num_kv_heads", 2), 6, 8)
    parts = [attention(x[:, i:i + 1], None, table[i:i + 1] if turned else None, cache) for i in range(6)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("cosine", [False, True])
@torch.no_grad()
def test_cached_attention_of_var_equals_a_causal_mask(cosine):
    torch.manual_seed(0)
    attention = VARAttention(16, 2, cosine)
    torch.nn.init.normal_(attention.q_bias)
    torch.nn.init.normal_(attention.v_bias)
    x = torch.randn(2, 6, 16)
    whole = attention(x, torch.ones(6, 6, dtype=torch.bool).tril())
    cache = LayerCache(2, 2, 6, 8)
    parts = [attention(x[:, i:i + 1], None, cache) for i in range(6)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@torch.no_grad()
def test_cosine_attention_ignores_the_length_of_its_input():
    torch.manual_seed(0)
    attention = VARAttention(8, 2)
    torch.nn.init.zeros_(attention.to_out.bias)
    x = torch.randn(1, 4, 8)
    torch.testing.assert_close(attention(3 * x), 3 * attention(x))  # values scale, weights do not


@torch.no_grad()
def test_plain_attention_of_var_has_a_quarter_of_the_usual_scale():
    torch.manual_seed(0)
    plain = VARAttention(8, 2, cosine=False)
    usual = SelfAttention(8, 2)
    usual.to_qkv.weight.copy_(torch.cat([plain.to_qkv.weight[:8] / 4, plain.to_qkv.weight[8:]]))
    usual.to_qkv.bias.zero_()
    usual.to_out.load_state_dict(plain.to_out.state_dict())
    x = torch.randn(1, 4, 8)
    torch.testing.assert_close(plain(x), usual(x))


@pytest.mark.parametrize("order", ORDERS)
@torch.no_grad()
def test_modulation_in_each_order(order):
    torch.manual_seed(0)
    block = AdaLNBlock(SelfAttention(8, 2), FeedForward(8), 8, order=order, shared=True)
    x, part = torch.randn(2, 4, 8), {name: torch.randn(2, 1, 8) for name in ORDERS[order]}
    condition = torch.cat([part[name] for name in ORDERS[order]], dim=-1)
    norm = torch.nn.LayerNorm(8, eps=1e-6, elementwise_affine=False)
    expected = x + part["gate1"] * block.attention(norm(x) * (1 + part["scale1"]) + part["shift1"])
    expected = expected + part["gate2"] * block.feed_forward(norm(expected) * (1 + part["scale2"]) + part["shift2"])
    torch.testing.assert_close(block(x, condition), expected)
    halves = torch.cat([condition, condition], dim=1)  # two entries rule two tokens each
    torch.testing.assert_close(block(x, halves), expected)


def test_bad_heads_are_refused():
    with pytest.raises(ValueError, match="not a multiple of 3 heads"):
        LlamaBlock(8, 3, 16)
