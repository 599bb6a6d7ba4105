"""CosyVoice 1: token-to-mel flow, HiFT vocoder, repetition-aware sampling, mel."""

from __future__ import annotations

from cosyvoice_parts import add_parts
from golden import System

system = System("cosyvoice")
add_parts(system)
