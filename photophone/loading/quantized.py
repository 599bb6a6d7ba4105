"""Weights of 8 bits: those with simple scales are multiplied out, all others refused by the name of their form."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
FLOAT8 = tuple(kind for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
               if (kind := getattr(torch, name, None)) is not None)
FORMS = (
    (r"\.qzeros$|\.g_idx$", "GPTQ or AWQ"), (r"\.qweight$", "GPTQ or AWQ"),
    (r"\.(absmax|quant_map|nested_absmax)$|quant_state", "bitsandbytes, 4 bits"),
    (r"weight_packed$", "compressed-tensors, 4 bits"), (r"weight_zero_point$", "integers with a zero point"),
    (r"\.weight_scale_inv$", "8-bit floats with a scale for each block"),
    (r"_packed_params", "torch's quantised layers"))
"""Forms that are refused, by the keys that only they have."""
SCALES = (".weight_scale", ".scale_weight", ".SCB", ".weight.SCB", ".weight_format")
"""What stands beside an 8-bit weight, by the end of its key."""
BESIDE = re.compile(r"\.(input_scale|scale_input|weight_format|activation_scale)$|^scaled_fp8$")
WAY_OUT = "take the authors' weights of 16 or 32 bits"


class QuantizedError(ValueError):
    """The weights have a form that is not read."""


def whole_weights(state: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """``state`` with 8-bit weights multiplied by their scales, and in words what was done.

    An 8-bit weight ``x.weight`` (float8, or int8) goes with a scale for all of it or for each row: ``x.weight_scale``
    or ``x.scale_weight``, or ``x.SCB`` of bitsandbytes, by which 127 stands for 1.

    Raises:
        QuantizedError: another form of quantised weights, or 8-bit floats without a scale; names the form and a key.
    """
    for pattern, form in FORMS:
        found = [key for key in state if re.search(pattern, key)]
        if found:
            raise QuantizedError(f"the checkpoint holds quantised weights ({form}, {found[0]}), which are not "
                                 f"read; {WAY_OUT}")
    special = [key for key, value in state.items() if value.is_quantized or value.layout != torch.strided
               or value.is_nested]
    if special:
        raise QuantizedError(f"the checkpoint holds quantised or sparse tensors ({special[0]}), which are not read; "
                         f"{WAY_OUT}")
    empty = [key for key, value in state.items() if value.is_meta]
    if empty:
        raise QuantizedError(f"the checkpoint holds the shape of {empty[0]} without its values; save it where all "
                             "of its weights are loaded")
    whole, done = {}, 0
    for key, value in state.items():
        scale = _scale(state, key) if key.endswith(".weight") and value.dtype in (*FLOAT8, torch.int8) else None
        if scale is not None:
            whole[key] = _multiplied(key, value, scale)
            done += 1
        elif value.dtype in FLOAT8:
            raise QuantizedError(f"the checkpoint holds 8-bit floats without scales ({key}, {value.dtype}), which "
                                 f"lack most of their digits; {WAY_OUT}")
        else:
            whole[key] = value
    if done:
        ends = tuple(SCALES)
        whole = {key: value for key, value in whole.items() if not key.endswith(ends) and not BESIDE.search(key)}
    return whole, [f"{done} weights of 8 bits multiplied by their scales"] if done else []


def _scale(state: Mapping[str, Tensor], key: str) -> Tensor | None:
    stem = key.removesuffix(".weight")
    for end in SCALES:
        scale = state.get(stem + end)
        if scale is not None and scale.is_floating_point():
            return scale.float() / 127 if end.endswith("SCB") else scale.float()
    return None


def _multiplied(key: str, value: Tensor, scale: Tensor) -> Tensor:
    rows = value.shape[0] if value.ndim else 1
    if scale.numel() == 1:
        return value.float() * scale.reshape(())
    if scale.numel() == rows and scale.shape[0] == rows:
        return value.float() * scale.reshape(rows, *[1] * (value.ndim - 1))
    raise QuantizedError(f"the scale of {key} has the shape {tuple(scale.shape)}; only one scale, or one for each row, "
                         f"is read: {WAY_OUT}")
