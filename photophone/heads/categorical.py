"""Categorical head: discrete tokens from one or several codebooks, and the ways to draw from logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.heads.base import Head, check_temperature, split_guidance
from photophone.kernels.sampling import draw, draw_categorical, filter_logits
from photophone.kernels.solver import Guidance
from photophone.layers.lengths import masked_mean


def draw_nucleus(logits: Tensor, noise: Noise, *, top_p: float = 0.8, top_k: int = 25) -> Tensor:
    """One draw a row from the likeliest tokens, logits (B, V) to Long (B,), as CosyVoice samples: the rule "cosyvoice"
    of :func:`photophone.kernels.sampling.filter_logits`. Draws Gumbel noise (B, V) in the order of falling probability.

    Raises:
        ValueError: for a top_p or top_k that keeps nothing.
    """
    if not top_p > 0 or top_k < 1:
        raise ValueError(f"top_p and top_k must keep a token, got {top_p} and {top_k}")
    kept = filter_logits(logits.float(), top_k=top_k, top_p=min(top_p, 1.0), top_p_rule="cosyvoice")
    order = logits.float().sort(dim=-1, descending=True, stable=True).indices
    place = draw_categorical(kept.log_softmax(dim=-1).gather(-1, order), noise)
    return order.gather(-1, place[..., None])[..., 0]


def draw_repetition_aware(logits: Tensor, history: Tensor, noise: Noise, *, top_p: float = 0.8, top_k: int = 25,
                          window: int = 10, share: float = 0.1) -> Tensor:
    """One draw a row that leaves loops (VALL-E 2, arXiv 2406.05370, as CosyVoice has it): logits (B, V) to Long (B,).

    A token of :func:`draw_nucleus` that makes up at least ``share`` of the last ``window`` tokens is given up for a
    draw from all other tokens. Always draws twice, so that a row does not depend on its batch.

    Args:
        history: Long (B, T), the tokens so far; T may be 0.
    """
    pick = draw_nucleus(logits, noise, top_p=top_p, top_k=top_k)
    repeated = (history[:, max(history.shape[1] - window, 0):] == pick[:, None]).sum(1) >= window * share
    others = logits.scatter(-1, pick[:, None], float("-inf"))
    return torch.where(repeated, draw_categorical(others, noise), pick)


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
        self.in_dim = in_dim
        self.vocab_size = vocab_size
        self.num_codebooks = num_codebooks
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
               top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, top_p_rule: str = "reach") -> Tensor:
        """Long ``(B, N)`` or ``(B, Q, N)``; temperature 0 is greedy and draws nothing. See :meth:`Head.sample`.

        Args:
            top_k, top_p, min_p, top_p_rule: see :func:`filter_logits`; 0, 1 and 0 keep every token.
        """
        check_temperature(temperature)
        return draw(*split_guidance(self.logits(hidden), guidance), guidance, noise, temperature=temperature,
                    top_k=top_k, top_p=top_p, min_p=min_p, top_p_rule=top_p_rule)
