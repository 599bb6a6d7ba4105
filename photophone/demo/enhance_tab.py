"""The tab that makes noisy speech clean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import torch

from photophone.core.limits import DEMO_CLIP_SECONDS
from photophone.data.mixing import scale_to_snr
from photophone.demo.events import connect, example_button, wait
from photophone.demo.jobs import Emit, on_step
from photophone.demo.models import licence_line
from photophone.demo.parts import Demo, buttons, facts_line, for_visitors, number, record, spectrum, to_pcm
from photophone.demo.uploads import decode_upload, take_bytes
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline, full_scale
from photophone.pipelines.text_to_speech import TextToSpeechPipeline

EXAMPLE_TEXT = "Light carries sound. The sun is warm, and that was the start."
EXAMPLE_SNR_DB = 5.0


def build_enhance_tab(demo: Demo) -> dict[str, Any]:
    """Add the tab's components and events; see :func:`photophone.demo.image_tab.build_image_tab`."""
    pipeline = demo.shelf.pipeline(SpeechEnhancementPipeline, demo.choice.enhance)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            recording = gr.Audio(label=f"Noisy speech, at most {DEMO_CLIP_SECONDS:g} s", type="filepath",
                                 sources=["upload", "microphone"], buttons=["download"], elem_id="enhance-input")
            take_bytes(recording)
            mix = gr.Slider(0, 1, 1, step=0.05, label="Share of the clean speech")
            start, stop = buttons("Enhance", "enhance")
            example_button(demo, recording, demo.choice.speech, "speech", lambda: noisy_example(
                demo.shelf.pipeline(TextToSpeechPipeline, demo.choice.speech)), "enhance-example")
        with gr.Column(scale=3, min_width=300):
            audio = gr.Audio(label="Clean speech", elem_id="enhance-audio", format="wav", interactive=False,
                             buttons=["download"])
            pictures = gr.ImageSlider(label="Spectrogram, before and after", elem_id="enhance-picture", format="png",
                                      interactive=False)
            facts = gr.HTML(elem_id="enhance-facts")
            gr.HTML(licence_line(pipeline))
    made = gr.JSON(visible=False)

    @for_visitors
    def enhance(upload: Any, mix: Any, progress=gr.Progress()) -> Iterator[Any]:  # noqa: B008 (gradio finds it)
        share = number(mix, "the share", 0, 1)
        samples, rate = decode_upload(upload, "audio")

        def work(emit: Emit) -> tuple:
            began = time.perf_counter()
            result = pipeline(samples, rate, mix=share, callback_on_step_end=on_step(emit))
            return result.audio[0], time.perf_counter() - began

        clean, seconds = yield from wait(demo.shelf.worker(demo.choice.enhance).run(work), progress, "cleaning")
        before = spectrum(samples, rate)
        after = spectrum(clean, rate)
        line = facts_line(f"{samples.shape[1] / rate:.1f} s in {seconds:.1f} s", f"{rate} Hz",
                          "stereo" if len(samples) == 2 else "mono")
        clean = clean * np.float32(full_scale(clean))
        yield to_pcm(clean, rate), (before, after), line, record("enhance", "a recording", None, after, mix=share)

    run = connect(demo, start, stop, enhance, [recording, mix], [audio, pictures, facts, made], name="enhance",
                  kind="enhance", shown=audio, facts=facts)
    return {"record": made, "run": run}


def noisy_example(pipeline: TextToSpeechPipeline) -> tuple[int, np.ndarray]:
    """A sentence of the built-in voice in brown noise at ``EXAMPLE_SNR_DB``, always the same."""
    speech = pipeline(EXAMPLE_TEXT, generator=torch.Generator().manual_seed(1)).audio[0]
    steps = torch.randn(len(speech), generator=torch.Generator().manual_seed(2)).numpy()
    noise = np.zeros_like(speech)
    level = 0.0
    for index, step in enumerate(steps):  # a leaky sum: louder at low frequencies, as fans and traffic are
        level = 0.97 * level + step
        noise[index] = level
    noisy = speech + scale_to_snr(speech, noise, EXAMPLE_SNR_DB, pipeline.sample_rate)
    return to_pcm(0.7 * noisy / np.abs(noisy).max(), pipeline.sample_rate)
