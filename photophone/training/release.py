"""Trained parts put together into a pipeline folder with 16-bit weights, as it ships in the wheel.

``release_command`` is the command line that the scripts ``build_*.py`` share.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

import torch

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.command import as_command
from photophone.core.files import check_folder
from photophone.core.model import Model
from photophone.generators.enhancement import Enhancer
from photophone.generators.flow_ar.model import FlowARGenerator
from photophone.generators.speech_ar.model import SpeechFlowAR
from photophone.loading.saved import saved_class
from photophone.pipelines.base import Pipeline
from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.tokenizers.icon_matting import IconMatting
from photophone.tokenizers.icon_upscaler import IconUpscaler
from photophone.tokenizers.latent1d.model import Latent1DTokenizer

CARD = """# {name}

{pipeline} of photophone with {parameters:.1f} million parameters ({megabytes:.1f} MB in 16 bits).

{parts}
- Revision: {revision}

Say here what it was trained on, under which licences, and what it cannot do, before you pass it on.
"""


def image_pipeline(image_tokenizer: Path, generator: Path, matting: Path | None = None,
                   upscaler: Path | None = None) -> TextToImagePipeline:
    """From ``export/`` of an image tokenizer's run and of a caption generator's run, and maybe of a matting network's
    and of an upscaler's."""
    cutter = None if matting is None else IconMatting.from_pretrained(matting, dtype=torch.float16)
    larger = None if upscaler is None else IconUpscaler.from_pretrained(upscaler, dtype=torch.float16)
    return TextToImagePipeline(
        CaptionTokenizer.from_pretrained(generator / "text_tokenizer"),
        FlowARGenerator.from_pretrained(generator / "token_generator", dtype=torch.float16),
        Latent1DTokenizer.from_pretrained(image_tokenizer, dtype=torch.float16), matting=cutter, upscaler=larger)


def speech_pipeline(codec: Path, generator: Path) -> TextToSpeechPipeline:
    """From ``export/`` of a codec's run and of a speech generator's run.

    Raises:
        ValueError: tokens of the one that the other does not read.
    """
    speaker = SpeechFlowAR.from_pretrained(generator, dtype=torch.float16)
    reader = StreamCodec.from_pretrained(codec, dtype=torch.float16)
    if reader.token_dim != speaker.config.token_dim:
        raise ValueError(f"the generator makes tokens of {speaker.config.token_dim} channels, the codec reads "
                         f"{reader.token_dim}")
    return TextToSpeechPipeline(speaker, reader)


def enhancement_pipeline(enhancer: Path) -> SpeechEnhancementPipeline:
    """From ``export/`` of an enhancer's run, also of a live one."""
    return SpeechEnhancementPipeline(saved_class(enhancer, Enhancer).from_pretrained(enhancer, dtype=torch.float16))


def write_release(pipeline: Pipeline, output: Path, name: str, revision: str) -> float:
    """Write the folder of a pipeline: weights, ``revision.txt``, and a card where there is none yet.

    Args:
        pipeline: with weights in the precision that they are to have.
        output: folder to write.
        name: what the pipeline is called.
        revision: version of these weights, such as "1.0".

    Returns:
        Megabytes of weights.
    """
    models = {part: model for part, model in pipeline.components.items() if isinstance(model, Model)}
    for model in models.values():
        model.register_to_config(_name_or_path=name)  # else the folder of the training run
    pipeline.save_pretrained(output)
    (output / "revision.txt").write_text(revision + "\n")
    megabytes = sum(file.stat().st_size for file in output.rglob("*.safetensors")) / 1e6
    counts = {part: sum(weight.numel() for weight in model.parameters()) / 1e6 for part, model in models.items()}
    parts = [f"- `{part}`: `{type(model).__name__}`, {counts[part]:.1f} million parameters"
             for part, model in models.items()]
    card = output / "README.md"
    if not card.exists():  # a card that was written by hand stays
        card.write_text(CARD.format(name=name, pipeline=type(pipeline).__name__, parameters=sum(counts.values()),
                                    megabytes=megabytes, parts="\n".join(parts), revision=revision), encoding="utf-8")
    return megabytes


def release_command(description: str, build: Callable[..., Pipeline], name: str, **parts: str) -> None:
    """Parse arguments, put the pipeline together and write it.

    Args:
        description: for ``--help``.
        build: makes the pipeline from folders.
        name: what the pipeline is called when ``--name`` is not given.
        parts: help of each argument of ``build``; ``image_tokenizer`` becomes the option ``--image-tokenizer``. Those
            with a default may be left out.
    """
    needed = {name for name, part in inspect.signature(build).parameters.items() if part.default is part.empty}
    parser = argparse.ArgumentParser(description=description)
    for part, words in parts.items():
        parser.add_argument(f"--{part.replace('_', '-')}", type=Path, required=part in needed, help=words)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", default=name, help=f"what the pipeline is called (default {name})")
    parser.add_argument("--revision", required=True, help="version of these weights, such as 1.0")
    parser.add_argument("--overwrite", action="store_true", help="replace weights that are in the folder; a card "
                                                                 "that is there stays")
    arguments = parser.parse_args()
    with as_command(parser.prog):
        if not arguments.overwrite:
            check_folder(arguments.output)
        pipeline = build(**{part: getattr(arguments, part) for part in parts})
        megabytes = write_release(pipeline, arguments.output, arguments.name, arguments.revision)
        print(f"{arguments.output}: {megabytes:.2f} MB of weights")
