"""Train an image tokenizer on a prepared file of images."""

from __future__ import annotations

from photophone.data.images import ImageDataset
from photophone.tokenizers.latent1d import Latent1DTokenizer
from photophone.training.command import train_command
from photophone.training.config import TrainConfig
from photophone.training.image_tokenizer import ImageTokenizerTask, ReconstructionWeights


def build_task(config: TrainConfig) -> ImageTokenizerTask:
    settings = dict(config.task)
    freeze_encoder = settings.pop("freeze_encoder", False)
    if config.init_from:
        model = Latent1DTokenizer.from_pretrained(config.init_from, **config.model)
    else:
        model = Latent1DTokenizer(**config.model)
    validation = ImageDataset(config.validation) if config.validation else None
    return ImageTokenizerTask(model, ImageDataset(config.data), validation, ReconstructionWeights(**settings),
                              freeze_encoder)


if __name__ == "__main__":
    train_command(__doc__, build_task)
