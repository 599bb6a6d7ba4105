"""BitDance with blocks of tokens: the parts of :mod:`bitdance`."""

from __future__ import annotations

from bitdance import system  # noqa: F401
