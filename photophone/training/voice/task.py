"""Fine-tuning of the generator on a voice, with samples to listen to while it trains, up to where it is best."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from photophone.codecs.base import AudioCodec
from photophone.core.files import atomic_folder
from photophone.core.weight_files import read_json_object
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
        best: folder of the weights that had the lowest validation loss so far, with ``validation.json``. A few minutes
            of speech are soon learned by heart.
    """

    def __init__(self, task: SpeechGeneratorTask, codec: AudioCodec, folder: Path, best: Path) -> None:
        super().__init__(task.model, task.data, task.validation, codec)
        self.folder, self.best = folder, best
        self.step = 0  # of the names of samples

    def loss(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.step = step + 1
        return super().loss(model, batch, step)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """As its base class, and keeps the weights that are better than all before."""
        values = super().validate(model)
        loss, told = sum(values.values()), self.best / "validation.json"
        if values and (not told.exists() or loss < read_json_object(told)["loss"]):
            with atomic_folder(self.best, overwrite=True) as partial:
                self.export(model, partial)
                (partial / told.name).write_text(json.dumps({"step": self.step, "loss": loss, **values}) + "\n")
        return values

    def preview(self, model: nn.Module) -> None:
        pipeline = TextToSpeechPipeline(model, self.codec)
        pipeline.set_progress_bar_config(disable=True)
        for number, text in enumerate(SENTENCES, 1):
            audio = pipeline(text, generator=torch.Generator().manual_seed(number)).audio[0]
            write_audio(self.folder / f"step-{self.step:05d}-{number}.wav", audio, pipeline.sample_rate)
