"""The small models of Pocket TTS: see the adaptor of :mod:`pocket_tts`."""

from __future__ import annotations

from pocket_tts import system  # noqa: F401
