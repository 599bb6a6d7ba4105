"""Tokens: what every tokenizer makes and every generator predicts."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import SupportsIndex

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from photophone.core.files import atomic_write

FORMAT = "photophone.core.tokens"
"""In the metadata of files."""


@dataclass(frozen=True)
class Tokens:
    """A batch of token sequences.

    Args:
        values: Long ``(B, N)`` or ``(B, Q, N)`` for discrete tokens of one or Q codebooks; float ``(B, N, D)``
            for continuous tokens.
        lengths: Long ``(B,)``, valid tokens per row, or None when every row is full.
        model: registry name of the tokenizer that made the tokens; decoding with another one is refused.
        sample_rate: of the audio they were made of, in Hz, where it is known; a codec of another rate refuses them.

    Raises:
        ValueError: when shapes or dtypes do not fit the above.
    """

    values: Tensor
    lengths: Tensor | None = None
    model: str | None = None
    sample_rate: int | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if self.values.is_floating_point():
            if len(shape) != 3:
                raise ValueError(f"continuous tokens must be float (B, N, D), got shape {shape}")
        elif self.values.dtype != torch.long:
            raise ValueError(f"discrete tokens must be torch.long, got {self.values.dtype}")
        elif len(shape) not in (2, 3):
            raise ValueError(f"discrete tokens must be Long (B, N) or (B, Q, N), got shape {shape}")
        if self.lengths is None:
            return
        if self.lengths.dtype != torch.long or tuple(self.lengths.shape) != shape[:1]:
            raise ValueError(f"lengths must be Long ({shape[0]},), got {self.lengths.dtype} "
                             f"{tuple(self.lengths.shape)}")
        if shape[0] and not (int(self.lengths.min()) >= 0 and int(self.lengths.max()) <= self.num_tokens):
            raise ValueError(f"lengths must lie in 0..{self.num_tokens}, got {self.lengths.tolist()}")

    @property
    def is_continuous(self) -> bool:
        """True for float tokens ``(B, N, D)``."""
        return self.values.is_floating_point()

    @property
    def num_tokens(self) -> int:
        """N, the padded sequence length."""
        return self.values.shape[1] if self.is_continuous else self.values.shape[-1]

    @property
    def mask(self) -> Tensor:
        """Bool ``(B, N)``, True where a token is valid."""
        rows = self.values.shape[0]
        device = self.values.device
        if self.lengths is None:
            return torch.ones(rows, self.num_tokens, dtype=torch.bool, device=device)
        return torch.arange(self.num_tokens, device=device) < self.lengths[:, None]

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, rows: SupportsIndex | slice | Tensor | list[int]) -> Tokens:
        """Rows of the batch as Tokens; an int keeps a batch of one."""
        if isinstance(rows, SupportsIndex) and getattr(rows, "ndim", 0) == 0:  # int, or a number of numpy or torch
            rows = operator.index(rows)
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row {rows} of a batch of {len(self)}")
            rows = [rows]
        lengths = None if self.lengths is None else self.lengths[rows]
        return replace(self, values=self.values[rows], lengths=lengths)

    def to(self, *args, **kwargs) -> Tokens:
        """Move to a device or, for continuous tokens, to a dtype: the arguments of ``Tensor.to``; codes stay Long."""
        values = self.values.to(*args, **kwargs)
        if values.dtype != self.values.dtype and not self.is_continuous:
            values = self.values.to(values.device)
        lengths = None if self.lengths is None else self.lengths.to(values.device)
        return replace(self, values=values, lengths=lengths)

    def save(self, path: str | Path, *, overwrite: bool = True) -> None:
        """Write a safetensors file atomically; the names of model and sample rate go into its metadata.

        Args:
            path: the file.
            overwrite: whether it may replace a file.
        """
        tensors = {"values": self.values.contiguous()}
        if self.lengths is not None:
            tensors["lengths"] = self.lengths.contiguous()
        size = sum(tensor.nbytes for tensor in tensors.values())
        with atomic_write(path, overwrite=overwrite, size=size) as partial:
            save_file(tensors, partial, metadata={"format": FORMAT, "model": self.model or "",
                                                  "sample_rate": str(self.sample_rate or "")})

    @classmethod
    def load(cls, path: str | Path, model: str | None = None) -> Tokens:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            model: when given, tokens made by another model are refused.

        Raises:
            ValueError: the file is not a token file, holds NaN or infinity, or comes from another model.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a safetensors file: {error}") from error
        if metadata.get("format") != FORMAT or "values" not in tensors:
            raise ValueError(f"{path} holds no tokens (tensors: {sorted(tensors)}); write one with Tokens.save")
        if not set(tensors) <= {"values", "lengths"}:
            raise ValueError(f"{path} holds unknown tensors {sorted(set(tensors) - {'values', 'lengths'})}")
        made_by = metadata.get("model") or None
        if model is not None and made_by is not None and made_by != model:
            raise ValueError(f"{path} was made by {made_by!r} and cannot be decoded by {model!r}")
        if tensors["values"].is_floating_point() and not torch.isfinite(tensors["values"]).all():
            raise ValueError(f"{path} holds NaN or infinite values")
        rate = metadata.get("sample_rate") or None
        if rate is not None and not rate.isdecimal():
            raise ValueError(f"{path} names no sample rate but {rate!r}")
        return cls(tensors["values"], tensors.get("lengths"), made_by, None if rate is None else int(rate))


def holds_tokens(path: Path) -> bool:
    """Whether a file is one that :meth:`Tokens.save` wrote."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


@dataclass(frozen=True)
class TokenFormat:
    """What the tokens of a model are like.

    Args:
        token_dim: width D of a continuous token; None for discrete tokens.
        codebook_size: codes of a codebook; None for continuous tokens.
        num_codebooks: Q, codes of a token.

    Raises:
        ValueError: for tokens that are both continuous and discrete, or neither.
    """

    token_dim: int | None = None
    codebook_size: int | None = None
    num_codebooks: int = 1

    def __post_init__(self) -> None:
        if (self.token_dim is None) == (self.codebook_size is None):
            raise ValueError(f"tokens have either a width or a codebook, got token_dim={self.token_dim} and "
                             f"codebook_size={self.codebook_size}")

    @property
    def is_continuous(self) -> bool:
        """True for float tokens."""
        return self.codebook_size is None

    def check(self, tokens: Tokens, num_tokens: int | None = None, reader: str = "the model") -> None:
        """Refuse tokens of another shape or kind, with codes outside the codebook, or with NaN or infinity.

        Args:
            tokens: to look at.
            num_tokens: N, where it is fixed.
            reader: who refuses, for the message.

        Raises:
            ValueError: names what was expected and what came.
        """
        values, count = tokens.values, tokens.num_tokens if num_tokens is None else num_tokens
        books = () if self.num_codebooks == 1 else (self.num_codebooks,)
        shape = (count, self.token_dim) if self.is_continuous else (*books, count)
        if tokens.is_continuous != self.is_continuous or tuple(values.shape[1:]) != shape:
            words = "N" if num_tokens is None else str(num_tokens)
            sizes = (words, str(self.token_dim)) if self.is_continuous else (*map(str, books), words)
            raise ValueError(f"{reader} decodes {'float' if self.is_continuous else 'Long'} tokens "
                             f"(B, {', '.join(sizes)}), got {values.dtype} {tuple(values.shape)}")
        if self.is_continuous:
            if not torch.isfinite(values).all():
                raise ValueError("the tokens hold NaN or infinite values")
        elif values.numel() and not (int(values.min()) >= 0 and int(values.max()) < self.codebook_size):
            raise ValueError(f"codes must lie in 0..{self.codebook_size - 1}, "
                             f"got {int(values.min())}..{int(values.max())}")
