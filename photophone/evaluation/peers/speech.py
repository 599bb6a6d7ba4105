"""Other voices for comparison, offline and on one thread, and the voice that the built-in one learned from.

| peer | what | licence |
|---|---|---|
| hibari-tts | package hibari-tts 0.2.1, its voice "heart", 24 kHz | Apache-2.0 |
| flite | the program flite, its unit-selection voice "slt", 16 kHz | as BSD |
| espeak-ng | the program espeak-ng, formant synthesis, its voice "en-us", 22 kHz | GPL-3.0, run as a program |
| pico | SVOX Pico, statistical, its voice "en-US", 16 kHz, in the package py-nanotts 0.1.1 | Apache-2.0 |

Teachers of named voices, :func:`teacher`, are measured beside the voices that learned from them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from photophone.data.audio import read_audio
from photophone.data.teachers import HIBARI, Teachers
from photophone.evaluation.peers.base import Peers
from photophone.text.phonemes import phonemize

Speak = Callable[[str], tuple[np.ndarray, int]]
"""A text to float32 (T,) in [-1, 1] and its rate in Hz."""


@cache
def _hibari():
    from hibari import Hibari
    return Hibari()


def hibari(text: str) -> tuple[np.ndarray, int]:
    """hibari-tts, with the same noise for every text."""
    voice = _hibari()
    return np.asarray(voice(text, seed=0), np.float32), voice.sample_rate


def flite(text: str) -> tuple[np.ndarray, int]:
    """flite with the voice "slt".

    Raises:
        OSError: the program is not installed or failed.
    """
    return _program("flite", ["-voice", "slt", "-f", "{text}", "-o", "{audio}"], text)


def espeak(text: str) -> tuple[np.ndarray, int]:
    """espeak-ng with the voice "en-us".

    Raises:
        OSError: the program is not installed or failed.
    """
    return _program("espeak-ng", ["-v", "en-us", "-b", "1", "-f", "{text}", "-w", "{audio}"], text)


def pico(text: str) -> tuple[np.ndarray, int]:
    """SVOX Pico with the voice "en-US"."""
    from py_nanotts import NanoTTS, Voice

    data = NanoTTS().speak(text, voice=Voice.en_US)  # 16 bits at 16 kHz
    return np.frombuffer(data, np.int16).astype(np.float32) / 32768, 16_000


def teacher(voice: str, kokoro: Path | None = None) -> Speak:
    """The voice that a named voice learned from.

    Args:
        voice: "heart", which is that of hibari-tts, or one of Kokoro-82M, such as "am_michael".
        kokoro: the folder of ``scripts/install_kokoro.py``; None where the voice does not need it.

    Raises:
        ValueError: there is no such voice.
    """
    if voice == HIBARI:
        return hibari
    teachers = Teachers([voice], phonemize, kokoro)

    def speak(text: str) -> tuple[np.ndarray, int]:
        clip = teachers(voice, text, "", 0)
        return clip.audio, clip.sample_rate

    return speak


def _program(name: str, arguments: list[str], text: str) -> tuple[np.ndarray, int]:
    """The speech that a program writes for the text in a file; a text in an argument could be taken for an option."""
    program = shutil.which(name)
    if program is None:
        raise OSError(f"{name} is not installed (apt install {name})")
    with tempfile.TemporaryDirectory() as folder:
        files = {"{text}": Path(folder) / "text.txt", "{audio}": Path(folder) / "speech.wav"}
        files["{text}"].write_text(text, encoding="utf-8")
        done = subprocess.run([program, *(str(files.get(argument, argument)) for argument in arguments)],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"{name} failed: {done.stderr.strip()[:200]}")
        return read_audio(files["{audio}"])


VOICES: Peers[Speak] = Peers({"hibari-tts": hibari, "flite": flite, "espeak-ng": espeak, "pico": pico},
                             attempt=lambda speak: speak("Yes."))
