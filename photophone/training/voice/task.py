"""Fine-tuning of the generator on a voice, with samples to listen to while it trains."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from photophone.codecs.base import AudioCodec
from photophone.data.audio import write_audio
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.training.tasks.speech_generator import SpeechGeneratorTask

SENTENCES = ("Light carries sound.", "The photophone sent speech over two hundred meters on a beam of light.",
             "Could you tell me where the old station used to be?")
"""What samples say."""


class VoiceTask(SpeechGeneratorTask):
    """Aligned speech of one voice; previews are sentences as WAV files.

    Args:
        task: of :func:`photophone.training.tasks.speech_recipes.aligned_speech_task`.
        codec: that the samples are decoded with.
        folder: gets ``step-NNNNN-K.wav``.
    """

    def __init__(self, task: SpeechGeneratorTask, codec: AudioCodec, folder: Path) -> None:
        super().__init__(task.model, task.data, task.validation, codec)
        self.folder = folder
        self.step = 0  # of the names of samples

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.step = step + 1
        return super().loss(model, batch, step)

    def preview(self, model: nn.Module) -> None:
        pipeline = TextToSpeechPipeline(model, self.codec)
        pipeline.set_progress_bar_config(disable=True)
        for number, text in enumerate(SENTENCES, 1):
            audio = pipeline(text, generator=torch.Generator().manual_seed(number)).audio[0]
            write_audio(self.folder / f"step-{self.step:05d}-{number}.wav", audio, pipeline.sample_rate)
