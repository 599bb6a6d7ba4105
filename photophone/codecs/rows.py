"""The former place of :mod:`photophone.layers.rows`."""

from __future__ import annotations

from photophone.layers.rows import fill_up, map_equal_lengths

__all__ = ["fill_up", "map_equal_lengths"]
