"""Training of masked generators: which tokens are hidden, and what predicting them costs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.core.noise import Noise
from photophone.decoding.masked import masked_share

LABEL_SMOOTHING, UNMASKED_WEIGHT = 0.1, 0.1
"""Of the official training."""


def mask_tokens(tokens: Tensor, mask_id: int, noise: Noise, schedule: str = "arccos") -> tuple[Tensor, Tensor]:
    """Hide a random share of the tokens (B, N): (ids, True where hidden); for schedules see :func:`masked_share`."""
    rows, length = tokens.shape
    share = masked_share(noise.uniform(rows), schedule).clamp(1e-6, 1)
    counts = (length * share).round().clamp(min=1)
    masked = (noise.uniform(rows, length).argsort(dim=-1) < counts[:, None]).to(tokens.device)
    return tokens.masked_fill(masked, mask_id), masked


def masked_token_loss(logits: Tensor, tokens: Tensor, masked: Tensor, smoothing: float = LABEL_SMOOTHING,
                      unmasked_weight: float = UNMASKED_WEIGHT) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits (B, N, K), and the share of right tokens.

    Args:
        logits: (B, N, K).
        tokens: Long (B, N).
        masked: bool (B, N), True where the network did not see the token.
        smoothing: of the labels.
        unmasked_weight: of tokens that were visible.

    Returns:
        The weighted mean of the losses; the mean over rows of the accuracy on each row's masked places.
    """
    losses = F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none", label_smoothing=smoothing)
    weights = torch.where(masked, 1.0, unmasked_weight)
    right = (logits.argmax(dim=-1) == tokens) & masked
    accuracy = (right.sum(dim=1) / masked.sum(dim=1).clamp(min=1)).mean()
    return (losses * weights).sum() / (weights.sum() + 1e-8), accuracy
