"""What every head has in common: the contract, guidance rows and the masked mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.heads.flow_map import MapEmbedding
from photophone.kernels.solver import Guidance
from photophone.layers.embeddings import TimestepEmbedding


class Head(nn.Module, ABC):
    """Turns hidden states into tokens and knows nothing of the backbone that made them."""

    @abstractmethod
    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *,
             noise: Noise | None = None) -> Tensor:
        """Training loss, a scalar: the mean over the tokens that count.

        Args:
            hidden: float ``(B, N, C)``.
            target: tokens of the N positions: Long ``(B, N)`` or ``(B, Q, N)``, or float ``(B, N, D)``.
            mask: bool ``(B, N)``, True where a token counts; None means all.
            noise: source of the random draws; torch's global state when None.
        """

    @abstractmethod
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise) -> Tensor:
        """Tokens of B rows, shaped as the target of :meth:`loss`; continuous ones are float32.

        Args:
            hidden: ``(B, N, C)``; with guidance ``(2B, N, C)``, the conditional rows before the unconditional ones.
            guidance: 1.0 is no guidance. A float tensor ``(B,)`` sets it for each row and always means 2B rows.
            temperature: scales the randomness; 0 takes the most likely (or the mean) token.
            noise: source of the draws, B rows each.
        """

    def step_options(self, num_steps: int, *, solver: str | None = None, time_shift: float = 1.0,
                     scaled_guidance: bool = False) -> dict[str, Any]:
        """Arguments of :meth:`sample` for what users choose; call it before the first sample, so that it refuses then.

        Args:
            num_steps: solver steps; heads without steps have no use for it.
            solver: one of the head's solvers by name; None: its usual one.
            time_shift, scaled_guidance: see :meth:`photophone.heads.flow.FlowHead.sample`; other heads refuse them.

        Raises:
            ValueError: what the head does not have.
        """
        self._refuse(solver=solver is not None, time_shift=time_shift != 1, scaled_guidance=scaled_guidance)
        return {}

    def _refuse(self, **chosen: bool) -> None:
        """Raise ValueError for options that were chosen and that the head does not have."""
        if names := [name for name, given in chosen.items() if given]:
            raise ValueError(f"{type(self).__name__} has no {', '.join(names)}")

    def reads_null(self, guidance: Guidance, *, scaled_guidance: bool = False) -> bool:
        """Whether :meth:`sample` wants unconditional rows behind the conditional ones with these options."""
        return is_guided(guidance)

    def remember_times(self) -> AbstractContextManager[None]:
        """Around many samplings with the same weights and steps: what depends on a time alone may be kept."""
        return nullcontext()


class ConditionedNetwork(nn.Module, ABC):
    """A network of (x, t, condition) whose work on the condition alone is done once, not at each solver step.

    Attributes:
        time_embed: embeds the time; every network has one.
        map_embed: None, or after :meth:`learn_map` what embeds the end of a step and the guidance.
    """

    time_embed: TimestepEmbedding
    map_embed: MapEmbedding | None

    def __init__(self) -> None:
        super().__init__()
        self.map_embed = None

    def learn_map(self) -> None:
        """Let the network be told the end of its step and the guidance; it computes the same as before at first."""
        self.map_embed = MapEmbedding(self.time_embed.mlp[-1].out_features)

    def embed_times(self, t: Tensor, ends: Tensor | None) -> Tensor:
        """Times (...), and ends (..., 2) for :class:`~photophone.heads.flow_map.MapEmbedding` or None, to (..., W)."""
        time = self.time_embed(t)
        return time if ends is None else time + self.map_embed(t, ends)

    @abstractmethod
    def project(self, condition: Tensor) -> Tensor:
        """The condition ``(B, N, C)`` as :meth:`denoise` wants it; rows and tokens stay axes 0 and 1."""

    @abstractmethod
    def denoise(self, x: Tensor, t: Tensor, projected: Tensor, ends: Tensor | None = None) -> Tensor:
        """x ``(B, N, D)`` at times ``(1,)``, ``(B,)`` or ``(B, N)`` to the output ``(B, N, D')``.

        Args:
            ends: after :meth:`learn_map` the end of the step and the guidance of each time, ``(..., 2)``.
        """

    def remember_times(self) -> AbstractContextManager[None]:
        """While it lasts, sampling may keep what depends on a time alone; weights must not change meanwhile."""
        return nullcontext()

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """:meth:`project`, then :meth:`denoise`."""
        return self.denoise(x, t, self.project(condition))


def is_guided(guidance: Guidance) -> bool:
    """Whether ``hidden`` holds conditional and unconditional rows: for a tensor, or a float other than 1."""
    return isinstance(guidance, Tensor) or guidance != 1.0


def split_guidance(hidden: Tensor, guidance: Guidance) -> tuple[Tensor, Tensor | None]:
    """Split ``(2B, ...)`` into conditional and unconditional rows ``(B, ...)``; the latter None without guidance.

    Raises:
        ValueError: for an odd number of rows under guidance, or a guidance tensor that is not ``(B,)``.
    """
    if not is_guided(guidance):
        return hidden, None
    if hidden.shape[0] % 2:
        raise ValueError(f"guidance needs conditional and unconditional rows, got {hidden.shape[0]} rows")
    cond, uncond = hidden.chunk(2)
    if isinstance(guidance, Tensor) and tuple(guidance.shape) != (cond.shape[0],):
        raise ValueError(f"a guidance tensor must have shape ({cond.shape[0]},), got {tuple(guidance.shape)}")
    return cond, uncond


def check_tokens(hidden: Tensor, target: Tensor, token_dim: int) -> None:
    """Raise ValueError unless target is ``(B, N, token_dim)`` for hidden ``(B, N, C)``."""
    expected = (*hidden.shape[:2], token_dim)
    if hidden.ndim != 3 or tuple(target.shape) != expected:
        raise ValueError(f"target must be (B, N, {token_dim}) for hidden (B, N, C), got {tuple(target.shape)} and "
                         f"{tuple(hidden.shape)}")


def check_temperature(temperature: float) -> None:
    """Raise ValueError for a negative temperature."""
    if not temperature >= 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
