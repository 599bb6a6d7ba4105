"""Makes the pictures and sounds of the documentation, with the package itself."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from photophone.core.command import run_command
from photophone.core.files import atomic_write
from photophone.core.pictures import spectrogram
from photophone.data.audio import read_audio, write_audio
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline

SAMPLES = Path(__file__).parent / "make_samples.py"
LARGEST = 200_000
"""Bytes of a picture."""


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG of 256 colours whole or not at all.

    Raises:
        ValueError: it is over ``LARGEST``.
    """
    with atomic_write(path) as partial:
        image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(partial, format="PNG",
                                                                                           optimize=True)
        if partial.stat().st_size > LARGEST:
            raise ValueError(f"{path} takes {partial.stat().st_size} bytes, the limit is {LARGEST}; make it smaller")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs"), help="folder with pictures/ and sounds/")
    folder = parser.parse_args().output
    pictures, sounds = folder / "pictures", folder / "sounds"
    images = TextToImagePipeline.from_pretrained("photophone/tiny-image")
    apple = images("a red apple, 3d emoji", generator=torch.Generator().manual_seed(7)).images[0]
    save_picture(apple, pictures / "apple.png")
    speak = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    light = speak("Light carries sound.", generator=torch.Generator().manual_seed(1))
    write_audio(sounds / "light.ogg", light.audio[0], light.sample_rate)
    said = [speak("Light carries sound.", voice=voice, generator=torch.Generator().manual_seed(1)).audio[0]
            for voice in (*speak.voices, {"emma": 2, "george": 1})]
    write_audio(sounds / "voices.ogg", np.concatenate(said), light.sample_rate)
    save_picture(spectrogram(torch.from_numpy(light.audio[0]), light.sample_rate, (720, 180)), pictures / "light.png")
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([sys.executable, SAMPLES, "--output", made, "--number", "5"], check=True)
        for name in ("images/contact-sheet.png", "enhance/before-after.png"):
            picture = Image.open(Path(made, name))
            width = min(720, picture.width)
            save_picture(picture.resize((width, picture.height * width // picture.width), Image.Resampling.LANCZOS),
                         pictures / Path(name).name)
        for name in ("before", "after"):
            audio, rate = read_audio(Path(made, "enhance", f"{name}.wav"), None)
            write_audio(sounds / f"{name}.ogg", audio, rate)
    for file in sorted((*pictures.iterdir(), *sounds.iterdir())):
        print(f"{file.stat().st_size:8} {file}")


if __name__ == "__main__":
    run_command(main)
