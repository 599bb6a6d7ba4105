"""The attention product, how its heads are laid out, and how another back end than torch's own is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST_BY_PRODUCTS = 512
"""Positions up to which bfloat16 training on a CPU multiplies matrices itself: the backward pass of torch's fused
product is 2 (256 positions) to 7 times (16 positions) as slow there."""
_BACKEND: ContextVar[str | None] = ContextVar("attention_backend", default=None)


@contextmanager
def attention_backend(name: str) -> Iterator[None]:
    """Inside the block :func:`attend` uses a back end of diffusers' dispatcher, such as "xformers" or "flash".

    diffusers, and through it the back end's package, is imported here and not before.

    Raises:
        ValueError: diffusers does not know the name.
        RuntimeError, ImportError: the package or device that the back end needs is missing.
    """
    from diffusers.models.attention_dispatch import attention_backend as activate

    with activate(name):
        token = _BACKEND.set(name)
        try:
            yield
        finally:
            _BACKEND.reset(token)


def _trains_in_bfloat16_on_cpu(queries: Tensor) -> bool:
    return (queries.device.type == "cpu" and queries.dtype == torch.bfloat16 and queries.requires_grad
            and queries.shape[2] <= LONGEST_BY_PRODUCTS)


def _by_products(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    logits = queries @ keys.transpose(-1, -2) * (queries.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        return logits.softmax(dim=-1) @ values
    if mask.is_floating_point():
        return (logits + mask).softmax(dim=-1) @ values
    # zeros again behind the softmax: a query that sees nothing gets nothing, as from torch's own product
    weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=-1)
    return weights.masked_fill(~mask, 0) @ values


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Channels (B, N, C) as heads (B, H, N, C/H)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(heads: Tensor) -> Tensor:
    """Heads (B, H, N, d) side by side again, (B, N, H d)."""
    return heads.transpose(1, 2).flatten(2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *,
           scale: float | None = None) -> Tensor:
    """Scaled dot-product attention.

    Args:
        queries: (B, H, N, d).
        keys, values: (B, H, M, d), or (B, H', M, d) where H is a multiple of H': H / H' queries share a key (grouped
            queries, arXiv 2305.13245).
        mask: bool, broadcastable to (B, H, N, M), True where attention is allowed; or float, added to the logits; or
            None.
        scale: factor on the products of queries and keys; 1/sqrt(d) when None.

    Returns:
        (B, H, N, d).
    """
    grouped = queries.shape[1] != keys.shape[1]
    if _BACKEND.get() is None:
        if _trains_in_bfloat16_on_cpu(queries) and not grouped:
            return _by_products(queries, keys, values, mask, scale)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale, enable_gqa=grouped)
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    # the dispatcher wants the heads after the positions: (B, N, H, d)
    out = dispatch_attention_fn(queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask,
                                scale=scale, enable_gqa=grouped)
    return out.transpose(1, 2)
