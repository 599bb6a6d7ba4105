"""The tab that makes the microphone's sound clean while it comes in."""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from photophone.core.limits import DEMO_CLIP_SECONDS, DEMO_MICROPHONES
from photophone.data.audio_write import pcm16
from photophone.demo.models import licence_line
from photophone.demo.parts import Demo
from photophone.pipelines.live_enhancement import LiveSpeech
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline

RECORDER = (Path(__file__).parent / "assets" / "microphone.js").read_text(encoding="utf-8")
PAGE = """<div class="mic"><button class="mic-go lg primary" type="button">Start</button>
<label><input type="checkbox" class="mic-listen"> play it while I speak (wear headphones)</label>
<p class="mic-state facts"></p><div class="mic-results" hidden><p class="facts">heard</p>
<audio class="mic-given" controls></audio><p class="facts">made clean</p><audio class="mic-made" controls></audio></div>
</div>"""
IDLE_SECONDS = 15.0
"""A microphone that sends nothing for so long has left."""
CHUNK_SECONDS = 3.0
"""Of sound in one request, at most."""


@dataclass
class Microphone:
    """A visitor's recording that is going on, and when it was heard last."""

    live: LiveSpeech
    rate: int
    taken: int = 0
    heard: float = field(default_factory=time.monotonic)


class Microphones:
    """Recordings that are going on, under names that cannot be guessed. What is wrong is told in a sentence.

    Args:
        pipeline: with an enhancer that streams.
    """

    def __init__(self, pipeline: SpeechEnhancementPipeline) -> None:
        self.pipeline, self.lock = pipeline, threading.Lock()
        self.open: dict[str, Microphone] = {}

    def begin(self, rate: Any) -> tuple[str, str]:
        """A recording at a rate in Hz: its name, or "" and why not."""
        with self.lock:
            now = time.monotonic()
            self.open = {name: one for name, one in self.open.items() if now - one.heard < IDLE_SECONDS}
            if len(self.open) >= DEMO_MICROPHONES:
                return "", f"{DEMO_MICROPHONES} microphones are in use here; try again in a moment"
            try:
                whole = int(rate) if isinstance(rate, float) and rate.is_integer() else rate
                live = self.pipeline.live(whole)
            except ValueError as error:
                return "", str(error)
            name = secrets.token_urlsafe(16)
            self.open[name] = Microphone(live, whole)
        return name, ""

    def hear(self, name: Any, text: Any, last: Any) -> tuple[str, str]:
        """The next 16-bit samples as base64 to the clean ones, and why it ended, or ""."""
        with self.lock:  # the streams share a model
            one = self.open.get(name) if isinstance(name, str) else None
            if one is None:
                return "", "this recording has ended"
            try:
                samples = np.frombuffer(base64.b64decode(text, validate=True), "<i2")
            except (TypeError, ValueError, binascii.Error):
                return self._end(name, "the sound is damaged")
            if len(samples) > CHUNK_SECONDS * one.rate:
                return self._end(name, "too much sound came at once")
            one.taken, one.heard = one.taken + len(samples), time.monotonic()
            made = [one.live.push(samples[None].astype(np.float32) / 32768)]
            words = ""
            if last is True or one.taken >= DEMO_CLIP_SECONDS * one.rate:
                made.append(one.live.finish())
                words = "" if last is True else f"ended after {DEMO_CLIP_SECONDS:g} s; the command line has no end"
                self.open.pop(name)
            clean = np.concatenate(made, axis=1)[0]
        return base64.b64encode(pcm16(clean).tobytes()).decode("ascii"), words

    def _end(self, name: str, words: str) -> tuple[str, str]:
        self.open.pop(name)
        return "", words


def build_microphone_tab(demo: Demo) -> None:
    """Add the tab; its recordings stay in the browser and are no part of the history."""
    pipeline = demo.shelf.pipeline(SpeechEnhancementPipeline, demo.choice.live)
    microphones = Microphones(pipeline)

    def begin(question: Any) -> list:
        """``[rate]`` to ``[name, why not]``."""
        return list(microphones.begin(question[0])) if isinstance(question, list) and len(question) == 1 else ["", ""]

    def hear(question: Any) -> list:
        """``[name, base64, last]`` to ``[base64, why it ended]``."""
        if not isinstance(question, list) or len(question) != 3:
            return ["", "this recording has ended"]
        return list(microphones.hear(*question))

    gr.HTML("", html_template=PAGE, js_on_load=RECORDER, server_functions=[begin, hear], elem_id="microphone")
    gr.HTML(licence_line(pipeline))
