"""Streaming: causal layers that remember what they need of the past.

A layer that can work chunk by chunk derives from :class:`StreamingLayer` and keeps its past in ``stream_state``, which
is None outside :func:`streaming`. Inside, each call continues where the last one stopped, so chunks give what the
whole would give. The idea is that of Moshi's streaming modules (arXiv 2410.00037).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class StreamingLayer(nn.Module, ABC):
    """A causal layer with a memory of the past.

    ``stream_state`` is None when the layer works on whole signals. A family implements :meth:`initial_state`, and its
    ``forward`` reads and replaces ``stream_state`` when it is not None.
    """

    stream_state: Any = None

    @abstractmethod
    def initial_state(self, batch_size: int) -> Any:
        """The past before the first chunk, for ``batch_size`` rows. Never None."""


@contextmanager
def streaming(module: nn.Module, batch_size: int) -> Iterator[None]:
    """Within the context, ``module`` and all streaming layers below it continue from call to call.

    Args:
        module: a network whose layers that mix time are all :class:`StreamingLayer`.
        batch_size: rows of every chunk.

    Raises:
        ValueError: ``batch_size`` is below 1.
        RuntimeError: the module streams already.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    layers = [layer for layer in module.modules() if isinstance(layer, StreamingLayer)]
    if any(layer.stream_state is not None for layer in layers):
        raise RuntimeError(f"{type(module).__name__} streams already; leave its streaming context first, "
                           "or stream with a copy of the model")
    for layer in layers:
        layer.stream_state = layer.initial_state(batch_size)
    try:
        yield
    finally:
        for layer in layers:
            layer.stream_state = None


class StreamMemory:
    """The past of one stream through a module, kept apart from the module.

    One set of layers can so serve several streams: the steps of a solver, each of which sees another signal, or two
    listeners at once.

    Args:
        module: see :func:`streaming`.
        batch_size: rows of every chunk.
    """

    def __init__(self, module: nn.Module, batch_size: int) -> None:
        layers = [layer for layer in module.modules() if isinstance(layer, StreamingLayer)]
        self.states = {layer: layer.initial_state(batch_size) for layer in layers}

    @contextmanager
    def resume(self) -> Iterator[None]:
        """Within the context the layers continue this stream; afterwards they work on whole signals again.

        Raises:
            RuntimeError: the layers stream already.
        """
        if any(layer.stream_state is not None for layer in self.states):
            raise RuntimeError("these layers stream already; leave their streaming context first")
        for layer, state in self.states.items():
            layer.stream_state = state
        try:
            yield
        finally:
            for layer in self.states:
                self.states[layer] = layer.stream_state
                layer.stream_state = None
