"""A clear beginning of short words that begin with a vowel.

The built-in voice was trained on sentences. A lone short word that begins with a vowel it begins with a murmur that
grows over a tenth of a second, which is heard as a consonant: "Eight." as "Wait". Where the murmur is taken away, the
vowel is heard. Longer pieces begin rightly and are left as they are, and so are other voices, whose levels and habits
are their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.text.speech_text import SpeechPiece

MURMURING = ("photophone/tiny-speech",)
"""Voices that do so."""
VOWELS = frozenset("AIOQWYaiuæɑɒɔəɐɛɜɪʊʌᵻ")
MOST_SOUNDS = 8
"""Sounds of a piece that counts as short."""
FRAME_SECONDS, FADE_SECONDS, LONGEST_SECONDS = 0.01, 0.005, 0.4
LEVEL = 0.05
"""Root mean square of a frame in which the vowel has begun: half of what the voice reaches in it."""


def begins_softly(piece: object) -> bool:
    """Whether a piece is so short, and begins with a vowel, that its beginning is sharpened."""
    if not isinstance(piece, SpeechPiece):
        return False
    sounds = [symbol for symbol in piece.phonemes if symbol.isalpha() and symbol not in "ˈˌ"]
    return 1 <= len(sounds) <= MOST_SOUNDS and sounds[0] in VOWELS


class SharpAttack:
    """Mutes what comes before the vowel of one piece, chunk by chunk; chunks together equal the whole.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.frame, self.fade = round(FRAME_SECONDS * sample_rate), round(FADE_SECONDS * sample_rate)
        self.left = round(LONGEST_SECONDS / FRAME_SECONDS)
        self.begun = False

    def __call__(self, audio: Tensor) -> Tensor:
        """The next samples (T,), as many as came in; a chunk is cut into frames by itself."""
        if self.begun:
            return audio
        audio = audio.clone()
        for start in range(0, len(audio), self.frame):
            part = audio[start:start + self.frame]
            if self.left <= 0 or len(part) == self.frame and part.square().mean().sqrt() > LEVEL:
                self.begun = True
                ramp = torch.linspace(0, 1, self.fade, device=audio.device, dtype=audio.dtype)[:len(part)]
                part[:len(ramp)] *= ramp
                break
            part.zero_()
            self.left -= 1
        return audio
