"""Causal convolutions: they see no later input, and chunks give the whole."""

import pytest
import torch
from torch import nn

from photophone.layers.causal_conv import CausalConv1d, CausalConvTranspose1d
from photophone.layers.streaming import streaming

LAYERS = [lambda: CausalConv1d(3, 4, 7), lambda: CausalConv1d(4, 4, 3, dilation=5, groups=4),
          lambda: CausalConv1d(3, 4, 8, stride=4), lambda: CausalConv1d(3, 4, 4, stride=4),
          lambda: CausalConv1d(3, 4, 10, stride=5, delay=1),
          lambda: CausalConvTranspose1d(3, 4, 8, stride=4), lambda: CausalConvTranspose1d(3, 2, 5, stride=5),
          lambda: CausalConvTranspose1d(4, 4, 9, stride=4, groups=4, bias=False)]


def layer_and_input(make, frames=12):
    torch.manual_seed(0)
    layer = make().double()
    step = layer.stride[0] if isinstance(layer, CausalConv1d) else 1
    return layer, torch.randn(2, layer.in_channels, frames * step, dtype=torch.float64), step


@pytest.mark.parametrize("make", LAYERS)
def test_the_output_does_not_see_later_inputs(make):
    layer, x, step = layer_and_input(make)
    other = x.clone()
    other[..., 6 * step:] = 9.0
    whole = layer(x)
    per_frame = whole.shape[-1] // 12
    torch.testing.assert_close(layer(other)[..., :6 * per_frame], whole[..., :6 * per_frame])
    assert not torch.allclose(layer(other)[..., 6 * per_frame:], whole[..., 6 * per_frame:])


@pytest.mark.parametrize("make", LAYERS)
def test_chunks_give_the_whole(make):
    layer, x, step = layer_and_input(make)
    with streaming(layer, 2):
        parts = [layer(chunk) for chunk in x.split([step, 4 * step, 2 * step, 5 * step], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), layer(x))
    assert layer.stream_state is None


def test_the_convolution_is_torchs_with_zeros_before():
    layer, x, _ = layer_and_input(LAYERS[2])
    expected = nn.functional.conv1d(nn.functional.pad(x, (4, 0)), layer.weight, layer.bias, stride=4)
    torch.testing.assert_close(layer(x), expected)


def test_misuse_is_refused():
    layer, x, _ = layer_and_input(LAYERS[2])
    with pytest.raises(ValueError, match="multiple of the stride 4, got 7"):
        layer(x[..., :7])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"), streaming(layer, 0):
        pass
    with streaming(layer, 1), pytest.raises(RuntimeError, match="streams already"), streaming(layer, 1):
        pass
