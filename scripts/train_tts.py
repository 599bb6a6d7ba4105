"""Train a text-to-speech generator on aligned speech and its codec tokens."""

from __future__ import annotations

import torch

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.tokens import Tokens
from photophone.data.speech import SpeechDataset
from photophone.generators.speech_ar.model import SpeechFlowAR
from photophone.training.loop.command import train_command
from photophone.training.loop.config import TrainConfig
from photophone.training.tasks.speech_generator import AlignedSpeech, SpeechGeneratorTask


def build_task(config: TrainConfig) -> SpeechGeneratorTask:
    settings = dict(config.task)
    codec = StreamCodec.from_pretrained(settings.pop("codec")).eval()
    tokens, validation_tokens = settings.pop("tokens"), settings.pop("validation_tokens", None)
    if settings:
        raise ValueError(f"unknown task settings {sorted(settings)}; known are codec, tokens, validation_tokens")
    model_settings = {"token_dim": codec.token_dim, **config.model}
    if config.init_from:
        model = SpeechFlowAR.from_pretrained(config.init_from, **model_settings)
    else:
        model = SpeechFlowAR(**model_settings)

    def aligned(data: str, path: str) -> AlignedSpeech:
        return AlignedSpeech(SpeechDataset(data), Tokens.load(path), codec.frame_rate, model.config.patch_size)

    data = aligned(config.data, tokens)
    validation = aligned(config.validation, validation_tokens) if config.validation and validation_tokens else None
    if not config.init_from:
        model.fit_statistics(Tokens(torch.cat(data.values)[None]))
    return SpeechGeneratorTask(model, data, validation, codec)


if __name__ == "__main__":
    train_command(__doc__, build_task)
