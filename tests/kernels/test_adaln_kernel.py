"""Norm, modulation, gate and residual, forward and backward, in Triton's interpreter against float64."""

import pytest
import torch
import torch.nn.functional as F
from exactness import check, gradients, random

from photophone.kernels import adaln

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# rows of x, of the modulation, width
SHAPES = [((2, 5, 33), (2, 1, 33)), ((7, 96), (7, 96)), ((3, 4, 1), (1, 1, 1)), ((2, 3, 2, 20), (2, 3, 1, 20)),
          ((1, 40, 6), (6,)), ((2, 3, 1000), (1, 3, 1000))]
NAMES = ("x", "gate", "h", "shift", "scale", "weight", "bias")


def inputs(shape, shared, dtype, seed, weights=True, bias=True):
    made = [random(seed + i, *size, dtype=dtype) for i, size in
            enumerate((shape, shared, shape, shared, shared))]
    made += [random(seed + 5, shape[-1], dtype=dtype) if weights else None,
             random(seed + 6, shape[-1], dtype=dtype) if bias else None]
    return [None if x is None else x.requires_grad_() for x in made]


def in_float64(tensors):
    return [None if x is None else x.detach().double().requires_grad_() for x in tensors]


def check_against_float64(function, tensors, seed, fused):
    out, grads = fused(gradients, function, tensors, seed)
    exact = in_float64(tensors)
    true_out, true_grads = gradients(function, exact, seed)
    for number, (a, b) in enumerate(zip(out, true_out)):
        check(f"output {number}", seed, a, b)
    given = [name for name, x in zip(NAMES, tensors) if x is not None]
    for name, x, a, b in zip(given, [x for x in tensors if x is not None], grads, true_grads):
        assert a.dtype == x.dtype
        check(f"gradient of {name}", seed, a, b, factor=2.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "shared"), SHAPES)
def test_everything_at_once(fused, shape, shared, dtype):
    def block(x, gate, h, shift, scale, weight, bias):
        return adaln.gate_residual_norm(x, gate, h, shift, scale, weight=weight, bias=bias, eps=1e-4)
    if dtype != torch.float32 and shape[-1] in (1, 6):
        pytest.skip("the norm of a rounded sum of so few channels is not near that of the exact sum")
    check_against_float64(block, inputs(shape, shared, dtype, 11), 11, fused)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("silu", [False, True])
def test_norm_and_modulation(fused, rms, silu):
    shape, shared = (3, 4, 40), (3, 1, 40)
    tensors = inputs(shape, shared, torch.float32, 12, bias=not rms)
    tensors[1] = tensors[2] = None

    def norm(x, gate, h, shift, scale, weight, bias):
        return adaln.norm_modulate(x, shift, scale, weight=weight, bias=bias, rms=rms, silu=silu)
    check_against_float64(norm, tensors, 12, fused)


def test_norm_alone_and_residual_with_a_number(fused):
    x, h, weight = (random(13 + i, *s).requires_grad_() for i, s in enumerate(((2, 3, 50), (2, 3, 50), (50,))))

    def block(x, h, weight):
        return adaln.gate_residual_norm(x, 0.7, h, weight=weight, rms=True, eps=None)
    out, grads = fused(gradients, block, [x, h, weight], 13)
    a, b, w = (t.detach().double().requires_grad_() for t in (x, h, weight))
    total = a + 0.7 * b
    normed = F.rms_norm(total, (50,), w, torch.finfo(torch.float32).eps)
    slopes = [random(1013 + i, 2, 3, 50, dtype=torch.bfloat16).double() for i in range(2)]
    true = torch.autograd.grad((total, normed), (a, b, w), slopes)
    for name, left, right in zip(("sum", "norm", "x", "h", "weight"), [*out, *grads], [total, normed, *true]):
        check(name, 13, left, right.detach(), factor=2.0)


@pytest.mark.parametrize("used", [0, 1])
def test_only_one_output_is_used(fused, used):
    tensors = inputs((2, 3, 16), (2, 1, 16), torch.float32, 14)

    def one(*given):
        return adaln.gate_residual_norm(given[0], given[1], given[2], given[3], given[4], weight=given[5],
                                        bias=given[6])[used]
    wanted = tensors if used else tensors[:3]
    out = fused(one, *tensors)
    grads = torch.autograd.grad(out.sin().sum(), wanted)
    exact = in_float64(tensors)
    true = torch.autograd.grad(one(*exact).sin().sum(), exact if used else exact[:3])
    for name, a, b in zip(NAMES, grads, true):
        check(f"gradient of {name}", 14, a, b, factor=2.0)


def test_a_program_of_the_backward_pass_adds_up_many_rows(fused, monkeypatch):
    from photophone.kernels.fused import adaln as fused_adaln

    monkeypatch.setattr(fused_adaln, "BACKWARD_PROGRAMS", 8)

    def block(x, gate, h, shift, scale, weight, bias):
        return adaln.gate_residual_norm(x, gate, h, shift, scale, weight=weight, bias=bias)
    for shared in ((2, 1, 12), (2, 21, 12)):
        check_against_float64(block, inputs((2, 21, 12), shared, torch.float32, 21), 21, fused)


def test_gate_alone_with_strides(fused):
    x = random(15, 4, 30, 5).transpose(1, 2).requires_grad_()
    chunks = random(16, 4, 1, 60).requires_grad_()
    h = random(17, 5, 4, 30).transpose(0, 1).requires_grad_()

    def gated(x, chunks, h):
        return adaln.gate_residual(x, chunks.chunk(2, dim=-1)[1], h)
    out, grads = fused(gradients, gated, [x, chunks, h], 15)
    exact = in_float64([x, chunks, h])
    true_out, true_grads = gradients(gated, exact, 15)
    for a, b in zip([*out, *grads], [*true_out, *true_grads]):
        check("gate", 15, a, b)


def test_dtypes_are_those_of_torch(fused):
    x, shift, scale = random(18, 2, 8, dtype=torch.bfloat16), random(19, 2, 8), random(20, 2, 8)
    assert fused(adaln.norm_modulate, x, shift, scale).dtype == adaln.norm_modulate(x, shift, scale).dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert fused(adaln.norm_modulate, x).dtype == torch.float32


def test_refuses_half_a_modulation():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="shift"):
        adaln.norm_modulate(x, shift=x)
    with pytest.raises(ValueError, match="bias"):
        adaln.norm_modulate(x, bias=x[0], rms=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [1e-5, 1e-2, 1.0])
def test_a_norm_without_eps_adds_what_torch_adds(fused, dtype, level):
    x = random(21, 4, 48, scale=level).to(dtype)
    true = F.rms_norm(x, (48,))
    for weight in (None, torch.ones(48, dtype=dtype)):
        for found in (adaln.norm_modulate, lambda *a, **k: fused(adaln.norm_modulate, *a, **k)):
            made = found(x, rms=True, eps=None, weight=weight)
            torch.testing.assert_close(made, true, rtol=4 * torch.finfo(dtype).eps, atol=1e-6)
    summed = fused(adaln.gate_residual_norm, x, 1.0, x, rms=True, eps=None)[1]
    torch.testing.assert_close(summed, F.rms_norm(x + x, (48,)), rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


def test_a_layer_norm_needs_its_eps(fused):
    x = random(22, 2, 8)
    for run in (adaln.norm_modulate, lambda *a, **k: fused(adaln.norm_modulate, *a, **k)):
        with pytest.raises(ValueError, match="no default eps"):
            run(x, eps=None)
