"""The tab that looks into tokens: an uploaded picture or recording, its tokens, and what they give back."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

from photophone.core.pictures import to_pil, token_map
from photophone.core.tokens import Tokens
from photophone.data.resampling import resample_audio
from photophone.demo.events import HIDDEN, connect, example_button, wait
from photophone.demo.image_tab import EXAMPLES
from photophone.demo.jobs import Emit
from photophone.demo.models import tokenizer_licence
from photophone.demo.parts import Demo, buttons, facts_line, for_visitors, record, spectrum, to_pcm
from photophone.demo.uploads import decode_upload, take_bytes
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline

SHOWN = 512
"""Pixels of a side of the pictures that are compared."""


def describe(tokens: Tokens, model: Any) -> str:
    """The form of one sequence of tokens in words."""
    if tokens.is_continuous:
        return f"{tokens.num_tokens} tokens of {tokens.values.shape[2]} numbers"
    books = tokens.values.shape[1] if tokens.values.ndim == 3 else 1
    return f"{tokens.num_tokens} tokens" + (f" in {books} codebooks" if books > 1 else "") + (
        f" of {model.codebook_size:,} codes")


def grid_of(tokens: Tokens) -> tuple[int, int] | None:
    """Rows and columns of codes that lie in a square, else None."""
    if tokens.is_continuous or tokens.values.ndim == 3:
        return None
    side = math.isqrt(tokens.num_tokens)
    return (side, side) if side * side == tokens.num_tokens and side > 4 else None


@torch.no_grad()
def rebuild_image(tokenizer: Any, pixels: np.ndarray) -> tuple[Tokens, Image.Image, Image.Image]:
    """Tokens of uint8 (H, W, 3), the picture and what its tokens give back."""
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1  # (H, W, 3) -> (1, 3, H, W)
    tokens = tokenizer.encode(images.to(tokenizer.device))
    after = to_pil(tokenizer.decode(tokens))[0]
    return tokens.to("cpu"), Image.fromarray(pixels), after


@torch.no_grad()
def rebuild_audio(codec: Any, samples: np.ndarray, rate: int) -> tuple[Tokens, np.ndarray, np.ndarray]:
    """Tokens of float32 (C, T), the mono recording at the codec's rate and what its tokens give back."""
    mono = resample_audio(torch.from_numpy(samples.mean(axis=0)), rate, codec.sample_rate)
    tokens = codec.encode(mono[None, None].to(codec.device))
    made = codec.decode(tokens)[0, 0, :int(codec.audio_lengths(tokens)[0])]
    return tokens.to("cpu"), mono.numpy(), made.float().cpu().numpy()


def build_picture_part(demo: Demo, names: dict[str, str]) -> dict[str, Any]:
    """The part for pictures; ``names`` are tokenizers by what visitors see."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model = gr.Dropdown(list(names), value=next(iter(names)), label="Tokenizer")
            picture = gr.Image(label="Picture", type="filepath", sources=["upload", "clipboard"], height=260,
                               elem_id="tokens-image-input")
            take_bytes(picture)
            start, stop = buttons("Encode and decode", "tokens-image")
            example_button(demo, picture, demo.choice.image, "image", lambda: demo.shelf.pipeline(
                TextToImagePipeline, demo.choice.image)(EXAMPLES[3], generator=seeded(3)).images[0],
                "tokens-image-example")
        with gr.Column(scale=3, min_width=300):
            slider = gr.ImageSlider(label="Before and after", format="png", interactive=False, height=400,
                                    elem_id="tokens-image-slider")
            cells = gr.Image(label="Tokens", format="png", interactive=False, elem_id="tokens-image-map",
                             buttons=["fullscreen"])
            facts = gr.HTML(elem_id="tokens-image-facts")
            licence = gr.HTML(tokenizer_licence(next(iter(names))))
    made = gr.JSON(visible=False)

    @for_visitors
    def rebuild(upload: Any, name: Any) -> Iterator[Any]:
        tokenizer = demo.shelf.tokenizer(known(name, names))
        pixels, _ = decode_upload(upload, "image", tokenizer.image_size)

        def work(emit: Emit) -> tuple:
            began = time.perf_counter()
            return *rebuild_image(tokenizer, pixels), time.perf_counter() - began

        tokens, before, after, seconds = yield from wait(demo.shelf.worker("tokens").run(work))
        error = np.mean((np.asarray(before, np.float64) - np.asarray(after, np.float64)) ** 2)
        line = facts_line(describe(tokens, tokenizer), f"{before.width}x{before.height} pixels",
                          f"PSNR {10 * math.log10(255**2 / max(error, 1e-9)):.1f} dB", f"{seconds:.2f} s")
        shown = tuple(image.resize((SHOWN, SHOWN), Image.Resampling.BICUBIC) for image in (before, after))
        drawn = token_map(tokens.values[0], grid_of(tokens))
        yield shown, drawn, line, record("tokens", name, None, after, tokenizer=name)

    run = connect(demo, start, stop, rebuild, [picture, model], [slider, cells, facts, made], name="tokens_image",
                  kind="tokens", shown=slider, facts=facts)
    model.change(for_labels(names), model, licence, **HIDDEN)
    return {"record": made, "run": run}


def build_recording_part(demo: Demo, names: dict[str, str]) -> dict[str, Any]:
    """The part for recordings; ``names`` are codecs by what visitors see."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            model = gr.Dropdown(list(names), value=next(iter(names)), label="Codec")
            recording = gr.Audio(label="Recording", type="filepath", sources=["upload", "microphone"],
                                 buttons=["download"], elem_id="tokens-audio-input")
            take_bytes(recording)
            start, stop = buttons("Encode and decode", "tokens-audio")
            example_button(demo, recording, demo.choice.speech, "speech", lambda: spoken_example(
                demo.shelf.pipeline(TextToSpeechPipeline, demo.choice.speech)), "tokens-audio-example")
        with gr.Column(scale=3, min_width=300):
            audio = gr.Audio(label="What the tokens give back", format="wav", interactive=False,
                             elem_id="tokens-audio-output", buttons=["download"])
            slider = gr.ImageSlider(label="Spectrogram, before and after", format="png", interactive=False,
                                    elem_id="tokens-audio-slider")
            cells = gr.Image(label="Tokens over time", format="png", interactive=False, elem_id="tokens-audio-map",
                             buttons=["fullscreen"])
            facts = gr.HTML(elem_id="tokens-audio-facts")
            licence = gr.HTML(tokenizer_licence(next(iter(names))))
    made = gr.JSON(visible=False)

    @for_visitors
    def rebuild(upload: Any, name: Any) -> Iterator[Any]:
        codec = demo.shelf.codec(known(name, names))
        samples, rate = decode_upload(upload, "audio")

        def work(emit: Emit) -> tuple:
            began = time.perf_counter()
            return *rebuild_audio(codec, samples, rate), time.perf_counter() - began

        tokens, before, after, seconds = yield from wait(demo.shelf.worker("tokens").run(work))
        line = facts_line(describe(tokens, codec), f"{codec.frame_rate:g} tokens a second",
                          f"{len(before) / codec.sample_rate:.1f} s in {seconds:.2f} s")
        slides = spectrum(before, codec.sample_rate), spectrum(after, codec.output_sample_rate)
        drawn = token_map(tokens.values[0], width=960)
        kept = record("tokens", name, None, slides[1], codec=name)
        yield to_pcm(after, codec.output_sample_rate), slides, drawn, line, kept

    run = connect(demo, start, stop, rebuild, [recording, model], [audio, slider, cells, facts, made],
                  name="tokens_audio", kind="tokens", shown=audio, facts=facts)
    model.change(for_labels(names), model, licence, **HIDDEN)
    return {"record": made, "run": run}


def seeded(seed: int) -> torch.Generator:
    """A generator with a seed."""
    return torch.Generator().manual_seed(seed)


def spoken_example(pipeline: TextToSpeechPipeline) -> tuple[int, np.ndarray]:
    """A sentence of the built-in voice, always the same."""
    return to_pcm(pipeline("Light carries sound.", generator=seeded(1)).audio[0], pipeline.sample_rate)


def known(name: Any, names: dict[str, str]) -> str:
    """What a visitor's choice stands for.

    Raises:
        ValueError: it is none of those offered.
    """
    if not isinstance(name, str) or name not in names:
        raise ValueError("choose one of the listed models")
    return names[name]


def for_labels(names: dict[str, str]) -> Any:
    """A handler that shows the licence of a chosen model."""
    def show(name: Any) -> str:
        return tokenizer_licence(name) if isinstance(name, str) and name in names else ""
    return show
