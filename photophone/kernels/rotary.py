"""Rotary positions, and for a decode step the norm of queries and keys and the write to the cache with them.

For R = B N positions, H heads of queries, H' of keys and d channels of b bytes:

- :func:`rotate` reads and writes ``2 R H d b`` bytes, and ``4 d`` of the table for each position;
- :func:`rotate_into_cache` reads ``R (H + 2 H') d b`` and writes as much, once; torch's own kernels for norm, rotation,
  and the two cache writes move about six times that in 12 launches or more.

6 operations a pair and 5 a number for the norm: 1 to 2 a byte, bandwidth is the limit. At a decode step (R = 2, H = 12,
d = 64: 20 kB) it is the launch, about 3 microseconds, so what counts is that there is one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.kernels.adaln import default_eps
from photophone.kernels.dispatch import choose


def rotate(x: Tensor, table: Tensor, halves: bool = False) -> Tensor:
    """Turn the channel pairs of x ``(B, H, N, d)`` by a table ``(N, d / 2, 2)`` of cosines and sines, in float32.

    Tables ``(B, 1, N, d / 2, 2)`` or ``(H, N, d / 2, 2)`` give rows or heads angles of their own. Pairs are channels
    2 i and 2 i + 1, or with ``halves`` i and i + d / 2. The dtype stays.
    """
    table = table.to(x.device)
    learned = torch.is_grad_enabled() and table.requires_grad
    if not learned and x.ndim == 4 and choose("rotary", x, table, backward=True) == "triton":
        from photophone.kernels.fused import rotary

        if x.shape[-1] <= rotary.MAX_HEAD:
            return rotary.Rotation.apply(x, table, halves)
    axis = -2 if halves else -1  # of the two channels of a pair
    pairs = x.float().unflatten(-1, (2, -1) if halves else (-1, 2))
    first, second = pairs.unbind(axis)  # (B, H, N, d / 2) each
    cos, sin = table.unbind(-1)
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=axis)
    return turned.flatten(-2).to(x.dtype)


def rotate_into_cache(qkv: Tensor, table: Tensor, cache: Tensor, position: int | Tensor, *, num_heads: int,
                      halves: bool = False, q_weight: Tensor | None = None,
                      k_weight: Tensor | None = None, eps: float | None = 1e-6) -> Tensor:
    """Queries turned, keys turned and written with the values to a cache.

    Args:
        qkv: float ``(B, H + 2 H', N, d)``: heads of queries, keys and values; any strides.
        table: ``(N, d / 2, 2)`` or ``(B, 1, N, d / 2, 2)``, see :func:`rotate`.
        cache: ``(2, B, H', L, d)``, keys and values; written at ``position .. position + N - 1``.
        position: an integer, or Long ``(B,)`` on the device with one for each row, which is not read by the host.
        num_heads: H.
        halves: how channels pair.
        q_weight, k_weight: ``(d,)`` of RMS norms of queries and keys before they turn; None: no norm.
        eps: of these norms; None: see :func:`photophone.kernels.adaln.default_eps`.

    Returns:
        Queries ``(B, H, N, d)``.

    Raises:
        ValueError: when the shapes do not fit, one norm is missing, or an integer position does not fit the cache.
    """
    rows, heads, count, dim = qkv.shape
    kv_heads = (heads - num_heads) // 2
    _check_cache(qkv, cache, position, num_heads, kv_heads)
    if (q_weight is None) != (k_weight is None):
        raise ValueError("give the norms of queries and keys both or not at all")
    places = position if isinstance(position, Tensor) else None
    table = table.to(qkv.device)
    if choose("rotary", qkv, table, cache, places, q_weight, k_weight) == "triton" and cache.stride(-1) == 1:
        from photophone.kernels.fused import rotary

        if dim <= rotary.MAX_HEAD:
            queries = qkv.new_empty(rows, num_heads, count, dim)
            weights = None if q_weight is None else (q_weight.contiguous(), k_weight.contiguous())
            rotary.run(qkv, table, queries, halves=halves, heads=num_heads, kv_heads=kv_heads, cache=cache,
                       position=position, weights=weights, eps=default_eps(qkv.dtype) if eps is None else eps)
            return queries
    queries, keys, values = qkv.split([num_heads, kv_heads, kv_heads], dim=1)
    if q_weight is not None:
        queries = F.rms_norm(queries, (dim,), q_weight, eps)
        keys = F.rms_norm(keys, (dim,), k_weight, eps)
    _store(cache, rotate(keys, table, halves), values, position)
    return rotate(queries, table, halves)


def _check_cache(qkv: Tensor, cache: Tensor, position: int | Tensor, num_heads: int, kv_heads: int) -> None:
    rows, heads, count, dim = qkv.shape
    if tuple(cache.shape[:3]) != (2, rows, kv_heads) or cache.shape[4] != dim or num_heads + 2 * kv_heads != heads:
        raise ValueError(f"a cache (2, B, H', L, d) does not fit queries, keys and values of {tuple(qkv.shape)} with "
                         f"{num_heads} heads of queries, got {tuple(cache.shape)}")
    # places on the device are not read here: that would wait for it at each step
    if not isinstance(position, Tensor) and not 0 <= position <= cache.shape[3] - count:
        raise ValueError(f"{count} positions from {position} on do not fit a cache of {cache.shape[3]}")


def _store(cache: Tensor, keys: Tensor, values: Tensor, position: int | Tensor) -> None:
    """Write (B, H', N, d) each from a position on, or from one of each row on."""
    rows, _, count, _ = keys.shape
    if not isinstance(position, Tensor):
        cache[0, :, :, position:position + count] = keys
        cache[1, :, :, position:position + count] = values
        return
    place = position[:, None] + torch.arange(count, device=position.device)  # (B, N)
    row = torch.arange(rows, device=position.device)[:, None]
    # two indices with an axis between them: the result has theirs in front, (B, N, H', d)
    cache[0, row, :, place] = keys.transpose(1, 2).to(cache.dtype)
    cache[1, row, :, place] = values.transpose(1, 2).to(cache.dtype)
