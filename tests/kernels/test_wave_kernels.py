"""Snake, overlap-add and packed quantization in Triton's interpreter against float64."""

import pytest
import torch
from exactness import check, gradients, random

from photophone.kernels import overlap_add, pack, snake

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 50), (1, 1, 1), (1, 2, 1100), (1, 70, 3)])
def test_snake(fused, shape, dtype):
    for frames in (False, True):
        x = random(1, *shape, dtype=dtype, scale=2.0)
        alpha = random(2, shape[1], dtype=dtype).abs() + 0.1
        x, alpha = (x.transpose(1, 2), alpha) if frames else (x, alpha.view(1, -1, 1))
        given = [x.requires_grad_(), alpha.requires_grad_()]
        found, grads = fused(gradients, snake.snake, given, 1)
        true, true_grads = gradients(snake.snake, [t.detach().double().requires_grad_() for t in given], 1)
        check("snake", 1, found[0], true[0])
        check("gradient of x", 1, grads[0], true_grads[0])
        check("gradient of alpha", 1, grads[1], true_grads[1], factor=4.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "hop", "count", "trim"), [(12, 4, 7, 4), (16, 5, 3, 8), (8, 8, 2, 0), (40, 20, 28, 0),
                                                             (20, 7, 1, 6)])
def test_overlap_add(fused, size, hop, count, trim, dtype):
    frames = random(9, 2, count, size, dtype=dtype).transpose(1, 2).requires_grad_()
    window = (torch.hann_window(size, periodic=True) + 0.05).to(dtype)
    mask = torch.ones(2, count, dtype=torch.bool)
    mask[1, (count + 1) // 2:] = False
    for options in ({}, {"mask": mask, "valid": mask.sum(1) * hop - 1}, {"constant": torch.tensor(1.7)}):
        def synthesis(x, w=window, options=options):
            return overlap_add.windowed_overlap_add(x, w, hop, trim=trim, **options)
        found, grads = fused(gradients, synthesis, [frames], 9)
        exact = window.double()
        double = frames.detach().double().requires_grad_()
        true, true_grads = gradients(lambda x, f=synthesis, w=exact: f(x, w), [double], 9)
        check("signal", 9, found[0], true[0])
        # where no window is, torch's gradient is 0 / 0; a frame's sample lies over one sample of the signal alone
        check("gradient", 9, grads[0], true_grads[0].nan_to_num(0.0))


def test_a_gap_in_the_envelope_has_no_gradient(fused):
    frames = random(10, 1, 8, 3).requires_grad_()
    window = torch.hann_window(8)  # its first sample is zero, and so is the envelope's
    out = fused(overlap_add.windowed_overlap_add, frames, window, 4)
    assert out[0, 0] == 0
    (grad,) = torch.autograd.grad(out.sum(), frames)
    assert grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "dim", "groups"), [(5, 18, 1), (1, 1, 1), (7, 12, 3), (300, 8, 2), (3, 62, 1)])
def test_signs(fused, rows, dim, groups, dtype):
    x = random(11, 1, dim, rows, dtype=dtype).transpose(1, 2)
    x[0, 0, 0] = 0.0
    values, indices = fused(pack.quantize_signs, x, groups, 0.25)
    bits = (x > 0).double()
    assert torch.equal(values.double(), (2 * bits - 1) * 0.25)
    weights = [2 ** (dim // groups - 1 - i) for i in range(dim // groups)]
    true = [[[sum(int(b) * w for b, w in zip(bits[0, n, q * len(weights):], weights)) for n in range(rows)]
             for q in range(groups)]]
    assert indices.tolist() == (true if groups > 1 else [true[0][0]])
    assert torch.equal(fused(pack.quantize_signs, x, groups, 0.25, want_values=False)[1], indices)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("levels", "eps", "twice"), [([8, 5, 5, 5], 1e-3, False), ([4] * 8, 1e-3, True),
                                                      ([3] * 8, -1e-3, False), ([2], 1e-3, False),
                                                      ([7, 2], 1e-3, True)])
def test_levels(fused, levels, eps, twice, dtype):
    z, sizes = random(12, 2, len(levels), 40, dtype=dtype, scale=2.0).transpose(1, 2), torch.tensor(levels)
    z[0, 0] = 0.0
    values, indices = fused(pack.quantize_levels, z, levels, sizes, eps=eps, twice=twice)
    exact = z.double()
    for _ in range(1 + twice):
        exact = pack.bound(exact, sizes, eps)
    clear = ((exact - exact.floor() - 0.5).abs() > 1e-5).all(-1)  # not on the border between two levels
    assert clear.float().mean() > 0.9
    digits = exact.round().long() + sizes // 2
    assert torch.equal(indices[clear], pack.pack_levels(digits, levels)[clear])
    assert torch.equal(values[clear], (exact.round() / (sizes // 2)).float()[clear])


@pytest.mark.parametrize("dtype", DTYPES)
def test_snake_of_hardly_any_frequency_is_the_identity(fused, dtype):
    x = random(31, 1, 3, 20).to(dtype)
    alpha = torch.tensor([0.0, 1e-7, 1e-5]).to(dtype)[None, :, None]
    for made in (snake.snake(x, alpha), fused(snake.snake, x, alpha)):
        torch.testing.assert_close(made, x, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)
