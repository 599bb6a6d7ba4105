"""The tab that speaks, aloud while the speech is made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import torch

from photophone.core.limits import (
    DEMO_CLIP_SECONDS,
    DEMO_GUIDANCE_SCALE,
    DEMO_SPEECH_STEPS,
    DEMO_TEXT_CHARACTERS,
    MAX_VOICE_SECONDS,
    SPEED_RANGE,
)
from photophone.demo.events import connect, wait
from photophone.demo.jobs import Emit, on_step
from photophone.demo.models import licence_line
from photophone.demo.parts import (
    Demo,
    buttons,
    choose_seed,
    facts_line,
    for_visitors,
    number,
    record,
    seed_row,
    spectrum,
    to_pcm,
    whole,
)
from photophone.demo.uploads import decode_upload, take_bytes
from photophone.pipelines.speech_fronts import Voice
from photophone.pipelines.text_to_speech import TextToSpeechPipeline

EXAMPLES = ["Light carries sound.",
            "The photophone sent speech over two hundred meters on a beam of light. It was made in 1880.",
            "Dr. Smith paid $5.50 at 7:30 pm. Who goes there?"]
PLAYER = (Path(__file__).parent / "assets" / "player.js").read_text(encoding="utf-8")


class SpeechParts(NamedTuple):
    """The components of the tab, from what goes in to what comes out."""

    text: gr.Textbox
    speed: gr.Slider
    seed: gr.Number
    random: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    steps: gr.Slider
    guidance: gr.Slider
    temperature: gr.Slider
    live: gr.HTML
    audio: gr.Audio
    picture: gr.Image
    facts: gr.HTML
    made: gr.JSON
    voice: tuple[gr.components.Component, ...]


def build_speech_tab(demo: Demo) -> dict[str, Any]:
    """Add the tab's components and events; see :func:`photophone.demo.image_tab.build_image_tab`."""
    pipeline = demo.shelf.pipeline(TextToSpeechPipeline, demo.choice.speech)
    parts = lay_out(demo, pipeline)
    run = connect(demo, parts.start, parts.stop, speaker(demo, pipeline),
                  [parts.text, parts.speed, parts.seed, parts.random, parts.steps, parts.guidance, parts.temperature,
                   *parts.voice],
                  [parts.live, parts.audio, parts.picture, parts.facts, parts.seed, parts.made], name="speech",
                  kind="speech", shown=parts.audio, facts=parts.facts, cleared=(parts.live,))
    return {"text": parts.text, "seed": parts.seed, "random": parts.random, "record": parts.made, "run": run}


def lay_out(demo: Demo, pipeline: TextToSpeechPipeline) -> SpeechParts:
    """The components, on the page."""
    defaults = pipeline.settings(guidance_scale=None, temperature=None, num_inference_steps=None)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            language = ", in English" if pipeline.front.reads_phonemes else ""
            text = gr.Textbox(EXAMPLES[0], label=f"Text{language}", lines=3, max_length=DEMO_TEXT_CHARACTERS,
                              elem_id="speech-text")
            voice = voice_parts(pipeline)
            speed = gr.Slider(*SPEED_RANGE, 1, step=0.05, label="Speed")
            seed, random = seed_row()
            start, stop = buttons("Speak", "speech")
            gr.Examples([[example] for example in EXAMPLES], [text], label="Examples")
            with gr.Accordion("Settings", open=False):
                steps = gr.Slider(1, DEMO_SPEECH_STEPS, defaults["num_inference_steps"], step=1, label="Steps")
                guidance = gr.Slider(0, DEMO_GUIDANCE_SCALE, defaults["guidance_scale"], step=0.1, label="Guidance")
                temperature = gr.Slider(0, 2, defaults["temperature"], step=0.05, label="Temperature")
        with gr.Column(scale=3, min_width=300):
            live = live_player(demo, pipeline.sample_rate)
            audio = gr.Audio(label="Speech", elem_id="speech-audio", format="wav", interactive=False,
                             buttons=["download"])
            picture = gr.Image(label="Spectrogram", elem_id="speech-picture", format="png", interactive=False,
                               buttons=["fullscreen"])
            facts = gr.HTML(elem_id="speech-facts")
            gr.HTML(licence_line(pipeline))
    made = gr.JSON(visible=False)
    return SpeechParts(text, speed, seed, random, start, stop, steps, guidance, temperature, live, audio, picture,
                       facts, made, voice)


def clones(pipeline: TextToSpeechPipeline) -> bool:
    """Whether visitors may bring a recording of a voice: it is read, and its generator does not need files instead."""
    return pipeline.front.takes_voices and pipeline.front.reads_markup


def voice_parts(pipeline: TextToSpeechPipeline) -> tuple[gr.components.Component, ...]:
    """What says with which voice: a recording of it, its words and how to speak; or the names of the model's voices;
    nothing where there is no choice."""
    if not clones(pipeline):
        names = list(pipeline.voices) if pipeline.front.takes_names else []
        return (gr.Dropdown(names, value=names[0], label="Voice", elem_id="speech-name"),) if names else ()
    recording = gr.Audio(label=f"Voice to speak with, at most {MAX_VOICE_SECONDS} s; with the speaker's consent",
                         type="filepath", sources=["upload", "microphone"], elem_id="speech-voice")
    take_bytes(recording)
    words = gr.Textbox("", label="Its words, to continue it", max_length=DEMO_TEXT_CHARACTERS, elem_id="speech-words")
    style = gr.Textbox("", label="How to speak, in words", max_length=DEMO_TEXT_CHARACTERS, elem_id="speech-style")
    return recording, words, style


def named_voice(name: Any, pipeline: TextToSpeechPipeline) -> dict[str, Any]:
    """The option of a call that the name of a voice makes.

    Raises:
        ValueError: the model has no such voice.
    """
    if name not in pipeline.voices:
        raise ValueError(f"there is no voice {str(name)[:60]!r}; there are {', '.join(pipeline.voices)}")
    return {"voice": name}


def given_voice(upload: Any, words: Any, style: Any) -> dict[str, Any]:
    """The options of a call that a visitor's voice makes; none of them where nothing was given.

    Raises:
        ValueError: words of no recording, or an upload that is refused.
    """
    if not isinstance(words, str) or not isinstance(style, str):
        raise ValueError("the words of the recording and how to speak must be text")
    options: dict[str, Any] = {"instruction": style.strip()} if style.strip() else {}
    if upload is None:
        if words.strip():
            raise ValueError("these are the words of no recording: upload or record one, or empty the field")
        return options
    samples, rate = decode_upload(upload, "audio")
    return {**options, "voice": Voice(samples.mean(axis=0), rate, words.strip() or None)}


def speaker(demo: Demo, pipeline: TextToSpeechPipeline) -> Callable[..., Iterator[Any]]:
    """What the start button does: speech for visitors, heard while it is made."""
    @for_visitors
    def speak(text: Any, speed: Any, seed: Any, random: Any, steps: Any, guidance: Any, temperature: Any,
              progress=gr.Progress()) -> Iterator[Any]:  # noqa: B008 (gradio finds it by its default)
        yield from spoken({}, text, speed, seed, random, steps, guidance, temperature, progress)

    @for_visitors
    def clone(text: Any, speed: Any, seed: Any, random: Any, steps: Any, guidance: Any, temperature: Any, upload: Any,
              words: Any, style: Any,
              progress=gr.Progress()) -> Iterator[Any]:  # noqa: B008
        voice = given_voice(upload, words, style)
        yield from spoken(voice, text, speed, seed, random, steps, guidance, temperature, progress)

    @for_visitors
    def by_name(text: Any, speed: Any, seed: Any, random: Any, steps: Any, guidance: Any, temperature: Any, name: Any,
                progress=gr.Progress()) -> Iterator[Any]:  # noqa: B008
        voice = named_voice(name, pipeline)
        yield from spoken(voice, text, speed, seed, random, steps, guidance, temperature, progress)

    def spoken(voice: dict[str, Any], text: Any, speed: Any, seed: Any, random: Any, steps: Any, guidance: Any,
               temperature: Any, progress: gr.Progress) -> Iterator[Any]:
        check_words(text, pipeline)
        used = choose_seed(seed, random)
        options = {"speed": number(speed, "speed", *SPEED_RANGE),
                   "num_inference_steps": whole(steps, "steps", 1, DEMO_SPEECH_STEPS),
                   "guidance_scale": number(guidance, "guidance", 0, DEMO_GUIDANCE_SCALE),
                   "temperature": number(temperature, "temperature", 0, 2)}
        name = demo.live.open()

        def work(emit: Emit) -> tuple:
            try:
                return speak_aloud(pipeline, text, used, {**options, **voice}, emit,
                                   lambda chunk: demo.live.write(name, chunk))
            finally:
                demo.live.close(name)

        try:
            yield name, None, None, facts_line("Speaking."), used, gr.skip()
            job = demo.shelf.worker(demo.choice.speech).run(work)
            whole_audio, first, seconds, cut = yield from wait(job, progress, "speaking")
            rate = pipeline.sample_rate
            drawn = spectrum(whole_audio, rate)
            line = facts_line(f"{len(whole_audio) / rate:.1f} s of speech in {seconds:.1f} s",
                              f"first sound after {first:.2f} s", f"seed {used}",
                              *([f"cut at {DEMO_CLIP_SECONDS:g} s"] if cut else []))
            named = {name: value for name, value in voice.items() if isinstance(value, str)}
            kept = record("speech", text, used, drawn, **options, **named)
            yield gr.skip(), to_pcm(whole_audio, rate), drawn, line, used, kept
        finally:
            demo.live.close(name)  # also when the visitor leaves before the work begins

    if clones(pipeline):
        return clone
    return by_name if pipeline.front.takes_names and pipeline.voices else speak


def check_words(text: Any, pipeline: TextToSpeechPipeline) -> None:
    """Refuse what cannot be read aloud, or is too long here.

    Raises:
        ValueError: see :func:`photophone.text.speech_text.check_text` and :func:`photophone.text.script.read_script`.
    """
    pipeline.front.check(pipeline.front.script(text).plain)
    if len(text) > DEMO_TEXT_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters, the demo reads {DEMO_TEXT_CHARACTERS}; the command "
                         "line reads whole books")


def speak_aloud(pipeline: TextToSpeechPipeline, text: str, seed: int, options: dict[str, Any], emit: Emit,
                play: Any) -> tuple[np.ndarray, float, float, bool]:
    """Speech of a text, handed to ``play`` chunk by chunk.

    Returns:
        float32 (T,), seconds to the first chunk and to the last, and whether it was cut at ``DEMO_CLIP_SECONDS``.
    """
    began = time.perf_counter()
    first = 0.0
    parts = []
    count = 0
    chunks = pipeline.stream(text, generator=torch.Generator().manual_seed(seed), callback_on_step_end=on_step(emit),
                             **options)
    try:
        for chunk in chunks:
            emit("tick", None)
            first = first or time.perf_counter() - began
            parts.append(chunk.audio)
            count += len(chunk.audio)
            play(chunk.audio)
            if count > DEMO_CLIP_SECONDS * pipeline.sample_rate:
                break
    finally:
        chunks.close()  # frees the codec
    cut = count > DEMO_CLIP_SECONDS * pipeline.sample_rate
    return np.concatenate(parts), first, time.perf_counter() - began, cut


def live_player(demo: Demo, sample_rate: int) -> gr.HTML:
    """The element that plays speech while it is made; its value is the name of a stream."""
    def read(question: Any) -> list:
        """The next samples of a stream: ``[name, position]`` to ``[base64, ended]``."""
        if not isinstance(question, list) or len(question) != 2:
            return ["", True]
        return list(demo.live.read(*question))

    return gr.HTML("", html_template='<div class="live" data-stream="${value}"><span class="live-state"></span></div>',
                   js_on_load=PLAYER.replace("SAMPLE_RATE", str(sample_rate)), server_functions=[read],
                   elem_id="speech-live")
