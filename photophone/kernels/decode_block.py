"""All Llama blocks of a decode step in one call, on the processor.

Their linear layers are those of :mod:`photophone.kernels.few_rows`, whose bytes are the limit; norms, rotary positions,
writes to the cache, attention and SwiGLU between them cost torch about 40 calls of 5 microseconds a block, which with
int8 weights is half of the time, and a call a block a fifth. Keys and values of the places that a row sees are read
once a step: ``2 span H' d`` floats a row.

The reference is :class:`photophone.layers.llama_block.LlamaBlock` itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from photophone.kernels.few_rows import FewRowsWeight, Matrix, library


class _Block(ctypes.Structure):
    _fields_ = [*((name, Matrix) for name in ("qkv", "out", "gate", "value", "down")),
                ("norm1", ctypes.c_void_p), ("norm2", ctypes.c_void_p),
                *((name, ctypes.c_float) for name in ("eps", "residual")),
                *((name, ctypes.c_int64) for name in ("heads", "kv_heads", "head_dim", "halves"))]


class _Step(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_void_p) for name in ("x", "y", "rotary", "mask", "caches", "places", "norm")),
                *((name, ctypes.c_int64) for name in ("rows", "count", "rotary_row", "mask_row", "mask_token",
                                                      "cache_row", "cache_head", "start", "span")),
                ("eps", ctypes.c_float)]


@dataclass(frozen=True)
class DecodeBlock:
    """The constants of a block: packed weights, float32 norms (C,) and settings.

    Attributes:
        qkv, out, gate, value, down: linear layers, as :class:`photophone.layers.llama_block.LlamaBlock` has them.
        norm1, norm2: weights of the RMS norms, with ``eps``.
        heads, kv_heads, head_dim, halves: of the attention.
        residual: factor on what attention and feed-forward add.
        key: identity of weights and norms; that of a block that has been prepared again is another.
    """

    qkv: FewRowsWeight
    out: FewRowsWeight
    gate: FewRowsWeight
    value: FewRowsWeight
    down: FewRowsWeight
    norm1: Tensor
    norm2: Tensor
    eps: float
    residual: float
    heads: int
    kv_heads: int
    head_dim: int
    halves: bool
    key: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        parts = self.qkv, self.out, self.gate, self.value, self.down
        object.__setattr__(self, "key", (*map(id, parts), self.norm1.data_ptr(), self.norm2.data_ptr()))
        fields = _Block(*(part.matrix for part in parts), self.norm1.data_ptr(), self.norm2.data_ptr(), self.eps,
                        self.residual, self.heads, self.kv_heads, self.head_dim, self.halves)
        object.__setattr__(self, "_fields", fields)

    def __reduce__(self) -> tuple:
        return type(None), ()  # addresses are worth nothing in a copy: it makes its own

    @property
    def shape(self) -> tuple[int, int, int, torch.dtype]:
        """What blocks of one call have in common: channels, heads of keys, channels of a head, type of the norms."""
        return self.qkv.channels, self.kv_heads, self.head_dim, self.norm1.dtype

    def fits(self, x: Tensor, mask: Tensor | None, cache: Tensor) -> bool:
        """Whether :func:`run_decode_blocks` takes these: float32 on the processor, and whole vectors in a head."""
        floats = x.dtype == cache.dtype == self.norm1.dtype == torch.float32 and x.device == cache.device
        shaped = mask is None or (mask.dtype == torch.bool
                                  and (mask.ndim == 2 or (mask.ndim == 4 and mask.shape[1] == 1)))
        ordered = cache.stride(4) == 1 and cache.stride(3) == self.head_dim
        return floats and shaped and ordered and self.head_dim % library()[0].packed_lanes() == 0


def run_decode_blocks(blocks: Sequence[DecodeBlock], x: Tensor, mask: Tensor | None, rotary: Tensor,
                      caches: Sequence[Tensor], position: int | Tensor, span: int, norm: Tensor | None = None,
                      eps: float = 0.0) -> Tensor:
    """x (B, n, C) -> (B, n, C) through blocks, with keys and values written to their caches; no gradients.

    Args:
        blocks: of one shape.
        mask: bool (n, span) or (B or 1, 1, n, span), True where attention is allowed; None: everywhere.
        rotary: (n, head_dim / 2, 2) or (B, 1, n, head_dim / 2, 2).
        caches: of each block, float32 (2, B, H', L, d), laid out alike.
        position: place of the first token, or Long (B,), one for each row.
        span: places that are seen at most.
        norm, eps: weights float32 (C,) of an RMS norm behind the blocks, or None.

    Raises:
        ValueError: tokens behind the places that are seen, or shapes that do not fit.
    """
    rows, count, dim = x.shape
    first = blocks[0]
    cache = caches[0]
    fit = all(block.shape == first.shape for block in blocks) and len(blocks) == len(caches)
    alike = all(other.shape == cache.shape and other.stride() == cache.stride() for other in caches)
    if (not fit or not alike or dim != first.qkv.channels or cache.shape[1:3] != (rows, first.kv_heads)
            or span > cache.shape[3] or rotary.shape[-3:] != (count, first.head_dim // 2, 2)
            or (mask is not None and mask.shape[-2] not in (1, count))):
        raise ValueError(f"{len(blocks)} blocks, x {tuple(x.shape)}, rotary {tuple(rotary.shape)}, {len(caches)} "
                         f"caches {tuple(cache.shape)} and a mask {None if mask is None else tuple(mask.shape)} do not "
                         "fit each other")
    x = x.contiguous()
    rotary = rotary.float().contiguous()
    places = position.contiguous() if isinstance(position, Tensor) else None
    if mask is not None and (mask.shape[-1] != span or mask.stride(-1) != 1):
        mask = mask.expand(*mask.shape[:-1], span).contiguous()
    y = torch.empty_like(x)
    values = cache.element_size() * cache.stride(0)
    pointers = (ctypes.c_void_p * (2 * len(caches)))()
    for index, buffer in enumerate(caches):
        pointers[2 * index] = buffer.data_ptr()
        pointers[2 * index + 1] = buffer.data_ptr() + values
    addresses = (ctypes.c_void_p * len(blocks))(*(ctypes.addressof(block._fields) for block in blocks))
    # a stride of 0 makes all rows, or all tokens, read the same numbers
    masks_of_rows = mask is not None and mask.ndim == 4 and len(mask) > 1
    masks_of_tokens = mask is not None and mask.shape[-2] > 1
    tables_of_rows = rotary.ndim == 5 and len(rotary) > 1
    step = _Step(x=x.data_ptr(), y=y.data_ptr(), rotary=rotary.data_ptr(),
                 mask=None if mask is None else mask.data_ptr(), caches=ctypes.addressof(pointers),
                 places=None if places is None else places.data_ptr(),
                 norm=None if norm is None else norm.data_ptr(), eps=eps, rows=rows, count=count,
                 rotary_row=rotary.stride(0) if tables_of_rows else 0,
                 mask_row=mask.stride(0) if masks_of_rows else 0,
                 mask_token=mask.stride(-2) if masks_of_tokens else 0, cache_row=cache.stride(1),
                 cache_head=cache.stride(2), start=0 if places is not None else position, span=span)
    refused = library()[0].llama_blocks(addresses, len(blocks), ctypes.addressof(step), torch.get_num_threads())
    if refused:
        raise ValueError(f"{count} tokens from place {places.tolist() if places is not None else position} on do "
                         f"not fit the {span} places of the cache that are seen")
    return y
