"""What a delayed-streams model hears, and the options of its draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.core.limits import MAX_TEMPERATURE
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, option, temperature_option


@dataclass(frozen=True)
class HeardCodes(Condition):
    """Speech as codes; rows are padded behind.

    Args:
        codes: Long (B, Q, T).
        mask: bool (B, T), True for the frames of a row.
    """

    codes: Tensor
    mask: Tensor

    def check(self, books: int, card: int, delay: int) -> None:
        """Refuse what a model does not hear.

        Raises:
            ValueError: other shapes or dtypes, codes outside a codebook, rows that are not longer than ``delay``, or
                padding that is not behind.
        """
        codes, mask = self.codes, self.mask
        if codes.ndim != 3 or codes.dtype != torch.long or codes.shape[1] != books:
            raise ValueError(f"codes must be Long (B, {books}, T), got {codes.dtype} {tuple(codes.shape)}")
        if mask.dtype != torch.bool or mask.shape != (codes.shape[0], codes.shape[2]):
            raise ValueError(f"mask must be bool {(codes.shape[0], codes.shape[2])}, got {mask.dtype} "
                             f"{tuple(mask.shape)}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < card:
            raise ValueError(f"codes must lie in 0..{card - 1}, got {int(codes.min())}..{int(codes.max())}")
        if not len(codes) or int(mask.sum(dim=1).min()) <= delay:
            raise ValueError(f"every row needs more than {delay} frames, the longest delay of the model")
        if (mask[:, 1:] > mask[:, :-1]).any():
            raise ValueError("rows must be padded behind")


@dataclass(frozen=True)
class StreamSampler(Sampler):
    """Options of :class:`photophone.generators.delayed_streams.model.DelayedStreams`; defaults of the authors."""

    temperature: float = temperature_option(0.8)
    text_temperature: float = option(0.7, "scales the randomness of the text; 0 takes the likeliest id", low=0,
                                     high=MAX_TEMPERATURE)
    top_k: int = option(250, "codes come from this many likeliest; 0 keeps all", low=0)
    text_top_k: int = option(25, "text comes from this many likeliest ids; 0 keeps all", low=0)
