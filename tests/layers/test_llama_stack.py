"""The Llama stack against transformers, and rotary tables against closed forms."""

import math

import pytest
import torch

from photophone.kernels.rotary import rotate
from photophone.layers.embeddings import sinusoidal_embedding
from photophone.layers.llama_block import LlamaStack, convert_llama_keys
from photophone.layers.rotary import longrope_scale, sequence_rotary
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import LayerCache
from photophone.loading.checkpoints import load_strict

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@torch.no_grad()
def test_the_stack_is_llama_of_transformers():
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(0)
    reference = LlamaModel(LlamaConfig(vocab_size=8, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                                       num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5))
    for weight in reference.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
    state = {f"model.{key}": value for key, value in reference.state_dict().items() if key != "embed_tokens.weight"}
    stack = LlamaStack(24, 4, 40, 2, num_kv_heads=2, head_dim=8, rotary_halves=True)
    load_strict(stack, convert_llama_keys(state, "model.", ""))
    x = torch.randn(2, 9, 24)
    table, mask = sequence_rotary(9, 8), torch.ones(9, 9, dtype=torch.bool).tril()
    expected = reference.eval()(inputs_embeds=x).last_hidden_state
    torch.testing.assert_close(stack(x, mask, table), expected, **CLOSE)

    caches = [LayerCache(2, 2, 9, 8) for _ in range(2)]
    steps = [stack(x[:, :4], mask[:4, :4], table[:4], caches)]
    steps += [stack(x[:, place:place + 1], None, table[place:place + 1], caches) for place in range(4, 9)]
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, **CLOSE)


@torch.no_grad()
def test_a_residual_scale_multiplies_what_blocks_add():
    torch.manual_seed(0)
    plain, scaled = LlamaStack(16, 2, 24, 1), LlamaStack(16, 2, 24, 1, residual_scale=0.5)
    scaled.load_state_dict(plain.state_dict())
    block, x = plain.blocks[0], torch.randn(1, 3, 16)
    y = x + 0.5 * block.attention(block.norm1(x))
    expected = plain.norm(y + 0.5 * block.feed_forward(block.norm2(y)))
    torch.testing.assert_close(scaled(x), expected, **CLOSE)


def test_the_rotary_table_has_angles_of_scaled_frequencies():
    factors = [1.5, 2.0, 0.5]
    table = sequence_rotary(7, 6, 100.0, factors, scale=1.25).double()
    for place in range(7):
        for pair, factor in enumerate(factors):
            angle = place / factor * 100.0 ** (-2 * pair / 6)
            expected = torch.tensor([1.25 * math.cos(angle), 1.25 * math.sin(angle)], dtype=torch.float64)
            torch.testing.assert_close(table[place, pair], expected, rtol=1e-5, atol=1e-6)
    assert longrope_scale(4096, 64) == pytest.approx(math.sqrt(2))  # 64 = 4096 / 64


def test_both_pairings_turn_complex_numbers():
    x, table = torch.randn(2, 3, 5, 6), sequence_rotary(5, 6)
    turn = torch.complex(*table.unbind(-1))
    for halves in (False, True):
        parts = (x[..., :3], x[..., 3:]) if halves else (x[..., ::2], x[..., 1::2])
        turned = torch.complex(*parts) * turn
        made = rotate(x, table, halves)
        again = (made[..., :3], made[..., 3:]) if halves else (made[..., ::2], made[..., 1::2])
        torch.testing.assert_close(torch.complex(*again), turned, **CLOSE)
    rows = torch.stack([table, table.flip(0)])[:, None]  # a table for each row
    torch.testing.assert_close(rotate(x, rows)[1], rotate(x[1:], table.flip(0))[0], **CLOSE)


def test_sines_first_end_at_the_longest_period():
    made = sinusoidal_embedding(torch.tensor([3.0]), 8, sine_first=True)[0].double()
    angles = [3.0 * 10_000 ** (-index / 3) for index in range(4)]
    expected = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles], dtype=torch.float64)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-6)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="got 6 and 2"):
        sequence_rotary(4, 6, factors=[1.0, 2.0])
    with pytest.raises(ValueError, match="3 heads cannot share 2"):
        SelfAttention(12, 3, num_kv_heads=2)
