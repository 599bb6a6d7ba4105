"""Constants of a layer, such as windows and filters, that follow the device of a model and never its dtype."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class ConstantsModule(nn.Module):
    """A module whose own buffers keep their dtype when the model is cast: a window in bfloat16 would be audible.

    ``.to(device)`` moves them. Buffers of submodules are not touched.
    """

    def add_constant(self, name: str, value: Tensor) -> None:
        """Register ``value`` under ``name``; it is not saved."""
        self.register_buffer(name, value, persistent=False)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, value in before.items():
            if value is not None and self._buffers[name].dtype != value.dtype:
                self._buffers[name] = value.to(self._buffers[name].device)
        return self
