"""Linear layers for decoding: weights packed or rounded once, the parameters untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.kernels.few_rows import MAX_ROWS, WEIGHTS, FewRowsWeight, library, linear_reference, round_weight


class DecodeLinear(nn.Linear):
    """A linear layer (..., in) -> (..., out) with a second copy of its weights, in the form that decoding reads.

    The parameters, and so what is saved, stay those of the layer that it replaces, and are used where gradients are
    recorded. The copy is made again when parameters are loaded, moved or cast.

    Args:
        linear: the layer to replace; its parameters are shared.
        weights: "float32", "bfloat16", "int8" or "int4": what the copy holds, see :func:`prepare_for_decoding`.
    """

    def __init__(self, linear: nn.Linear, weights: str) -> None:
        nn.Module.__init__(self)
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.weight = linear.weight
        self.bias = linear.bias
        self.kind = weights
        self.train(linear.training)
        self._refresh()

    def _refresh(self) -> None:
        self.packed: FewRowsWeight | None = None
        self.rounded: tuple[Tensor, Tensor | None] | None = None
        if self.weight.device.type == "cpu" and library()[0] is not None:
            self.packed = FewRowsWeight(self.weight, self.kind, self.bias)
        elif self.weight.device.type != "meta":
            self.rounded = round_weight(self.weight.detach(), self.kind)

    def _apply(self, fn: Callable, *args: Any, **options: Any) -> Self:
        super()._apply(fn, *args, **options)
        self._refresh()
        return self

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._refresh()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) to (..., out), by the copy of the weights wherever no gradient is recorded."""
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return F.linear(x, self.weight, self.bias)
        if self.packed is not None:
            many = x.shape[:-1].numel() > MAX_ROWS
            if many and self.kind == "float32" and x.dtype == self.weight.dtype == torch.float32:
                return F.linear(x, self.weight, self.bias)
            return self.packed(x)
        values, scale = self.rounded
        if x.is_cuda and self.kind != "float32":
            return linear_reference(x.bfloat16(), values, scale, self.bias).to(x.dtype)
        return linear_reference(x, values, scale, self.bias)

    def extra_repr(self) -> str:
        """Sizes of the layer, and what the copy holds."""
        return f"{super().extra_repr()}, weights={self.kind}"


SMALLEST = 2**18
"""Weights of a layer below which nothing is gained: they stay in the processor's caches between two steps."""


def prepare_for_decoding(model: nn.Module, weights: str = "float32", smallest: int = SMALLEST) -> nn.Module:
    """Replace plain linear layers of a model by :class:`DecodeLinear`, in place; the state dict stays the same.

    On the processor weights are packed for products with few rows, by code that is compiled once
    (:mod:`photophone.kernels.few_rows`); without a compiler the rounded weights go through torch's own products, which
    saves no time. On a GPU "bfloat16" multiplies in bfloat16, and "int8" and "int4" as well, with weights that are read
    as int8 only where ``torch.compile`` fuses the conversion.

    Args:
        model: a module with weights.
        weights: "float32" (nothing is rounded), "bfloat16" (relative error of a weight at most 2**-8), "int8"
            (symmetric, one scale for each output: error at most 1/254 of the largest weight of that output), or "int4"
            (one scale for each 32 neighbouring channels of an output: root mean square error at most 1/13 of the
            largest of these, and 9 % of a weight's standard deviation for weights that are drawn from a normal
            distribution). Activations stay float32 on the processor.
        smallest: layers with fewer weights stay as they are.

    Returns:
        The model. Memory grows by the copy: as much as the linear layers in float32, a half, a quarter or a seventh.

    Raises:
        ValueError: weights is not one of the four.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    restore_linears(model)
    return _replace(model, nn.Linear, lambda linear: DecodeLinear(linear, weights), smallest)


def restore_linears(model: nn.Module) -> nn.Module:
    """Undo :func:`prepare_for_decoding`: plain linear layers with the same parameters again."""
    return _replace(model, DecodeLinear, _plain)


def _plain(layer: DecodeLinear) -> nn.Linear:
    linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    linear.weight = layer.weight
    linear.bias = layer.bias
    return linear.train(layer.training)


def _replace(model: nn.Module, old: type[nn.Module], make: Callable[[Any], nn.Module],
             smallest: int = 0) -> nn.Module:
    made: dict[nn.Module, nn.Module] = {}  # a layer in two places stays one
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is old and child.weight.numel() >= smallest:
                if child not in made:
                    made[child] = make(child)
                setattr(parent, name, made[child])
    return model
