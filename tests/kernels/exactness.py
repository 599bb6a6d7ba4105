"""Comparison of kernels with float64: draws, tolerances, gradients."""

import torch

TOLERANCE = {torch.float32: 4e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
"""Largest error over the largest value of a result: a few units of the last place of each dtype."""


def random(seed, *shape, dtype=torch.float32, scale=1.0):
    """Normal draws of a seed."""
    draws = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * draws).to(dtype)


def check(name, seed, actual, expected, factor=1.0):
    """Compare with float64, by the tolerance of the dtype of ``actual``; says where and for which seed it fails."""
    assert actual.shape == expected.shape, (name, seed, actual.shape, expected.shape)
    error = (actual.double() - expected.double()).abs()
    bound = factor * TOLERANCE[actual.dtype] * max(1.0, float(expected.abs().max()))
    bad = ~(error <= bound)  # true for NaN as well
    if bad.any():
        place = tuple(int(i) for i in bad.nonzero()[0])
        raise AssertionError(f"{name}, seed {seed}: {int(bad.sum())} of {bad.numel()} are wrong, the first at {place}: "
                             f"{float(actual[place])} instead of {float(expected[place])}, allowed error {bound:.2e}")


def gradients(function, inputs, seed):
    """Outputs of ``function(*inputs)`` and the gradients of the inputs for random weights of the outputs."""
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
    # numbers that every dtype holds, or the gradients of two dtypes could not be compared
    weights = [random(seed + 1000 + i, *out.shape, dtype=torch.bfloat16).to(out.dtype) for i, out in enumerate(outputs)]
    grads = torch.autograd.grad(outputs, wanted, weights)
    return [out.detach() for out in outputs], list(grads)
