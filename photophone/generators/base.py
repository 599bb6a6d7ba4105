"""The contract of generators."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from photophone.core.model import Model
from photophone.core.noise import Noise
from photophone.core.threads import Region, each_with_threads, fitting_threads
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler

if TYPE_CHECKING:
    from photophone.tokenizers.base import ImageTokenizer


@dataclass(frozen=True)
class LossOutput:
    """What a training pass returns.

    Args:
        loss: scalar, with its gradient.
        metrics: detached scalars for logs.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Generator(Model):
    """Predicts tokens from a condition.

    A family names the classes of its condition and of its sampler, and implements :meth:`loss`, :meth:`_generate`,
    :meth:`check_condition` and :meth:`example_condition`. A causal family sets ``streams`` and has ``_stream``.

    Attributes:
        Condition: what the family is conditioned on. A family whose config decides says all kinds here, joined by
            ``|``, and each model its own.
        Sampler: the options of its sampler.
        streams: True where :meth:`stream` yields tokens as they are made.
        paces: True where the sampler has a ``speed`` and rows of a condition have speeds of their own.
        edits: True where the family re-draws given tokens (:meth:`redraw`), blends two captions
            (:class:`~photophone.generators.conditions.CaptionBlend`) and is guided away from one (``null_mask``).
        forms_prompts: True where captions get a form of their own, by a method ``encode_prompts(tokenizer, prompts)``.
    """

    Condition: ClassVar[type[Condition] | UnionType]
    Sampler: ClassVar[type[Sampler]]
    streams: ClassVar[bool] = False
    paces: ClassVar[bool] = False
    edits: ClassVar[bool] = False
    forms_prompts: ClassVar[bool] = False
    BACKBONE: ClassVar[str] = "blocks.0"
    """Name of a module that runs once in each pass of the network, the heads apart."""

    @property
    def backbone_part(self) -> nn.Module:
        """The module named by BACKBONE, for :func:`photophone.decoding.calls.count_calls`."""
        return self.get_submodule(self.BACKBONE)

    @property
    def sampler_settings(self) -> dict[str, Any]:
        """Options of the sampler that these weights are made for, where they differ from the family's defaults."""
        own = {"num_inference_steps": self.config.get("sampling_steps"),
               "temperature": self.config.get("sampling_temperature")}
        return {option: value for option, value in own.items() if value is not None}

    # training ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, tokens: Tokens, condition: Condition, *, noise: Noise | None = None) -> LossOutput:
        """The training pass. Conditions are dropped in training mode only.

        Args:
            tokens: of the tokenizer or codec, B rows.
            condition: B rows.
            noise: random draws; torch's global state when None.
        """

    def forward(self, tokens: Tokens, condition: Condition, *, noise: Noise | None = None) -> LossOutput:
        """:meth:`loss`, under the name that wrappers for several devices call."""
        return self.loss(tokens, condition, noise=noise)

    def fit_statistics(self, tokens: Tokens) -> None:
        """Set what the model normalises its tokens by; most keep none."""

    # sampling ---------------------------------------------------------------------------------------------------

    def plan(self, condition: Condition, *, sampler: Sampler | None = None) -> Condition:
        """The condition with what the family knows of its tokens before it makes them, such as how long each phoneme
        lasts; most know nothing. :meth:`generate` and :meth:`stream` make the same tokens of it, and do not compute it
        again.

        Args:
            condition, sampler: as of :meth:`generate`.

        Raises:
            ValueError: as :meth:`generate`.
        """
        return condition

    @torch.no_grad()
    def generate(self, condition: Condition, *, noise: Noise, sampler: Sampler | None = None,
                 callback: Callback | None = None) -> Tokens:
        """Sample tokens for each row of the condition.

        Args:
            condition: B rows, on any device.
            noise: B rows.
            sampler: options; None: the defaults of the family, with :attr:`sampler_settings`.
            callback: called as ``callback(step, total)`` after each step; a true result stops early.

        Raises:
            ValueError: a condition or sampler of another family, or values that the family refuses.
            DecodingStopped: the callback asked to stop.
        """
        condition, sampler = self._prepare(condition, sampler)
        with fitting_threads(self, self.places_at_once(len(condition))) as threads:
            return self._generate(condition, noise=noise, sampler=sampler, callback=adapting(callback, threads))

    @torch.no_grad()
    def stream(self, condition: Condition, *, noise: Noise, sampler: Sampler | None = None,
               callback: Callback | None = None) -> Iterator[Tokens]:
        """As :meth:`generate`, in parts as they are made.

        Raises:
            ValueError: as :meth:`generate`, and for families that do not stream.
        """
        if not self.streams:
            raise ValueError(f"{type(self).__name__} does not stream: it makes all tokens together; use generate")
        condition, sampler = self._prepare(condition, sampler)
        made = self._stream(condition, noise=noise, sampler=sampler, callback=callback)
        yield from each_with_threads(made, self, self.places_at_once(len(condition)))

    @torch.no_grad()
    def redraw(self, tokens: Tokens, condition: Condition, *, strength: float, noise: Noise,
               sampler: Sampler | None = None, callback: Callback | None = None) -> Tokens:
        """As :meth:`generate`, from tokens that are there: noise hides a part of what they say, and the rest stays.

        Args:
            tokens: (B, N, D), one row for each of the condition.
            strength: share of noise, over 0 up to 1; at 1 nothing stays.

        Raises:
            ValueError: as :meth:`generate`, for families without ``edits``, and for tokens of another form.
        """
        if not self.edits:
            raise ValueError(f"{type(self).__name__} cannot re-draw tokens that are given")
        if not 0 < strength <= 1:
            raise ValueError(f"strength must be over 0 and at most 1, got {strength}")
        if len(tokens.values) != len(condition):
            raise ValueError(f"{len(tokens.values)} rows of tokens for {len(condition)} conditions")
        condition, sampler = self._prepare(condition, sampler)
        with fitting_threads(self, self.places_at_once(len(condition))) as threads:
            return self._redraw(tokens.to(self.device), condition, strength=strength, noise=noise, sampler=sampler,
                                callback=adapting(callback, threads))

    def _prepare(self, condition: Condition, sampler: Sampler | None) -> tuple[Condition, Sampler]:
        """The condition on the model's device and the sampler, both checked."""
        sampler = self.Sampler(**self.sampler_settings) if sampler is None else sampler
        for given, wanted in ((condition, self.Condition), (sampler, self.Sampler)):
            if not isinstance(given, wanted):
                raise ValueError(f"{type(self).__name__} takes a {wanted.__name__}, got a {type(given).__name__}")
        self.check_condition(condition)
        return condition.to(self.device), sampler

    @abstractmethod
    def _generate(self, condition: Condition, *, noise: Noise, sampler: Sampler, callback: Callback | None) -> Tokens:
        """:meth:`generate` of the family: all arguments are checked and on the model's device, gradients are off."""

    def _redraw(self, tokens: Tokens, condition: Condition, *, strength: float, noise: Noise, sampler: Sampler,
                callback: Callback | None) -> Tokens:
        """:meth:`redraw` of a family with ``edits``, under the same promises."""
        raise ValueError(f"{type(self).__name__} says that it edits, but does not say how")

    def _stream(self, condition: Condition, *, noise: Noise, sampler: Sampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """:meth:`stream` of a family with ``streams``, under the same promises."""
        raise ValueError(f"{type(self).__name__} says that it streams, but does not say how")

    def places_at_once(self, rows: int) -> int:
        """Vectors that one step computes together, for the choice of threads: one for each row where tokens are made
        one after the other."""
        return rows

    @abstractmethod
    def check_condition(self, condition: Condition) -> None:
        """Raise ValueError for a condition that the model does not take."""

    # what callers need to know -----------------------------------------------------------------------------------

    @abstractmethod
    def example_condition(self, rows: int, seed: int = 0) -> Condition:
        """A random valid condition on the CPU, for tests and measurements; rows differ."""

    @abstractmethod
    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Random valid tokens on the CPU, as :meth:`loss` takes them beside :meth:`example_condition`."""

    def connect(self, tokenizer: ImageTokenizer) -> None:
        """Take what the family reads of the tokenizer of its tokens beside the tokens; most read nothing.

        Raises:
            ValueError: a tokenizer of other sizes.
        """


def adapting(callback: Callback | None, threads: Region) -> Callback:
    """A callback that also chooses the threads again after each step."""
    def on_step(step: int, total: int) -> bool | None:
        threads.adapt()
        return callback(step, total) if callback is not None else False
    return on_step
