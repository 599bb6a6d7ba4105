"""The attention product, and how another back end than torch's own is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch.nn.functional as F
from torch import Tensor

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


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention.

    Args:
        queries: (B, H, N, d).
        keys, values: (B, H, M, d).
        mask: bool, broadcastable to (B, H, N, M), True where attention is allowed; or None.

    Returns:
        (B, H, N, d).
    """
    if _BACKEND.get() is None:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    # the dispatcher wants the heads after the positions: (B, N, H, d)
    queries, keys, values = (x.transpose(1, 2) for x in (queries, keys, values))
    return dispatch_attention_fn(queries, keys, values, attn_mask=mask).transpose(1, 2)
