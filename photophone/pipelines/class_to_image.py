"""Class to image: a label, a generator of image tokens, an image tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import torch

from photophone.generators.base import Generator
from photophone.generators.conditions import ClassLabels
from photophone.pipelines.base import GeneratorInput, StepCallback
from photophone.pipelines.images import ImageOutput, ImagePipeline, check_request
from photophone.tokenizers.base import ImageTokenizer


class ClassToImagePipeline(ImagePipeline):
    """Class labels to images: MAR, xAR, VAR, LlamaGen and TiTok with their tokenizers, and what else has classes.

    Args:
        token_generator: labels to image tokens.
        image_tokenizer: image tokens to pixels.
        published: ``model`` (registry name) and ``revision`` of published weights; it brings their sampler settings.
    """

    def __init__(self, token_generator: Generator, image_tokenizer: ImageTokenizer,
                 published: dict[str, str | None] | None = None) -> None:
        super().__init__()
        self.register_modules(token_generator=token_generator, image_tokenizer=image_tokenizer)
        self.register_to_config(published=published)

    @torch.no_grad()
    def __call__(self, class_labels: int | Iterable[int], *, num_images_per_class: int = 1,
                 generator: GeneratorInput = None, num_inference_steps: int | None = None,
                 guidance_scale: float | None = None, guidance_schedule: str | None = None,
                 temperature: float | None = None, output_type: str = "pil",
                 callback_on_step_end: StepCallback | None = None, return_dict: bool = True,
                 **sampler_options: Any) -> ImageOutput | tuple:
        """Make images. None for an option means the published setting, or the generator's default.

        Args:
            class_labels: a class, or several: those of ImageNet for all published weights.
            num_images_per_class: images for each class, next to each other in the output.
            generator: one ``torch.Generator``, or one for each image; see
                :func:`photophone.pipelines.base.row_generators`.
            num_inference_steps: solver or diffusion steps that turn noise into a token: of each cell for xAR, of each
                token for MAR. LlamaGen, VAR and TiTok draw codes and have none.
            guidance_scale: classifier-free guidance; 1 is none.
            guidance_schedule: "constant", "linear" or "power-cosine"; SiT and DiT have none.
            temperature: see the generator.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: ``callback(pipeline, step, total, {})`` after each step of the generator; set
                ``pipeline._interrupt`` to stop.
            return_dict: False gives a tuple with the images alone.
            **sampler_options: further options of the generator's ``Sampler``, such as ``num_order_steps``, ``top_k`` or
                ``top_p``; ``sampler()`` shows them all.

        Raises:
            ValueError: an argument outside its limits, or an option that the generator does not have.
            DecodingStopped: the callback set ``_interrupt``.
        """
        labels = read_labels(class_labels)
        check_request("classes", len(labels), num_images_per_class, output_type)
        sampler = self.sampler({
            "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
            "guidance_schedule": guidance_schedule, "temperature": temperature, **sampler_options})
        labels = [label for label in labels for _ in range(num_images_per_class)]
        output = self.sample(ClassLabels(torch.tensor(labels)), generator=generator, output_type=output_type,
                             callback=callback_on_step_end, sampler=sampler, class_labels=labels)
        return output if return_dict else (output.images,)


def read_labels(class_labels: Any) -> list[int]:
    """One label or several as a list.

    Raises:
        ValueError: what is no whole number.
    """
    if hasattr(class_labels, "tolist"):  # arrays and tensors
        class_labels = class_labels.tolist()
    if isinstance(class_labels, Integral):
        class_labels = [class_labels]
    if not isinstance(class_labels, Iterable) or isinstance(class_labels, str | bytes):
        raise ValueError(f"class_labels must be a whole number or a list of them, got {class_labels!r}")
    labels = list(class_labels)
    for label in labels:
        if not isinstance(label, Integral) or isinstance(label, bool):
            raise ValueError(f"class_labels must be whole numbers, got {label!r}")
    return [int(label) for label in labels]
