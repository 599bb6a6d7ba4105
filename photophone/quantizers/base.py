"""What all quantizers share: the contract, masked means, straight-through values, usage and entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise


@dataclass(frozen=True)
class QuantizerOutput:
    """What a quantizer returns.

    Args:
        values: float ``(B, N, D)`` in the dtype of the input; the gradient is straight-through.
        indices: Long ``(B, N)``, or ``(B, Q, N)`` for Q codebooks, or None for a continuous quantizer.
        loss: scalar, already weighted; 0 where the quantizer has nothing to train.
        metrics: detached scalars for logs, such as ``perplexity`` and ``used_share``.
    """

    values: Tensor
    indices: Tensor | None
    loss: Tensor
    metrics: dict[str, Tensor]


class Quantizer(nn.Module, ABC):
    """Base of all quantizers.

    Attributes:
        dim: width D of the input.
        token_dim: width of a continuous token, or None when tokens are indices.
        codebook_size: number K of indices of one codebook, or None when tokens are continuous.
        num_codebooks: number Q of indices a position; indices are ``(B, N)`` when it is 1.
        bypassed: True makes :meth:`forward` hand its input through, as the search sees it, with loss 0: the start of a
            training, before encoder outputs are worth quantizing.
        decodes_fewer: True when the first codebooks can be decoded without the rest.
    """

    decodes_fewer = False
    bypassed = False

    @property
    def has_codes(self) -> bool:
        """Whether inputs are compared with codes, also where tokens are continuous."""
        return self.codebook_size is not None

    def __init__(self, dim: int, *, token_dim: int | None = None, codebook_size: int | None = None,
                 num_codebooks: int = 1) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("codebook_size", codebook_size), ("num_codebooks", num_codebooks)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        self.dim = dim
        self.token_dim = token_dim
        self.codebook_size = codebook_size
        self.num_codebooks = num_codebooks

    def forward(self, x: Tensor, mask: Tensor | None = None, noise: Noise | None = None) -> QuantizerOutput:
        """Quantize, with the loss and, in training, the codebook updates.

        Args:
            x: float ``(B, N, D)``; the arithmetic is float32 whatever its dtype and whatever autocast says.
            mask: Bool ``(B, N)``, True where a token is valid; other tokens are taken as zeros, count in no loss and
                no statistic, and get no gradient.
            noise: where random draws come from; torch's global state when None.

        Raises:
            ValueError: when shapes or dtypes do not fit.
        """
        self._check_input(x)
        if mask is not None and (mask.dtype != torch.bool or mask.shape != x.shape[:2]):
            raise ValueError(f"mask must be Bool {tuple(x.shape[:2])}, got {mask.dtype} {tuple(mask.shape)}")
        with torch.autocast(x.device.type, enabled=False):
            # Zeros, because a NaN in the padding would reach the weights as 0 * NaN in the backward pass.
            clean = x.float() if mask is None else torch.where(mask[..., None], x.float(), 0.0)
            output = self._pass(clean) if self.bypassed else self._quantize(clean, mask, noise)
        return replace(output, values=output.values.to(x.dtype))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Tokens of ``x`` (B, N, D): Long ``(B, N)`` or ``(B, Q, N)``, or float ``(B, N, token_dim)``; no updates."""
        self._check_input(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._encode(x.float())

    def decode(self, tokens: Tensor) -> Tensor:
        """Values float32 ``(B, N, D)`` of the tokens that :meth:`encode` returns.

        Raises:
            ValueError: when shape, dtype or range of the tokens do not fit.
        """
        self._check_tokens(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            return self._decode(tokens)

    @torch.no_grad()
    def start_codebook(self, x: Tensor, noise: Noise | None = None) -> None:
        """Fill the codebooks with rows of real encoder outputs ``x`` (B, N, D): nearly all codes are used then.

        Random codebooks lie far from the outputs of a fresh encoder, and most of their codes are never chosen.

        Raises:
            ValueError: the quantizer has no learned codebook.
        """
        self._check_input(x)
        self._start_codebook(x.float(), noise_or_global(noise, x))

    def _pass(self, x: Tensor) -> QuantizerOutput:
        """Unquantized values; all weights take part, so that processes which train together agree."""
        nothing = sum((0 * weight.sum() for weight in self.parameters()), x.new_zeros(()))
        return QuantizerOutput(self._as_seen(x), None, nothing, {})

    def _as_seen(self, x: Tensor) -> Tensor:
        """Float32 input as the search compares it, normalised where that is."""
        return x

    def _start_codebook(self, x: Tensor, noise: Noise) -> None:
        """:meth:`start_codebook` on checked float32 input."""
        raise ValueError(f"{type(self).__name__} has no codebook that could start from data")

    @abstractmethod
    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        """:meth:`forward` on checked float32 input."""

    @abstractmethod
    def _encode(self, x: Tensor) -> Tensor:
        """:meth:`encode` on checked float32 input."""

    @abstractmethod
    def _decode(self, tokens: Tensor) -> Tensor:
        """:meth:`decode` on checked tokens."""

    def _check_input(self, x: Tensor) -> None:
        if not x.is_floating_point() or x.ndim != 3 or x.shape[-1] != self.dim:
            raise ValueError(f"{type(self).__name__} needs float (B, N, {self.dim}), got {x.dtype} {tuple(x.shape)}")

    def _check_tokens(self, tokens: Tensor) -> None:
        if self.codebook_size is None:
            if not tokens.is_floating_point() or tokens.ndim != 3 or tokens.shape[-1] != self.token_dim:
                raise ValueError(f"{type(self).__name__} decodes float (B, N, {self.token_dim}), "
                                 f"got {tokens.dtype} {tuple(tokens.shape)}")
            return
        most = self.num_codebooks
        least = 1 if self.decodes_fewer else most
        if most == 1:
            wanted = "(B, N)"
            good_shape = tokens.ndim == 2
        else:
            wanted = f"(B, {least}..{most}, N)" if least < most else f"(B, {most}, N)"
            good_shape = tokens.ndim == 3 and least <= tokens.shape[1] <= most
        if tokens.dtype != torch.long or not good_shape:
            raise ValueError(f"{type(self).__name__} decodes Long {wanted}, got {tokens.dtype} {tuple(tokens.shape)}")
        if tokens.numel():
            low = int(tokens.min())
            high = int(tokens.max())
            if low < 0 or high >= self.codebook_size:
                raise ValueError(f"indices must lie in 0..{self.codebook_size - 1}, got {low}..{high}")


def check_positive(**values: float) -> None:
    """Refuse named settings that are not above 0, with the offending value."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value!r}")


def noise_or_global(noise: Noise | None, x: Tensor) -> Noise:
    """The given source of draws, or torch's global state on the device of ``x``."""
    return GlobalNoise(x.device) if noise is None else noise


def straight_through(x: Tensor, target: Tensor) -> Tensor:
    """The exact values of ``target`` with the gradient of ``x`` (arXiv 1308.3432)."""
    return target.detach() + (x - x.detach())


def valid_rows(x: Tensor, mask: Tensor | None) -> Tensor:
    """The valid tokens of ``(B, N, ...)`` as rows ``(M, ...)``."""
    return x.flatten(0, 1) if mask is None else x[mask]  # (B, N, ...) -> (M, ...)


def stack_books(indices: list[Tensor]) -> Tensor:
    """Q index maps (B, N) as ``(B, Q, N)``, or the only one as ``(B, N)``."""
    return indices[0] if len(indices) == 1 else torch.stack(indices, dim=1)


def project(layer: nn.Linear | nn.Identity, x: Tensor) -> Tensor:
    """A linear layer in float32, whatever the dtype of its weights."""
    if isinstance(layer, nn.Identity):
        return x
    return F.linear(x, layer.weight.float(), None if layer.bias is None else layer.bias.float())


def usage_metrics(indices: Tensor, codebook_size: int, mask: Tensor | None) -> dict[str, Tensor]:
    """Perplexity and share of used codes of a batch, averaged over codebooks.

    Args:
        indices: Long ``(B, N)`` or ``(B, Q, N)``.
        codebook_size: K.
        mask: Bool ``(B, N)`` or None.
    """
    stacked = indices[:, None] if indices.ndim == 2 else indices  # (B, Q, N)
    perplexities = []
    shares = []
    for book in stacked.unbind(1):
        counts = torch.unique(valid_rows(book, mask), return_counts=True)[1].double()
        share = counts / counts.sum()
        perplexities.append(torch.special.entr(share).sum().exp())
        shares.append(counts.new_tensor(len(counts) / codebook_size))
    return {"perplexity": torch.stack(perplexities).mean().float(), "used_share": torch.stack(shares).mean().float()}


def entropy_terms(logits: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Entropy of each row, averaged, and entropy of the averaged distribution, in nats.

    Training lowers the first (sure choices) and raises the second (all codes in use): arXiv 2310.05737.

    Args:
        logits: float ``(M, K)``, already divided by the temperature.
        eps: added inside the logarithm of the average only, where a zero would give an infinite gradient.

    Returns:
        two scalars: mean row entropy and batch entropy; 0 and 0 when M is 0.
    """
    if not len(logits):
        return logits.sum(), logits.sum()
    log_share = logits.log_softmax(-1)
    share = log_share.exp()
    average = share.mean(0)
    return -(share * log_share).sum(-1).mean(), -(average * (average + eps).log()).sum()
