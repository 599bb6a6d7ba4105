"""Text to image: a caption, a generator of image tokens, an image tokenizer."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from photophone.files import atomic_write
from photophone.generators.flow_ar import FlowARGenerator
from photophone.limits import (
    MAX_GUIDANCE_SCALE,
    MAX_IMAGES_PER_CALL,
    MAX_INFERENCE_STEPS,
    MAX_PROMPT_CHARACTERS,
    MAX_TEMPERATURE,
)
from photophone.noise import SeededNoise
from photophone.pictures import to_pil
from photophone.pipelines.base import GeneratorInput, Pipeline, row_generators
from photophone.registry import REGISTRY
from photophone.text.captions import encode_captions, normalize_caption, shorten
from photophone.tokenizers.base import ImageTokenizer

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class ImageOutput:
    """Images and what is needed to make them again.

    Attributes:
        images: list of PIL images; with output_type "np" float (B, H, W, 3) in [0, 1]; "pt" float (B, 3, H, W) in
            [-1, 1]; "latent" the :class:`photophone.Tokens`.
        prompts, seeds: of each image; ``torch.Generator().manual_seed(seed)`` makes it again.
        settings: the other arguments of the call.
        model, revision, weights_licence: of the weights.
    """

    images: Any
    prompts: list[str]
    seeds: list[int]
    settings: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    revision: str | None = None
    weights_licence: str | None = None

    def save(self, path: str | Path) -> list[Path]:
        """Write PNG files, each with a JSON of its settings beside it, atomically.

        Args:
            path: a ``.png`` file for one image, else a folder, which is made when it is missing.

        Returns:
            The PNG files.

        Raises:
            ValueError: output that is not PIL, or several images for one file name.
        """
        if not (isinstance(self.images, list) and self.images and isinstance(self.images[0], Image.Image)):
            raise ValueError("only images of output_type 'pil' can be saved")
        path = Path(path)
        if path.suffix.lower() == ".png":
            if len(self.images) != 1:
                raise ValueError(f"{len(self.images)} images do not fit one file {path}; give a folder")
            files = [path]
        else:
            files = [path / f"{name}.png" for name in unique_names(self.prompts, self.seeds)]
        for file, image, prompt, seed in zip(files, self.images, self.prompts, self.seeds):
            facts = {"prompt": prompt, "seed": seed, **self.settings, "model": self.model, "revision": self.revision,
                     "weights_licence": self.weights_licence}
            with atomic_write(file) as png, atomic_write(file.with_suffix(".json")) as beside:
                image.save(png, format="PNG")
                beside.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
        return files


class TextToImagePipeline(Pipeline):
    """Captions to images.

    Args:
        text_tokenizer: caption vocabulary.
        token_generator: captions to image tokens.
        image_tokenizer: image tokens to pixels.
    """

    def __init__(self, text_tokenizer: PreTrainedTokenizerFast, token_generator: FlowARGenerator,
                 image_tokenizer: ImageTokenizer) -> None:
        super().__init__()
        self.register_modules(text_tokenizer=text_tokenizer, token_generator=token_generator,
                              image_tokenizer=image_tokenizer)

    @torch.no_grad()
    def __call__(self, prompt: str | list[str], *, num_images_per_prompt: int = 1, generator: GeneratorInput = None,
                 height: int | None = None, width: int | None = None, num_inference_steps: int = 20,
                 guidance_scale: float = 3.0, temperature: float = 1.0, output_type: str = "pil",
                 callback_on_step_end: Callable | None = None) -> ImageOutput:
        """Make images.

        Args:
            prompt: a caption, or a list of them.
            num_images_per_prompt: images for each caption, next to each other in the output.
            generator: one ``torch.Generator``, or one for each image; see
                :func:`photophone.pipelines.base.row_generators`.
            height, width: None, or the size that the model makes.
            num_inference_steps: solver steps of the flow head.
            guidance_scale: classifier-free guidance; 1 is none.
            temperature: of the initial noise, 0 to 2.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: ``callback(pipeline, step, total, {}) -> dict | None`` after each decoding step; set
                ``pipeline._interrupt`` to stop.

        Raises:
            ValueError: an argument outside its limits; the message names the value and the limit.
            DecodingStopped: the callback set ``_interrupt``.
        """
        prompts = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
        self.check_inputs(prompts, num_images_per_prompt, height, width, num_inference_steps, guidance_scale,
                          temperature, output_type)
        prompts = [text for text in prompts for _ in range(num_images_per_prompt)]
        generators, seeds = row_generators(generator, len(prompts))
        device = self.token_generator.device
        ids, mask, null = (t.to(device) for t in encode_captions(self.text_tokenizer, prompts))
        self._interrupt = False

        def on_step(step: int, total: int) -> bool:
            if callback_on_step_end is not None:
                callback_on_step_end(self, step, total, {})
            return self._interrupt

        tokens = self.token_generator.generate(
            ids, mask, null, noise=SeededNoise(generators, device), guidance_scale=guidance_scale,
            temperature=temperature, num_inference_steps=num_inference_steps, callback=on_step)
        images: Any = tokens
        if output_type != "latent":
            images = convert_images(self.image_tokenizer.decode(tokens), output_type)
        settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
                    "temperature": temperature}
        entry = REGISTRY.get(self.source["model"] or "")
        return ImageOutput(images, prompts, seeds, settings, **self.source,
                           weights_licence=entry.weights_licence if entry else None)

    def check_inputs(self, prompts: list[str], num_images_per_prompt: int, height: int | None, width: int | None,
                     num_inference_steps: int, guidance_scale: float, temperature: float, output_type: str) -> None:
        """Raise ValueError for the first argument outside its limits."""
        for text in prompts:
            check_prompt(text)
        whole = isinstance(num_images_per_prompt, Integral) and num_images_per_prompt >= 1
        if not whole or not 1 <= len(prompts) * num_images_per_prompt <= MAX_IMAGES_PER_CALL:
            raise ValueError(f"{len(prompts)} prompts x {num_images_per_prompt} images asked for; one call makes 1 to "
                             f"{MAX_IMAGES_PER_CALL} images")
        size = self.image_tokenizer.image_size
        for name, value in (("height", height), ("width", width)):
            if value not in (None, size):
                raise ValueError(f"{name} {value} is not possible; this model makes {size}x{size} images")
        for name, value, kind, low, high in (
                ("num_inference_steps", num_inference_steps, Integral, 1, MAX_INFERENCE_STEPS),
                ("guidance_scale", guidance_scale, Real, 0, MAX_GUIDANCE_SCALE),
                ("temperature", temperature, Real, 0, MAX_TEMPERATURE)):
            if not (isinstance(value, kind) and low <= value <= high):  # also false for NaN
                raise ValueError(f"{name} must be {low} to {high:g}, got {value!r}")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {OUTPUT_TYPES}, got {output_type!r}")


def check_prompt(text: str) -> None:
    """Refuse what is no caption.

    Raises:
        ValueError: not a string, empty, too long, or with control characters.
    """
    if not isinstance(text, str):
        raise ValueError(f"a prompt must be a string, got {type(text).__name__}")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"the prompt {shorten(text, 30)!r} has {len(text)} characters, the limit is "
                         f"{MAX_PROMPT_CHARACTERS}")
    if not normalize_caption(text):
        raise ValueError(f"the prompt is empty ({text!r}); write what the picture shows, such as 'a red apple'")
    for position, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co") and character not in "\n\t":
            raise ValueError(f"the prompt has the control character U+{ord(character):04X} at position {position}; "
                             "remove it")


def convert_images(images: Tensor, output_type: str) -> Any:
    """Images (B, 3, H, W) in [-1, 1] to PIL images or arrays, see :class:`ImageOutput`."""
    if output_type == "pt":
        return images
    if output_type == "np":
        return ((images.float() + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
    return to_pil(images)


def unique_names(prompts: list[str], seeds: list[int]) -> list[str]:
    """File names ``PROMPT-SEED``, numbered where prompts differ in what a file name leaves out."""
    names: list[str] = []
    for prompt, seed in zip(prompts, seeds):
        first = name = f"{slug(prompt)}-{seed}"
        count = 1
        while name in names:
            count += 1
            name = f"{first}-{count}"
        names.append(name)
    return names


def slug(text: str, limit: int = 40) -> str:
    """A file name from a prompt: letters and digits joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or "image"
