"""CosyVoice 3: token-to-mel flow, HiFT vocoder, mel."""

from __future__ import annotations

from cosyvoice_parts import add_parts
from golden import System

system = System("cosyvoice3")
add_parts(system)
