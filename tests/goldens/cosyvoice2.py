"""CosyVoice 2: token-to-mel flow, HiFT vocoder, mel."""

from __future__ import annotations

from cosyvoice_parts import add_parts
from golden import System

system = System("cosyvoice2")
add_parts(system)
