"""Delayed streams: one language model over text and speech that are shifted against each other.

Nothing is registered yet: the parts are here, and a pipeline over them is to come.
"""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ENTRIES: list[ModelEntry] = []
