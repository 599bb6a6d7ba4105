"""What several tests need: drawn pictures, small real models, a hostile file."""

import json
import os

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from photophone import create_model, list_models
from photophone.generators.flow_ar.model import FlowARGenerator
from photophone.loading.registry import find
from photophone.pipelines.interleaved import InterleavedPipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.text.captions import train_caption_tokenizer
from photophone.tokenizers.latent1d.model import Latent1DTokenizer

COLOURS = ("red", "blue", "green", "orange", "purple", "black", "brown", "teal")
SHAPES = ("circle", "square", "triangle", "ring", "cross", "bar")
STYLES = ("flat emoji", "pixel art")
SMALL_TOKENIZER = {"image_size": 16, "num_tokens": 4, "token_dim": 8, "width": 64, "patch": 2, "encoder_channels": [16],
                   "encoder_conv_depths": [0], "decoder_channels": [32], "decoder_conv_depths": [1]}
SMALL_GENERATOR = {"num_tokens": 4, "token_dim": 8, "vocab_size": 160, "max_text_length": 12, "width": 64,
                   "depth": 1, "num_heads": 2, "order": "next_x", "cell_size": 2, "head": "local_dit",
                   "head_config": {"width": 64, "depth": 1, "num_heads": 2, "cell_size": 2}}


def draw_icon(colour, shape, size=64):
    """A shape on white, drawn large and made small, with soft edges as real icons have."""
    image = Image.new("RGB", (256, 256), "white")
    draw, box = ImageDraw.Draw(image), (40, 40, 216, 216)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([(128, 40), (216, 216), (40, 216)], fill=colour)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=40)
    else:
        draw.rectangle((40, 100, 216, 156), fill=colour)
        if shape == "cross":
            draw.rectangle((100, 40, 156, 216), fill=colour)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def icons():
    """(image, fields) of every colour, shape and style."""
    for colour in COLOURS:
        for shape in SHAPES:
            for style in STYLES:
                fields = {"caption": f"{colour} {shape}, {style}", "label": shape, "style": style,
                          "tags": "geometry sign", "colours": colour}
                yield (colour, shape), fields


def write_prepared(path, size=16, count=64):
    """A prepared file of ``count`` icons, as scripts/prepare_images.py makes it."""
    rows = list(icons())[:count]
    images = np.stack([np.asarray(draw_icon(*look, size)) for look, _ in rows])
    save_file({"images": torch.from_numpy(images)}, path)
    path.with_suffix(".jsonl").write_text("".join(json.dumps(fields) + "\n" for _, fields in rows))
    return path


def shake(model, seed=0, scale=0.05):
    """Random weights everywhere: layers that start at zero would hide what a test looks for."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)
    return model.eval()


def small_pipeline(seed=0):
    """A text-to-image pipeline of small real parts with a vocabulary of 50 captions."""
    torch.manual_seed(seed)
    captions = [fields["caption"] for _, fields in icons()][:50]
    vocabulary = train_caption_tokenizer(captions, SMALL_GENERATOR["vocab_size"], SMALL_GENERATOR["max_text_length"])
    return TextToImagePipeline(vocabulary, shake(FlowARGenerator(**SMALL_GENERATOR), seed),
                               shake(Latent1DTokenizer(**SMALL_TOKENIZER), seed + 1))


_BUILT = {}


def arguments(entry):
    """What the tiny model of an entry is built with."""
    return {**entry.config, **entry.tiny}


def distinct(kind):
    """One registered name for each distinct tiny model of a kind: sizes that tests make equal are tested once."""
    names = {}
    for entry in list_models(kind):
        names.setdefault((entry.target, json.dumps(arguments(entry), sort_keys=True, default=list)), entry.name)
    return list(names.values())


def build(name):
    """The tiny model of an entry with random weights, built once, and knowing its tokenizer."""
    if name not in _BUILT:
        entry = find(name)
        torch.manual_seed(0)
        model = create_model(name, **entry.tiny)
        # logits must differ from row to row, diffusion must not explode
        codes = entry.kind == "generator" and {"num_codes", "step_side"} & set(model.config)
        _BUILT[name] = shake(model, scale=0.2 if codes else 0.02)
        if entry.kind == "generator" and entry.chain:
            tokenizer = find(entry.chain.tokenizer[1])
            if tokenizer.kind == "image_tokenizer":
                _BUILT[name].connect(build(tokenizer.name))
    return _BUILT[name]


CHAINS = ("mar-base", "mar-huge-cspd-base", "xar-base", "var-d16", "llamagen-b-256", "titok-l32-generator",
          "titok-s128-generator")
"""A generator of each family that makes images of classes."""


def small_chain(name):
    """A registered generator and its tokenizer, tiny, with random weights."""
    return build(name), build(find(name).chain.tokenizer[1])


def small_interleaved():
    """An Orthus whose vocabulary has a word for each id; its tokenizer draws 4 tokens of 8 channels."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {"what": 3, "is": 4, "<image>": 20, "<boi>": 21, "<eoi>": 22, "<end>": 23}
    table |= {f"w{number}": number for number in range(24) if number not in table.values()}
    words = Tokenizer(models.WordLevel(table, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0",
                                         additional_special_tokens=["<image>", "<boi>", "<eoi>", "<end>"])
    vae = create_model("orthus-vae", image_size=4, channels=32, multipliers=[1, 1], blocks=1, latent_channels=16,
                       token_width=8).eval()
    return InterleavedPipeline(vocabulary, build("orthus-7b-base"), vae)


class Hostile:
    """An object whose pickle makes the folder ``marker`` when it is loaded."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def t5_vocabulary(captions, size):
    """The vocabulary of a text encoder of transformers, as its users have it."""
    from transformers import PreTrainedTokenizerFast
    return PreTrainedTokenizerFast(tokenizer_object=train_caption_tokenizer(captions, size, 512).tokenizer,
                                   pad_token="<pad>", unk_token="<unk>", model_max_length=512)
