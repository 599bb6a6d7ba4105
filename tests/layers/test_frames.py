"""The native code for frames beside plain torch: values, shapes at odd sizes, and weights that change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from photophone.codecs.encodec.model import EnCodec
from photophone.codecs.mimi.model import Mimi
from photophone.codecs.wavtokenizer.model import WavTokenizer
from photophone.kernels import frames as kernel
from photophone.kernels.frames import FEWEST_FRAMES, conv_reference
from photophone.layers import convnext
from photophone.layers.causal_conv import CausalConv1d, CausalConvTranspose1d
from photophone.layers.convnext import ConvNeXtBlock
from photophone.layers.dac_conv import DACDecoder, DACEncoder
from photophone.layers.frames import Conv1d, ConvTranspose1d, Linear, convolve, convolve_up, run_lstm
from photophone.layers.vocos_backbone import VocosBackbone
from photophone.loading.registry import find

compiled = pytest.mark.skipif(kernel.library()[0] is None, reason="no C++ compiler")
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


def reference(function, monkeypatch):
    """What ``function`` gives without the native code."""
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "library", lambda: (None, "test"))
        return function()


def check(function, monkeypatch, calls: int = 1) -> None:
    """Equal with and without the native code, which is called at least ``calls`` times."""
    counted = []
    run = kernel._run
    with torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(kernel, "_run", lambda *a: counted.append(1) or run(*a))
        made = function()
    with torch.no_grad():
        torch.testing.assert_close(made, reference(function, monkeypatch), **TOLERANCE)
    assert len(counted) >= calls


@compiled
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "channels", "out", "kernel_size", "stride", "dilation", "size"), [
    (1, 1, 32, 7, 1, 1, 1000), (2, 3, 5, 3, 1, 3, 61), (1, 130, 67, 1, 1, 1, 95), (3, 32, 1, 7, 1, 1, 333),
    (2, 16, 24, 8, 4, 1, 250), (1, 20, 12, 10, 5, 1, 101), (1, 7, 13, 5, 3, 2, 97), (2, 600, 30, 4, 2, 1, 47),
    (1, 48, 25, 3, 1, 9, 4097), (1, 4, 4, 2, 5, 1, 77), (1, 3000, 9, 1, 1, 1, 33),
])
def test_convolutions(rows, channels, out, kernel_size, stride, dilation, size, threads, monkeypatch):
    layer = nn.Conv1d(channels, out, kernel_size, stride, dilation=dilation).requires_grad_(False)
    x, scale = noise(rows, channels, size), noise(out)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for left, right, fill in ((0, 0, "zeros"), (5, 2, "zeros"), (6, 11, "mirrored")):
            made = convolve(x, layer, left=left, right=right, fill=fill)
            options = {"left": left, "right": right, "fill": fill, "before": "elu", "after": "gelu", "scale": scale,
                       "add": noise(*made.shape)}
            check(lambda: convolve(x, layer, **options), monkeypatch)  # noqa: B023
    finally:
        torch.set_num_threads(before)


@compiled
@pytest.mark.parametrize(("rows", "channels", "out", "kernel_size", "stride", "size"), [
    (1, 64, 32, 4, 2, 100), (2, 30, 7, 10, 5, 33), (1, 24, 40, 16, 8, 75), (3, 5, 3, 6, 3, 9), (1, 12, 6, 5, 5, 50),
    (1, 16, 5, 12, 4, 41), (1, 6, 4, 26, 13, 21), (2, 8, 8, 3, 1, 64), (1, 8, 3, 7, 3, 20),
])
def test_transposed_convolutions(rows, channels, out, kernel_size, stride, size, monkeypatch):
    layer = nn.ConvTranspose1d(channels, out, kernel_size, stride).requires_grad_(False)
    x = noise(rows, channels, size)
    calls = int(stride > 1 and kernel_size % stride == 0)
    check(lambda: convolve_up(x, layer), monkeypatch, calls)
    check(lambda: convolve_up(x, layer, trim=2, made=(size - 1) * stride - 3, before="elu"), monkeypatch, calls)


@pytest.mark.parametrize(("kernel_size", "stride"), [(8, 4), (4, 4), (6, 2), (5, 2), (3, 1)])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_few_frames_go_up_as_torch_takes_them(count, kernel_size, stride):
    layer, x = nn.ConvTranspose1d(12, 5, kernel_size, stride), noise(2, 12, count)
    expected = functional.conv_transpose1d(x.double(), layer.weight.double(), layer.bias.double(), stride)
    torch.testing.assert_close(convolve_up(x, layer).double(), expected, **TOLERANCE)
    made = (count - 1) * stride + kernel_size - 2
    cut = convolve_up(x, layer, trim=1, made=made)
    torch.testing.assert_close(cut.double(), expected[..., 1:1 + made], **TOLERANCE)
    (ours,) = torch.autograd.grad(convolve_up(x, layer).square().sum(), layer.weight)
    (theirs,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@compiled
def test_chunks_of_a_stream_take_the_native_code(monkeypatch):
    block = ConvNeXtBlock(16, 40, 7, causal=True, layer_scale=0.3).requires_grad_(False)
    x, chunks = noise(2, 16, 44), []
    whole = reference(lambda: block(x), monkeypatch)
    block.dwconv.stream_state = block.dwconv.initial_state(2)
    counted, run = [], convnext.depthwise_norm
    monkeypatch.setattr(convnext, "depthwise_norm", lambda *each, **named: counted.append(1) or run(*each, **named))
    for part in x.split([1, 4, 9, 30], dim=2):
        chunks.append(block(part))
    block.dwconv.stream_state = None
    torch.testing.assert_close(torch.cat(chunks, dim=2), whole, **TOLERANCE)
    assert len(counted) == 3  # all but the chunk of a single frame


@compiled
def test_any_strides_of_the_signal(monkeypatch):
    layer, linear = nn.Conv1d(12, 9, 3).requires_grad_(False), nn.Linear(12, 9).requires_grad_(False)
    for x in (noise(2, 40, 12).transpose(1, 2), noise(2, 24, 80)[:, ::2, ::2], noise(1, 12, 1, 40)[:, :, 0],
              noise(1, 12, 1).expand(2, 12, 40), noise(40, 2, 12).permute(1, 2, 0)):
        check(lambda: convolve(x, layer, left=2), monkeypatch)  # noqa: B023
        check(lambda: convolve(x, linear, after="gelu"), monkeypatch)  # noqa: B023
        check(lambda: convolve(x, layer, left=2, fill="mirrored", before="elu"), monkeypatch)  # noqa: B023


@compiled
@pytest.mark.parametrize("make", [
    lambda: Conv1d(6, 8, 5, padding=4, dilation=2), lambda: Conv1d(6, 8, 6, padding=2, stride=3),
    lambda: Conv1d(6, 6, 3, padding=1, groups=6), lambda: ConvTranspose1d(6, 4, 8, stride=4, padding=2),
    lambda: ConvTranspose1d(6, 4, 6, stride=3, padding=2, output_padding=1), lambda: CausalConv1d(6, 8, 7, dilation=3),
    lambda: CausalConv1d(6, 8, 4, stride=2, delay=1), lambda: CausalConv1d(6, 8, 3, repeat_first=True),
    lambda: CausalConvTranspose1d(6, 5, 8, stride=4), lambda: weight_norm(CausalConv1d(6, 8, 7)),
    lambda: weight_norm(CausalConvTranspose1d(6, 5, 10, stride=5)),
    lambda: ConvNeXtBlock(6, 20, 7, layer_scale=0.3), lambda: ConvNeXtBlock(6, 20, 7, causal=True, layer_scale=None),
    lambda: ConvNeXtBlock(6, 20, 5, dilation=2), lambda: DACDecoder(6, 16, [4, 2]),
    lambda: DACDecoder(6, 16, [3, 2], causal=True, depthwise=True),
])
def test_layers(make, monkeypatch):
    torch.manual_seed(0)
    layer = make().eval()
    for size in (2, 30, 48, 102):
        x = noise(2, 6, size)
        check(lambda: layer(x), monkeypatch, 0)  # noqa: B023


@compiled
def test_an_encoder(monkeypatch):
    torch.manual_seed(0)
    layer = DACEncoder(4, [2, 5]).eval()
    check(lambda: layer(noise(2, 1, 330)), monkeypatch, 10)


@compiled
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"num_conditions": 3}, {"condition_dim": 4},
                                     {"attention": True, "num_conditions": 2}])
def test_a_backbone(options, monkeypatch):
    torch.manual_seed(0)
    layer = VocosBackbone(10, 32, 48, 2, **options).eval()
    for rows, size in ((1, 45), (3, 17)):
        condition = None
        if "num_conditions" in options:
            condition = torch.arange(rows) % options["num_conditions"]
        if "condition_dim" in options:
            condition = noise(rows, options["condition_dim"])
        mask = torch.arange(size) < torch.tensor([size, size - 4, 9][:rows])[:, None]
        for shown in (None, mask):
            check(lambda: layer(noise(rows, 10, size), condition, shown) * mask[..., None],  # noqa: B023
                  monkeypatch, 5)


@compiled
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("rows", "units", "layers"), [(1, 48, 2), (2, 32, 1), (3, 64, 3), (5, 32, 1), (1, 20, 1)])
def test_lstms(rows, units, layers, batch_first, monkeypatch):
    layer = nn.LSTM(24, units, layers, batch_first=batch_first).requires_grad_(False)
    check(lambda: run_lstm(4 * noise(rows, 24, 50), layer), monkeypatch, 0)


@compiled
@torch.no_grad()
def test_activations_far_out():
    layer = nn.Conv1d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.tensor([-1e30, -200, -88, -50, -20, -10, -3, -1, -1e-3, -1e-6, 0, 1e-6, 0.5, 3, 10, 1e30])[None, None]
    for kind, function in (("elu", nn.functional.elu), ("gelu", nn.functional.gelu)):
        for made in (convolve(x, layer, before=kind), convolve(x, layer, after=kind)):
            torch.testing.assert_close(made, function(x), atol=1e-6, rtol=1e-6)


@compiled
@torch.no_grad()
def test_a_batch_equals_single_rows():
    layer = nn.Conv1d(40, 30, 7)
    x = noise(5, 40, 333)
    together = convolve(x, layer, left=6)
    assert torch.equal(together, torch.cat([convolve(row[None], layer, left=6) for row in x]))


@compiled
@torch.no_grad()
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("kind", [Conv1d, ConvTranspose1d, Linear])
def test_changed_weights_are_noticed(kind, normed):
    layer = kind(6, 4) if kind is Linear else kind(6, 4, 4, stride=2)
    layer = weight_norm(layer) if normed and kind is not Linear else layer
    x = noise(1, 20, 6) if kind is Linear else noise(1, 6, 20)

    def expected() -> torch.Tensor:
        if kind is Linear:
            return nn.functional.linear(x, layer.weight, layer.bias)
        plain = nn.functional.conv1d if kind is Conv1d else nn.functional.conv_transpose1d
        return plain(x, layer.weight, layer.bias, 2)

    def same() -> None:
        torch.testing.assert_close(layer(x), expected(), **TOLERANCE)

    same()
    for parameter in layer.parameters():
        parameter.mul_(1.5)
    same()
    for parameter in layer.parameters():
        parameter.data.add_(0.5)
    same()
    layer.load_state_dict({name: noise(*value.shape) for name, value in layer.state_dict().items()})
    same()
    layer.load_state_dict({name: noise(*value.shape) * 2 for name, value in layer.state_dict().items()}, assign=True)
    same()
    layer.double().float()
    same()
    other = copy.deepcopy(layer)
    for parameter in other.parameters():
        parameter.mul_(-1)
    other(x)
    same()


@compiled
def test_training_and_other_dtypes_take_the_reference(monkeypatch):
    monkeypatch.setattr(kernel, "_run", None)  # would fail
    layer = CausalConv1d(6, 8, 3)
    layer(noise(1, 6, 40)).sum().backward()
    assert layer.weight.grad is not None
    x = noise(1, 6, 40).requires_grad_()
    layer.requires_grad_(False)(x).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        layer.double()(noise(1, 6, 40).double())
        layer.float()(noise(1, 6, FEWEST_FRAMES - 1))
        layer.to("meta")(noise(1, 6, 40).to("meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert Linear(6, 8)(noise(1, 40, 6)).dtype == torch.bfloat16


@compiled
@torch.no_grad()
def test_hooks_of_linear_layers_are_called():
    block = ConvNeXtBlock(6, 20)
    seen = []
    block.pwconv1.register_forward_hook(lambda *_: seen.append(1))
    block(noise(1, 6, 40))
    linear = Linear(6, 8)
    linear.register_forward_hook(lambda *_: seen.append(2))
    linear(noise(1, 40, 6))
    assert seen == [1, 2]


@torch.no_grad()
def test_inference_mode(monkeypatch):
    with torch.inference_mode():
        layer = Conv1d(6, 8, 3)
        x = noise(1, 6, 40)
        torch.testing.assert_close(layer(x), conv_reference(x, layer.weight, layer.bias), **TOLERANCE)
        up = ConvTranspose1d(6, 8, 4, stride=2)
        torch.testing.assert_close(up(x), nn.functional.conv_transpose1d(x, up.weight, up.bias, 2), **TOLERANCE)


@compiled
@pytest.mark.parametrize(("name", "kind"), [("encodec-24khz-6kbps", EnCodec), ("mimi-8", Mimi),
                                            ("wavtokenizer-large-unify-40", WavTokenizer)])
@torch.no_grad()
def test_codecs(name, kind, monkeypatch):
    """Both directions of whole networks: the codes are the same, the audio equals to 1e-5."""
    torch.manual_seed(0)
    codec = kind(**{**find(name).config, **find(name).tiny}).eval()
    for size in (37, 1111, 3001):
        audio = noise(2, 1, size) / 10
        lengths = torch.tensor([size, size - 13])
        for given in (None, lengths):
            tokens = codec.encode(audio, given)
            plain = reference(lambda: codec.encode(audio, given), monkeypatch)  # noqa: B023
            assert (tokens.values != plain.values).float().mean() < 0.02  # a tie may fall to the other side
            wanted = reference(lambda: codec.decode(plain), monkeypatch)  # noqa: B023
            torch.testing.assert_close(codec.decode(plain), wanted, atol=1e-5, rtol=1e-5)
