"""Categorical head: discrete tokens from one or several codebooks, and the ways to draw from logits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.heads.base import Guidance, Head, check_temperature, combine_guidance, masked_mean, split_guidance
from photophone.noise import Noise


def filter_top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest logits ``(..., V)`` and all that equal the k-th, the rest -inf; 0, or k >= V, keeps all.

    Raises:
        ValueError: for a negative k.
    """
    if k < 0:
        raise ValueError(f"top_k must not be negative, got {k}")
    if k == 0 or k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], float("-inf"))


def filter_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the likeliest tokens whose probabilities reach p, the crossing one included (arXiv 1904.09751).

    Logits ``(..., V)``; p in (0, 1], where 1 keeps all; the rest becomes -inf.

    Raises:
        ValueError: for p outside (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {p}")
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    reached = ordered.softmax(dim=-1).cumsum(dim=-1)[..., :-1] > p
    beyond = F.pad(reached, (1, 0))  # shifted: the token that crosses p stays
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), float("-inf"))


def filter_min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens with at least p times the probability of the likeliest (arXiv 2407.01082); the rest -inf.

    Logits ``(..., V)``; p in [0, 1], where 0 keeps all.

    Raises:
        ValueError: for p outside [0, 1].
    """
    if not 0 <= p <= 1:
        raise ValueError(f"min_p must lie in [0, 1], got {p}")
    if p == 0:
        return logits
    log_probabilities = logits.log_softmax(dim=-1)
    least = log_probabilities.amax(dim=-1, keepdim=True) + math.log(p)
    return logits.masked_fill(log_probabilities < least, float("-inf"))


def filter_logits(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
                  min_p: float = 0.0) -> Tensor:
    """Logits ``(..., V)`` over temperature (> 0), then top-k, top-p and min-p in this order."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive to scale logits, got {temperature}")
    return filter_min_p(filter_top_p(filter_top_k(logits / temperature, top_k), top_p), min_p)


def draw_categorical(logits: Tensor, noise: Noise) -> Tensor:
    """One draw a row from softmax(logits), logits ``(B, ..., V)`` to Long ``(B, ...)``: the Gumbel-max trick.

    The argmax of logits plus Gumbel noise has exactly the softmax's distribution and needs uniform draws only.
    """
    logits = logits.float()
    return (logits + noise.gumbel(*logits.shape)).argmax(dim=-1)


class CategoricalHead(Head):
    """A linear layer to logits over a vocabulary, or over each of several codebooks of the same size.

    Args:
        in_dim: channels C of the hidden states.
        vocab_size: tokens V of a codebook.
        num_codebooks: Q; tokens are Long ``(B, N)`` when it is 1, else ``(B, Q, N)``, independent given hidden.
        label_smoothing: in [0, 1), of the cross-entropy.
        bias: of the linear layer.
    """

    def __init__(self, in_dim: int, vocab_size: int, num_codebooks: int = 1, label_smoothing: float = 0.0,
                 bias: bool = True) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if num_codebooks < 1:
            raise ValueError(f"num_codebooks must be at least 1, got {num_codebooks}")
        self.in_dim, self.vocab_size, self.num_codebooks = in_dim, vocab_size, num_codebooks
        self.label_smoothing = label_smoothing
        self.linear = nn.Linear(in_dim, num_codebooks * vocab_size, bias=bias)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden ``(B, N, C)`` to float32 ``(B, N, V)``, or ``(B, Q, N, V)`` with several codebooks."""
        logits = self.linear(hidden.to(self.linear.weight.dtype)).float()
        if self.num_codebooks == 1:
            return logits
        logits = logits.unflatten(-1, (self.num_codebooks, self.vocab_size))  # (B, N, Q V) -> (B, N, Q, V)
        return logits.transpose(1, 2)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *, noise: Noise | None = None) -> Tensor:
        """Cross-entropy in nats, mean over tokens and codebooks; target Long ``(B, N)`` or ``(B, Q, N)``, no draws.

        Targets where ``mask`` is False may hold anything, also numbers outside the vocabulary. See :meth:`Head.loss`.
        """
        logits = self.logits(hidden)
        if target.shape != logits.shape[:-1] or target.dtype != torch.long:
            raise ValueError(f"target must be Long {tuple(logits.shape[:-1])}, got {target.dtype} "
                             f"{tuple(target.shape)}")
        if mask is not None and self.num_codebooks > 1:
            mask = mask[:, None].expand(target.shape)  # (B, N) -> (B, Q, N)
        if mask is not None:
            target = target.masked_fill(~mask.bool(), 0)
        losses = F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none",
                                 label_smoothing=self.label_smoothing).view(target.shape)
        return masked_mean(losses, mask)

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Tensor:
        """Long ``(B, N)`` or ``(B, Q, N)``; temperature 0 is greedy and draws nothing. See :meth:`Head.sample`.

        Args:
            top_k, top_p, min_p: see :func:`filter_logits`; 0, 1 and 0 keep every token.
        """
        check_temperature(temperature)
        logits = combine_guidance(*split_guidance(self.logits(hidden), guidance), guidance)
        if temperature == 0:
            return logits.argmax(dim=-1)
        return draw_categorical(filter_logits(logits, temperature, top_k, top_p, min_p), noise)
