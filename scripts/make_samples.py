"""Samples of the built-in weights, made offline: images, speech and cleaned speech. `make demo` runs it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from photophone.core.command import run_command
from photophone.core.files import atomic_write
from photophone.core.pictures import grid, labelled_sheet, spectrogram
from photophone.data.audio import read_audio
from photophone.data.audio_write import write_pieces
from photophone.loading.registry import PRETRAINED
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline

PROMPTS = [
    "a red apple, 3d emoji",
    "smiling cat face, noto emoji",
    "house with garden, gradient emoji",
    "blue rocket, silhouette icon",
    "human woman wearing red robe holding staff, pixel art",
    "birthday cake, flat emoji",
    "flag of japan, emojione emoji",
    "green dragon, monster, pixel art",
]
TEXTS = [
    "Light carries sound.",
    "The photophone sent speech over two hundred meters on a beam of light. It was made in 1880.",
    "Dr. Smith paid $5.50 on 2024-03-05 at 7:30 pm; see example.org for more!",
    "Who goes there?",
]
NOISY = PRETRAINED / "tiny-enhance" / "noisy.flac"


def make_images(folder: Path, per_prompt: int, overwrite: bool = False) -> None:
    """Images of PROMPTS with seeds 0, 1, ... into ``folder``, and a labelled contact sheet."""
    started = time.perf_counter()
    pipeline = TextToImagePipeline.from_pretrained("photophone/tiny-image")
    print(f"loaded photophone/tiny-image in {time.perf_counter() - started:.1f} s")
    rows = []
    for prompt in PROMPTS:
        started = time.perf_counter()
        generators = [torch.Generator().manual_seed(seed) for seed in range(per_prompt)]
        result = pipeline(prompt, num_images_per_prompt=per_prompt, generator=generators)
        seconds = time.perf_counter() - started
        files = result.save(folder, overwrite=overwrite)
        rows.append((prompt, result.images))
        print(f"{seconds:5.2f} s  {per_prompt} images of {prompt!r}: {files[0]} ...")
    sheet = folder / "contact-sheet.png"
    with atomic_write(sheet, overwrite=overwrite) as partial:
        labelled_sheet(rows).save(partial, format="PNG")
    print(f"contact sheet: {sheet}")


def make_speech(folder: Path, overwrite: bool = False) -> None:
    """Speech of TEXTS with seeds 0, 1, ... into ``folder``: WAV, JSON and a picture of the spectrum of each."""
    started = time.perf_counter()
    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    print(f"loaded photophone/tiny-speech in {time.perf_counter() - started:.1f} s")
    for seed, text in enumerate(TEXTS):
        started = time.perf_counter()
        result = pipeline(text, generator=torch.Generator().manual_seed(seed))
        seconds = time.perf_counter() - started
        (file,) = result.save(folder, overwrite=overwrite)
        with atomic_write(file.with_suffix(".png"), overwrite=overwrite) as partial:
            spectrogram(torch.from_numpy(result.audio[0]), result.sample_rate).save(partial, format="PNG")
        print(f"{seconds:5.2f} s  {len(result.audio[0]) / result.sample_rate:.1f} s of speech: {file}")


def make_clean(folder: Path, overwrite: bool = False) -> None:
    """The noisy recording of the package enhanced: before and after as WAV, and the spectra of both in a picture."""
    started = time.perf_counter()
    pipeline = SpeechEnhancementPipeline.from_pretrained("photophone/tiny-enhance")
    print(f"loaded photophone/tiny-enhance in {time.perf_counter() - started:.1f} s")
    noisy, rate = read_audio(NOISY, None)
    started = time.perf_counter()
    result = pipeline(noisy, sampling_rate=rate)
    seconds = time.perf_counter() - started
    before, after, picture = (folder / name for name in ("before.wav", "after.wav", "before-after.png"))
    write_pieces(before, [noisy[None]], rate, 1, overwrite=overwrite)
    result.save(after, overwrite=overwrite)
    with atomic_write(picture, overwrite=overwrite) as partial:
        grid([spectrogram(torch.from_numpy(audio), rate) for audio in (noisy, result.audio[0])], 1).save(partial,
                                                                                                      format="PNG")
    print(f"{seconds:5.2f} s  {len(noisy) / rate:.1f} s of noisy speech made clean: {before}, {after}, {picture}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs"), help="folder to write to")
    parser.add_argument("-n", "--number", type=int, default=6, help="images for each prompt")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    arguments = parser.parse_args()
    make_images(arguments.output / "images", arguments.number, arguments.overwrite)
    if (PRETRAINED / "tiny-speech" / "model_index.json").exists():
        make_speech(arguments.output / "speech", arguments.overwrite)
    if NOISY.exists():
        make_clean(arguments.output / "enhance", arguments.overwrite)


if __name__ == "__main__":
    run_command(main)
