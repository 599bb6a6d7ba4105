"""Continuous batching: requests of different length share the steps of one model, and join and leave between them.

A request has its own condition, settings and noise. What it gets does not depend on the others: rows of a batch do not
see each other, and draws come from the request's own noise in the order in which ``generate`` makes them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from photophone.core.limits import MAX_ENGINE_QUEUE, MAX_ENGINE_REQUESTS
from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.code_model import CodeModel
from photophone.decoding.guidance import scheduled_guidance
from photophone.decoding.step import DecodeStep
from photophone.heads.base import check_temperature, is_guided
from photophone.kernels.sampling import draw, filter_logits


@dataclass(frozen=True)
class DecodingSettings:
    """How the codes of a request are drawn; see the options of :class:`photophone.LlamaGenGPT`.

    Attributes:
        max_tokens: codes to make; None: all of the grid.
    """

    guidance_scale: float = 1.0
    guidance_schedule: str = "constant"
    guidance_power: float = 3.0
    guidance_interval: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    top_p_rule: str = "reach"
    max_tokens: int | None = None


@dataclass
class _Request:
    ticket: int
    condition: Any
    noise: Noise
    settings: DecodingSettings
    length: int
    made: list[Tensor] = field(default_factory=list)


class DecodingEngine:
    """Decodes requests for one categorical generator.

    Args:
        model: in eval mode; :func:`photophone.layers.decode_linear.prepare_for_decoding` makes it fast.
        max_requests: that decode at the same time; each has two rows of the cache, one for guidance.
        max_queue: requests that may wait for one of these places.
        compiled: see :class:`photophone.decoding.step.DecodeStep`.

    Raises:
        ValueError: for limits out of range.
    """

    def __init__(self, model: CodeModel, *, max_requests: int = 8, max_queue: int = 64,
                 compiled: bool = False) -> None:
        if not 1 <= max_requests <= MAX_ENGINE_REQUESTS:
            raise ValueError(f"max_requests must lie in 1..{MAX_ENGINE_REQUESTS}, got {max_requests}")
        if not 0 <= max_queue <= MAX_ENGINE_QUEUE:
            raise ValueError(f"max_queue must lie in 0..{MAX_ENGINE_QUEUE}, got {max_queue}")
        self.model, self.max_requests, self.max_queue = model, max_requests, max_queue
        self.decode = DecodeStep(model, 2 * max_requests, compiled)
        self.longest = model.config.grid_size**2
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []  # the one at place i has rows 2 i (condition) and 2 i + 1 (null condition)
        self._next_ticket = 0

    @property
    def waiting(self) -> int:
        """Requests that have no place yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that decode."""
        return len(self._running)

    def submit(self, condition: Any, *, noise: Noise, settings: DecodingSettings | None = None) -> int:
        """Queue a request for one image and return its ticket.

        Args:
            condition: one row, as the model's ``generate`` takes it, such as :class:`photophone.ClassLabels`.
            noise: one row.
            settings: how to draw.

        Raises:
            ValueError: more than one row, settings out of range, or a queue that is full.
        """
        settings = settings or DecodingSettings()
        if len(condition) != 1:
            raise ValueError(f"a request is one image, got a condition of {len(condition)} rows; submit each row")
        length = self.longest if settings.max_tokens is None else settings.max_tokens
        if not 1 <= length <= self.longest:
            raise ValueError(f"max_tokens must lie in 1..{self.longest}, the codes of an image, got {length}")
        if len(self._waiting) >= self.max_queue + (self.max_requests - len(self._running)):
            raise ValueError(f"{len(self._waiting)} requests wait already, the limit is {self.max_queue}; call step() "
                             "until one has finished, or make the engine with a larger max_queue")
        check_temperature(settings.temperature)
        if settings.temperature:
            filter_logits(torch.zeros(1, 2), settings.temperature, settings.top_k, settings.top_p,
                          top_p_rule=settings.top_p_rule)
        scheduled_guidance(settings.guidance_scale, settings.guidance_schedule, 0.0)
        self.model.check_condition(condition)
        request = _Request(self._next_ticket, condition, noise, settings, length)
        self._waiting.append(request)
        self._next_ticket += 1
        return request.ticket

    def cancel(self, ticket: int) -> None:
        """Forget a request that waits or decodes.

        Raises:
            KeyError: there is none with this ticket.
        """
        for place, request in enumerate(self._running):
            if request.ticket == ticket:
                return self._free(place)
        for request in self._waiting:
            if request.ticket == ticket:
                return self._waiting.remove(request)
        raise KeyError(f"no request {ticket} waits or decodes")

    @torch.inference_mode()
    def step(self) -> dict[int, Tokens]:
        """One code for every request that has a place; give free places to those that wait.

        Returns:
            Finished requests: Tokens Long (1, N) by ticket.
        """
        running = list(self._running)
        if running:
            tokens = torch.stack([request.made[-1] for request in running]).repeat_interleave(2)
            filled = self.model.prefix_length + max(len(request.made) for request in running) - 1
            self._draw(running, self.decode(tokens, filled).unflatten(0, (-1, 2)))
        while self._waiting and len(self._running) < self.max_requests:
            self._start(self._waiting.popleft())
        finished = [place for place, request in enumerate(self._running) if len(request.made) == request.length]
        done = {self._running[place].ticket: Tokens(torch.stack(self._running[place].made)[None]) for place in finished}
        for place in reversed(finished):  # from the last, whose place is taken by nobody else
            self._free(place)
        return done

    def run(self) -> dict[int, Tokens]:
        """Step until nothing waits or decodes; all that finished, by ticket."""
        done: dict[int, Tokens] = {}
        while self._waiting or self._running:
            done |= self.step()
        return done

    def _start(self, request: _Request) -> None:
        model, condition = self.model, request.condition.to(self.model.device)
        prefix = torch.cat([model.prefix(condition), model.prefix(model.null_condition(condition))])
        visible = model.visible(condition)
        visible = None if visible is None else visible.expand(2, -1)
        self._running.append(request)
        logits = self.decode.prefill(prefix, 2 * len(self._running) - 2, visible)
        self._draw([request], logits[None])

    def _draw(self, requests: list[_Request], logits: Tensor) -> None:
        """The next code of each request from logits (R, 2, V); each uses its own noise."""
        for request, (cond, uncond) in zip(requests, logits):
            settings = request.settings
            strength = self.model.guidance_at(len(request.made), settings.guidance_scale, settings.guidance_schedule,
                                              settings.guidance_interval, settings.guidance_power)
            code = draw(cond[None, None], uncond[None, None] if is_guided(strength) else None, strength, request.noise,
                        temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p,
                        top_p_rule=settings.top_p_rule)
            request.made.append(code[0, 0])

    def _free(self, place: int) -> None:
        """The last request moves to the place that is free, so that rows in use stay the first ones."""
        last = self._running.pop()
        if place < len(self._running):
            source, target = (slice(2 * at, 2 * at + 2) for at in (len(self._running), place))
            self.decode.cache.move(source, target)
            self.decode.positions[target] = self.decode.positions[source]
            self._running[place] = last
