"""Tables of the files that are read: each format is made and read, so that a table says what happens."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from PIL import Image
from tables import markdown

from photophone.data.audio import read_audio
from photophone.data.audio_checks import CODED_RATES, KEPT_SUBTYPES, READ_FORMATS, WRITE_FORMATS
from photophone.data.containers.pyav import KINDS
from photophone.data.image_decoding import check_mode, on_white

NAMES = {"WAVEX": "WAV (extensible)", "OGG": "Ogg", "RF64": "WAV over 4 GB (RF64)"}
RATES = (16_000, 8000)
SUFFIXES = {"mov": ".m4a, .mp4, .mov", "matroska": ".webm, .mka, .mkv", "aac": ".aac", "asf": ".wma", "amr": ".amr",
            "caf": ".caf"}


def is_read(container: str, codec: str) -> bool | None:
    """Whether a file of libsndfile's container and codec is read; None where libsndfile does not write it."""
    audio = 0.1 * np.sin(np.arange(4000) / 5)
    for rate in RATES:
        target = io.BytesIO()
        try:
            soundfile.write(target, audio, rate, format=container, subtype=codec)
        except soundfile.SoundFileError:
            continue
        try:
            read, _ = read_audio(target.getvalue())
        except ValueError:
            return False
        return len(read) >= len(audio)
    return None


def audio_formats() -> str:
    """One row a container: codecs that are read and that are refused by name."""
    rows = []
    for container in sorted(READ_FORMATS):
        found = {codec: is_read(container, codec) for codec in sorted(soundfile.available_subtypes(container))}
        rows.append((NAMES.get(container, container), ", ".join(codec for codec, read in found.items() if read),
                     ", ".join(codec for codec, read in found.items() if read is False) or "none"))
    rows += [(f"{name} ({SUFFIXES[kind]})", "with `pip install 'photophone[av]'`: what FFmpeg decodes",
              "without it, with this way out") for kind, name in KINDS.items()]
    return markdown((("container", "read", "refused by name"), rows))


def written_formats() -> str:
    """One row a suffix: what is written."""
    rows = [(f"`{suffix}`", f"{container} with {codec}", ", ".join(KEPT_SUBTYPES.get(suffix, ())) or "none",
             ", ".join(f"{rate}" for rate in CODED_RATES.get(suffix, ())) or "4000 to 192000")
            for suffix, (container, codec) in WRITE_FORMATS.items()]
    return markdown((("name ends in", "written", "depths of inputs that are kept", "rates in Hz"), rows))


def image_modes() -> str:
    """One row a mode of Pillow: what becomes of it."""
    words = {"1": "two shades", "L": "grey", "P": "palette", "RGB": "colours", "RGBA": "colours, transparent",
             "LA": "grey, transparent", "PA": "palette, transparent", "RGBX": "colours, one channel unused",
             "RGBa": "colours times their transparency", "La": "grey times its transparency", "CMYK": "inks",
             "YCbCr": "brightness and colour", "HSV": "hue", "LAB": "CIE L*a*b*", "I": "grey of 32 bits",
             "F": "grey of floats", "I;16": "grey of 16 bits", "I;16L": "grey of 16 bits, little-endian",
             "I;16B": "grey of 16 bits, big-endian", "I;16N": "grey of 16 bits, of the machine"}
    rows = []
    for mode in sorted(Image.MODES):
        image = Image.new(mode, (2, 2))
        try:
            check_mode(image)
            done = "converted" if on_white(image).mode == "RGB" else "not converted"
        except ValueError:
            done = "refused by name; read as 16 bits from PNG and PPM" if mode == "I" else "refused by name"
        rows.append((f"`{mode}`", words.get(mode, ""), done))
    return markdown((("mode", "what it is", "what becomes of it"), rows))
