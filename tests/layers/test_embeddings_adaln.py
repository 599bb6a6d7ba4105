"""Time embedding and adaptive layer normalisation."""

import math

import pytest
import torch

from photophone.kernels.adaln import modulate
from photophone.layers.adaln import AdaLNFinalLayer, AdaLNResidualBlock
from photophone.layers.embeddings import TimestepEmbedding, sinusoidal_embedding


def test_sinusoidal_embedding_is_cosines_then_sines():
    embedding = sinusoidal_embedding(torch.tensor([[3.0], [0.0]]), 8)
    frequencies = [10_000 ** (-k / 4) for k in range(4)]
    expected = [math.cos(3 * f) for f in frequencies] + [math.sin(3 * f) for f in frequencies]
    assert embedding.shape == (2, 1, 8)
    assert embedding[0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert embedding[1, 0].tolist() == [1] * 4 + [0] * 4
    with pytest.raises(ValueError, match="7"):
        sinusoidal_embedding(torch.zeros(1), 7)


def test_time_scale_makes_flow_times_into_steps():
    torch.manual_seed(0)
    steps, flow = TimestepEmbedding(16), TimestepEmbedding(16, time_scale=1000.0)
    flow.load_state_dict(steps.state_dict())
    torch.testing.assert_close(flow(torch.tensor([0.25])), steps(torch.tensor([250])))


def test_new_blocks_are_the_identity_and_new_outputs_zero():
    x, condition = torch.randn(2, 3, 8), torch.randn(2, 1, 8)
    assert torch.equal(AdaLNResidualBlock(8)(x, condition), x)
    assert not AdaLNFinalLayer(8, 5)(x, condition).any()


def test_residual_block_follows_the_formula():
    torch.manual_seed(0)
    block, x, condition = AdaLNResidualBlock(8), torch.randn(2, 3, 8), torch.randn(2, 1, 8)
    torch.nn.init.normal_(block.adaLN_modulation[1].weight)
    shift, scale, gate = block.adaLN_modulation[1](torch.nn.functional.silu(condition)).split(8, dim=-1)
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(block(x, condition), x + gate * block.mlp(normed * (1 + scale) + shift))
    torch.testing.assert_close(modulate(x, shift, scale), x * (1 + scale) + shift)
