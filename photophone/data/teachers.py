"""Teachers by the names of their voices: that of hibari-tts, and those of a folder of Kokoro-82M."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from photophone.data.kokoro import KokoroVoices
from photophone.data.speech_sources import Clip, TeacherVoice

HIBARI = "heart"
"""The voice in the wheel of hibari-tts."""


def is_british(voice: str) -> bool:
    """Whether a voice speaks British English: Kokoro's names begin with the accent and the sex, as in "bf_emma"."""
    return voice.startswith(("bf_", "bm_"))


class Teachers:
    """Speaks sentences with named voices; see :data:`photophone.data.spoken_parts.Speak`.

    Args:
        voices: "heart", or voices of Kokoro such as "am_michael".
        phonemize: :func:`photophone.text.phonemes.phonemize`.
        kokoro: folder of :func:`photophone.data.kokoro.install`; None where no voice needs it.

    Raises:
        ValueError: a voice that is not there.
    """

    def __init__(self, voices: Sequence[str], phonemize: Callable[[str, bool], str],
                 kokoro: Path | None = None) -> None:
        self.phonemize = phonemize
        others = [voice for voice in voices if voice != HIBARI]
        if others and kokoro is None:
            raise ValueError(f"the voices {', '.join(others)} are Kokoro's; name its folder (--kokoro), which "
                             "scripts/install_kokoro.py makes")
        self.kokoro = KokoroVoices(kokoro) if others else None
        unknown = [voice for voice in others if voice not in self.kokoro.styles]
        if unknown:
            raise ValueError(f"no voice {', '.join(unknown)} in {kokoro}; it has {', '.join(self.kokoro.styles)}, "
                             f"and {HIBARI} is hibari's")

    @cached_property
    def hibari(self) -> TeacherVoice:
        return TeacherVoice()

    def __call__(self, voice: str, text: str, phonemes: str, seed: int) -> Clip:
        """A sentence with the times of its phonemes.

        Args:
            voice: one of those that were asked for.
            text: what is said.
            phonemes: American ones, or "": they are found. British voices read British ones in any case.
            seed: of the voice's noise, if it has any.
        """
        british = is_british(voice)
        if british or not phonemes:
            phonemes = self.phonemize(text, british)
        if voice == HIBARI:
            return self.hibari.speak(text, phonemes, seed)
        return self.kokoro.speak(text, phonemes, voice)
