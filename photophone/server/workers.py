"""One thread a pipeline: it takes jobs from its line and does those that go together in one batch."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from typing import Any

import torch
from PIL import Image

from photophone.decoding.loop import DecodingStopped
from photophone.pipelines.base import Pipeline, StepCallback
from photophone.pipelines.picture_edit import Edit
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline
from photophone.pipelines.speech_rounds import SpeechRounds, Utterance
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.server.lines import Job, Line, Refused
from photophone.server.metrics import Metrics
from photophone.server.orders import EnhanceOrder, ImageOrder, SpeechOrder

GATHER_SECONDS = 0.01
"""That an idle worker waits for jobs that come together with the first."""


class Failed(Exception):
    """Something broke here that the client is not to blame for; the log says what."""


class Worker(ABC):
    """A thread with a pipeline that nothing else uses.

    Args:
        pipeline: in eval mode.
        name: of the kind of work, for metrics.
        most_waiting: jobs that may wait.
        batch: rows that are made together.
        metrics: of the server.
    """

    def __init__(self, pipeline: Pipeline, name: str, most_waiting: int, batch: int, metrics: Metrics) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.name, self.batch, self.metrics = pipeline, name, batch, metrics
        self.line = Line(most_waiting)
        self.running: list[Job] = []
        metrics.watch(name, lambda: len(self.line), lambda: len(self.running))
        self.thread = threading.Thread(target=self._run, name=f"serve-{name}", daemon=True)
        self.thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it takes jobs."""
        return self.thread.is_alive() and not self.line.is_closed

    def close(self) -> None:
        """Do what waits, and end."""
        self.line.close()
        self.thread.join()

    def _run(self) -> None:
        while True:
            wait = None if not self.running else 0.0
            jobs = self.line.take(self.batch - len(self.running), wait)
            if not jobs and not self.running:
                return
            if not self.running and len(jobs) < self.batch:
                time.sleep(GATHER_SECONDS)
                jobs += self.line.take(self.batch - len(jobs))
            self.running += jobs
            began = time.monotonic()
            try:
                self.work(jobs)
            except Exception as error:  # whatever broke: those who wait are told, and the next jobs are done
                self.fail(error)
            self.line.took(time.monotonic() - began, max(1, len(jobs)))

    def fail(self, error: Exception) -> None:
        """End all running jobs with an error that tells clients nothing; the log has it."""
        traceback.print_exception(error, file=sys.stderr)
        for job in self.running:
            job.end(Failed("something went wrong here"))
        self.running = []

    def finish(self, job: Job, error: Exception | None = None) -> None:
        """A job is done."""
        job.end(error)
        self.running.remove(job)

    def stop_unless_wanted(self, jobs: list[Job]) -> StepCallback:
        """A callback that stops the pipeline when nobody waits for any of these jobs."""
        def callback(pipeline: Any, step: int, total: int, values: dict) -> None:
            if not any(job.is_wanted for job in jobs) and not pipeline._interrupt:
                pipeline._interrupt = True
                self.metrics.cancelled.labels(self.name).inc(len(jobs))
        return callback

    @abstractmethod
    def work(self, jobs: list[Job]) -> None:
        """Go on with the running jobs, of which these are new; those that are done are finished."""


class SpeechWorker(Worker):
    """Speaks orders in rounds: new ones join between two of them; parts are float32 (T,)."""

    pipeline: TextToSpeechPipeline

    def __init__(self, pipeline: TextToSpeechPipeline, most_waiting: int, batch: int, metrics: Metrics) -> None:
        self.rounds = SpeechRounds(pipeline, batch)
        self.speaking: dict[Utterance, Job] = {}
        super().__init__(pipeline, "speech", most_waiting, batch, metrics)

    def work(self, jobs: list[Job]) -> None:
        for job in jobs:
            order: SpeechOrder = job.order
            generator = torch.Generator().manual_seed(order.seed)
            try:
                utterance = self.rounds.join(order.text, generator=generator, is_streamed=order.is_streamed,
                                             **order.options)
            except ValueError as error:
                self.finish(job, Refused(str(error)))
            else:
                self.speaking[utterance] = job
        for utterance, job in list(self.speaking.items()):
            if not job.is_wanted:
                self.rounds.leave(utterance)
                self._let_go(utterance)
                self.metrics.cancelled.labels(self.name).inc()
        if self.speaking:
            self.metrics.batches.labels(self.name).observe(min(self.batch, len(self.speaking)))
        for utterance, audio in self.rounds.step():
            self.speaking[utterance].give(audio)
            self.metrics.seconds.labels(self.name).inc(len(audio) / self.pipeline.sample_rate)
        for utterance in [one for one in self.speaking if one.is_done]:
            self._let_go(utterance)

    def fail(self, error: Exception) -> None:
        """As in the base; the rounds begin anew."""
        super().fail(error)
        self.speaking = {}
        self.rounds = SpeechRounds(self.pipeline, self.batch)

    def _let_go(self, utterance: Utterance) -> None:
        job = self.speaking.pop(utterance)
        job.told = utterance.row.spoken
        self.finish(job)


class ImageWorker(Worker):
    """Draws orders of equal options in one call; the one part of a job is its list of PIL images."""

    pipeline: TextToImagePipeline

    def __init__(self, pipeline: TextToImagePipeline, most_waiting: int, batch: int, metrics: Metrics) -> None:
        super().__init__(pipeline, "image", most_waiting, batch, metrics)

    def work(self, jobs: list[Job]) -> None:
        while self.running:
            self._draw(self._together())

    def _together(self) -> list[Job]:
        """The jobs to draw next: the oldest, and others of its options while the batch has room."""
        first = self.running[0]
        group, rows = [first], len(first.order.seeds)
        for job in self.running[1:]:
            if job.order.joins(first.order) and rows + len(job.order.seeds) <= self.batch:
                group.append(job)
                rows += len(job.order.seeds)
        return group

    def _draw(self, group: list[Job]) -> None:
        self.metrics.batches.labels(self.name).observe(sum(len(job.order.seeds) for job in group))
        try:
            images = self._images([job.order for job in group], self.stop_unless_wanted(group))
        except ValueError as error:
            if len(group) == 1:
                self.finish(group[0], Refused(str(error)))
                return
            for job in group:  # it is the fault of one of them: each gets its own answer
                self._draw([job])
            return
        except DecodingStopped:
            images = []
        for job in group:
            job.give(images[:len(job.order.seeds)])
            images = images[len(job.order.seeds):]
            self.finish(job)


    def _images(self, orders: list[ImageOrder], callback: StepCallback) -> list[Image.Image]:
        """The images of orders that join, one after the other."""
        first, pipeline = orders[0], self.pipeline
        options: dict[str, Any] = {**first.options, "callback_on_step_end": callback}
        if first.to_prompt is not None:
            return pipeline.interpolate(first.prompt, first.to_prompt, num_images=len(first.seeds),
                                        generator=torch.Generator().manual_seed(first.seeds[0]), **options).images
        prompts = [order.prompt for order in orders for _ in order.seeds]
        options["generator"] = [torch.Generator().manual_seed(seed) for order in orders for seed in order.seeds]
        if first.edit is None:
            return pipeline(prompts, **options).images
        edit = Edit.together([order.edit for order in orders], [len(order.seeds) for order in orders])
        return pipeline.edited(None if first.prompt is None else prompts, edit, len(prompts), **options).images


class EnhanceWorker(Worker):
    """Makes recordings clean, one after the other; the one part of a job is float32 (C, T)."""

    pipeline: SpeechEnhancementPipeline

    def __init__(self, pipeline: SpeechEnhancementPipeline, most_waiting: int, metrics: Metrics) -> None:
        super().__init__(pipeline, "enhance", most_waiting, 1, metrics)

    def work(self, jobs: list[Job]) -> None:
        for job in jobs:
            order: EnhanceOrder = job.order
            try:
                made = self.pipeline(order.audio, order.sample_rate, mix=order.mix,
                                     callback_on_step_end=self.stop_unless_wanted([job])).audio[0]
            except ValueError as error:
                self.finish(job, Refused(str(error)))
                continue
            except DecodingStopped as error:
                self.finish(job, error)
                continue
            self.metrics.seconds.labels(self.name).inc(made.shape[-1] / order.sample_rate)
            job.give(made)
            self.finish(job)
