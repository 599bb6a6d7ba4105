"""Train an audio codec, or a vocoder of mel frames, on prepared speech."""

from __future__ import annotations

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.codecs.vocos.model import Vocos
from photophone.data.speech import SpeechDataset
from photophone.training.loop.command import train_command
from photophone.training.loop.config import TrainConfig
from photophone.training.tasks.codec import CodecTask, CodecWeights

CODECS = {"stream": StreamCodec, "vocos": Vocos}


def build_task(config: TrainConfig) -> CodecTask:
    settings = dict(config.task)
    freeze_encoder = settings.pop("freeze_encoder", False)
    data = SpeechDataset(config.data, *settings.pop("more_data", []))
    kind = settings.pop("codec", "stream")
    if kind not in CODECS:
        raise ValueError(f"task.codec must be one of {', '.join(CODECS)}, got {kind!r}")
    if config.init_from:
        codec = CODECS[kind].from_pretrained(config.init_from, **config.model)
    else:
        codec = CODECS[kind](**config.model)
    validation = SpeechDataset(config.validation) if config.validation else None
    return CodecTask(codec, data, validation, CodecWeights(**settings), freeze_encoder)


if __name__ == "__main__":
    train_command(__doc__, build_task)
