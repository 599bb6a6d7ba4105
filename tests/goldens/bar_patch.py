"""BAR that predicts patches of several codes: see the adaptor of :mod:`bar`."""

from __future__ import annotations

from bar import system  # noqa: F401
