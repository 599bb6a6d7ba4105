"""Train a text-conditioned image generator on the tokens of a prepared file of images."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from photophone.data.images import ImageDataset
from photophone.generators.flow_ar import FlowARGenerator
from photophone.text.captions import train_caption_tokenizer
from photophone.tokenizers.latent1d import Latent1DTokenizer
from photophone.tokens import Tokens
from photophone.training.command import train_command
from photophone.training.config import TrainConfig
from photophone.training.image_generator import ImageGeneratorTask


def build_task(config: TrainConfig) -> ImageGeneratorTask:
    settings = dict(config.task)
    data, tokens = ImageDataset(config.data), Tokens.load(settings.pop("tokens"))
    image_tokenizer = Latent1DTokenizer.from_pretrained(settings.pop("image_tokenizer")).eval()
    if config.init_from:
        model = FlowARGenerator.from_pretrained(Path(config.init_from) / "token_generator")
        text_tokenizer = PreTrainedTokenizerFast.from_pretrained(Path(config.init_from) / "text_tokenizer")
    else:
        model = FlowARGenerator(**config.model)
        model.set_statistics(tokens.values)
        texts = [text for fields in data.fields for text in (fields["caption"], fields["tags"]) if text]
        text_tokenizer = train_caption_tokenizer(texts, model.config.vocab_size, model.config.max_text_length)
    validation = ImageDataset(config.validation) if config.validation else None
    return ImageGeneratorTask(model, text_tokenizer, data, tokens, image_tokenizer=image_tokenizer,
                              validation=validation, **settings)


if __name__ == "__main__":
    train_command(__doc__, build_task)
