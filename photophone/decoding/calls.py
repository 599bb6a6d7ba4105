"""How often a backbone runs: what sampling costs where the weights are read anew for each pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn


@dataclass
class Calls:
    """Passes so far, and the rows that went through them together, those of guidance included."""

    passes: int = 0
    rows: int = 0


@contextmanager
def count_calls(part: nn.Module) -> Iterator[Calls]:
    """Count the passes through a module inside the block.

    Args:
        part: runs once a pass, such as :attr:`photophone.Generator.backbone_part`. Layers that are prepared for
            decoding run past their modules and are not seen.
    """
    calls = Calls()

    def note(module: nn.Module, given: tuple) -> None:
        calls.passes += 1
        calls.rows += len(given[0])

    hook = part.register_forward_pre_hook(note)
    try:
        yield calls
    finally:
        hook.remove()
