"""Text to image: a caption, a generator of image tokens, an image tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from photophone.core.limits import MAX_PROMPT_CHARACTERS
from photophone.generators.base import Generator
from photophone.generators.conditions import CaptionFeatures, CaptionIds, CaptionStates, Condition
from photophone.loading.registry import class_named
from photophone.pipelines.base import GeneratorInput, StepCallback
from photophone.pipelines.captions import caption_sizes, read_captions
from photophone.pipelines.image_edits import ImageEdits, led_away
from photophone.pipelines.images import ImageOutput, ImagePipeline, check_request
from photophone.text.caption_tokenizer import CaptionTokenizer
from photophone.text.captions import check_characters, encode_captions, shorten
from photophone.text.features import LANGUAGE_MODELS, load_text_encoder, load_vocabulary
from photophone.text.plain_caption import normalize_caption
from photophone.tokenizers.base import ImageTokenizer
from photophone.tokenizers.icon_matting import IconMatting
from photophone.tokenizers.icon_upscaler import IconUpscaler

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from photophone.pipelines.picture_edit import Edit


class TextToImagePipeline(ImageEdits, ImagePipeline):
    """Captions to images: our own small models, LlamaGen and NAR with flan-t5, MaskGen with CLIP, HART with Qwen2-VL,
    BitDance with Qwen3 and ARRA with Chameleon inside.

    Args:
        text_tokenizer: caption vocabulary; the one of the text encoder where there is one.
        token_generator: captions to image tokens.
        image_tokenizer: image tokens to pixels.
        text_encoder: where the generator reads features of captions, the T5 encoder, text tower of CLIP or language
            model that makes them; None where it reads their ids.
        published: ``model`` (registry name) and ``revision`` of published weights; it brings their sampler settings.
        matting: cuts pictures out of their white ground, for ``transparent``; None where there is none.
        upscaler: gives pictures twice their size, for ``height`` and ``width``; None where there is none.
    """

    _optional_components = ["text_encoder", "matting", "upscaler"]
    OTHERS = ("text_encoder", "text_tokenizer")

    def __init__(self, text_tokenizer: CaptionTokenizer | PreTrainedTokenizerBase, token_generator: Generator,
                 image_tokenizer: ImageTokenizer, text_encoder: PreTrainedModel | None = None,
                 published: dict[str, str | None] | None = None, matting: IconMatting | None = None,
                 upscaler: IconUpscaler | None = None) -> None:
        super().__init__()
        further = {"matting": matting, "upscaler": upscaler}
        self.register_modules(text_tokenizer=text_tokenizer, token_generator=token_generator,
                              image_tokenizer=image_tokenizer, text_encoder=text_encoder,
                              **{name: part for name, part in further.items() if part is not None})
        self.register_to_config(published=published)

    @classmethod
    def component_class(cls, name: str, index: dict[str, Any]) -> list[str]:
        """As in the base; a vocabulary that transformers saved, without a text encoder, is one of captions."""
        named = super().component_class(name, index)
        generic = named[0] == "transformers" and named[1] in ("PreTrainedTokenizerFast", "TokenizersBackend")
        model = class_named((index.get("token_generator") or ["", ""])[1])
        captions = name == "text_tokenizer" and (index.get("text_encoder") or [None])[0] is None and \
            not (model is not None and model.forms_prompts)
        return ["photophone", "CaptionTokenizer"] if generic and captions else named

    @classmethod
    def load_other_parts(cls, sources: dict[str, Any], hub: dict[str, Any]) -> dict[str, Any]:
        if sources["text_encoder"] is None and sources["text_tokenizer"] is not None:
            return {"text_tokenizer": load_vocabulary(sources["text_tokenizer"], **hub)}
        tokenizer, encoder = load_text_encoder(sources["text_encoder"], **hub)
        return {"text_tokenizer": tokenizer, "text_encoder": encoder}

    @torch.no_grad()
    def __call__(self, prompt: str | list[str], *, num_images_per_prompt: int = 1, generator: GeneratorInput = None,
                 height: int | None = None, width: int | None = None, num_inference_steps: int | None = None,
                 guidance_scale: float | None = None, guidance_schedule: str | None = None,
                 temperature: float | None = None, negative_prompt: str | None = None, as_written: bool = False,
                 transparent: bool = False, system_prompt: str | None = None, output_type: str = "pil",
                 callback_on_step_end: StepCallback | None = None, return_dict: bool = True,
                 **sampler_options: Any) -> ImageOutput | tuple:
        """Make images. None for an option means the published setting, or the generator's default.

        Args:
            prompt: a caption, or a list of them.
            num_images_per_prompt: images for each caption, next to each other in the output.
            generator: one ``torch.Generator``, or one for each image; see
                :func:`photophone.pipelines.base.row_generators`.
            height, width: None, or one of :attr:`sizes`, the same for both.
            num_inference_steps: solver steps of the flow head; LlamaGen has no choice.
            guidance_scale: classifier-free guidance; 1 is none.
            guidance_schedule: "constant", "linear" or "power-cosine", where the generator has a choice.
            temperature: of the initial noise or of the logits, 0 to 2; of masked decoding up to 20.
            negative_prompt: a caption that guidance leads away from, for generators with ``edits``. It needs a guidance
                other than 1, and takes as long again.
            as_written: take prompts as they stand; else those that name no style of the training captions are made into
                such captions where the vocabulary knows how, see :class:`photophone.text.caption_guide.CaptionGuide`.
            transparent: images with an alpha channel, the white ground cut away, where the pipeline has a ``matting``.
            system_prompt: text in front of each prompt for a text encoder that is a language model. HART's own sampling
                script has one that asks for an enhanced prompt.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: ``callback(pipeline, step, total, {}) -> dict | None`` after each decoding step; set
                ``pipeline._interrupt`` to stop.
            return_dict: False gives a tuple with the images alone.
            **sampler_options: further options of the generator's ``Sampler``, such as ``solver`` or ``top_k``;
                ``sampler()`` shows them all.

        Raises:
            ValueError: an argument outside its limits, or an option that the generator does not have.
            DecodingStopped: the callback set ``_interrupt``.
        """
        prompts = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
        texts = [self.read_prompt(text, as_written) for text in prompts]
        check_request("prompts", len(prompts), num_images_per_prompt, output_type)
        prompts, texts = ([text for text in given for _ in range(num_images_per_prompt)] for given in (prompts, texts))
        output = self.draw(self.encode_prompts(texts, system_prompt), prompts, generator=generator,
                           height=height, width=width,
                           negative_prompt=negative_prompt, transparent=transparent, output_type=output_type,
                           callback_on_step_end=callback_on_step_end, num_inference_steps=num_inference_steps,
                           guidance_scale=guidance_scale, guidance_schedule=guidance_schedule, temperature=temperature,
                           **sampler_options)
        if system_prompt is not None:
            output.settings = {**output.settings, "system_prompt": system_prompt}
        if texts != prompts:
            output.rows = [{"caption": text} for text in texts]
        return output if return_dict else (output.images,)

    @property
    def sizes(self) -> list[int]:
        """Pixels per side that can be asked for: those of the tokenizer, and with an ``upscaler`` twice as many."""
        size = self.image_tokenizer.image_size
        upscaler = getattr(self, "upscaler", None)
        return [size] if upscaler is None else [size, size * upscaler.SCALE]

    def check_size(self, height: int | None, width: int | None) -> int:
        """The size that is to be made; None is the model's own.

        Raises:
            ValueError: it makes no such size.
        """
        sizes = self.sizes
        known = " or ".join(f"{size}x{size}" for size in sizes)
        for name, value in (("height", height), ("width", width)):
            if value is not None and value not in sizes:
                raise ValueError(f"{name} {value} is not possible; this model makes {known} images")
        chosen = {value for value in (height, width) if value is not None} or {sizes[0]}
        if len(chosen) > 1:
            raise ValueError(f"height {height} and width {width} differ; this model makes {known} images")
        return chosen.pop()

    def draw(self, condition: Condition, prompts: list[str], *, generator: GeneratorInput = None,
             edit: Edit | None = None, negative_prompt: str | None = None, as_written: bool = False,
             transparent: bool = False, output_type: str = "pil", callback_on_step_end: StepCallback | None = None,
             height: int | None = None, width: int | None = None, **sampler_options: Any) -> ImageOutput:
        """Images of what the generator reads; arguments as of the call.

        Args:
            condition: of :meth:`encode_prompts`.
            prompts: of each row, as they were given.
            edit: of a picture, or None.

        Raises:
            ValueError: as the call.
        """
        check_request("prompts", len(prompts), 1, output_type)
        sampler = self.sampler(sampler_options)
        facts: dict[str, Any] = {}
        if negative_prompt is not None:
            self.check_edits("negative_prompt")
            if sampler.guidance_scale == 1:
                raise ValueError("negative_prompt needs guidance: with a guidance_scale of 1 there is none; leave it "
                                 "out or give another scale")
            check_prompt(negative_prompt)
            condition = led_away(condition, self.encode_prompts([negative_prompt]))
            facts["negative_prompt"] = negative_prompt
        size = self.check_size(height, width)
        finish = self.finisher(size, transparent, output_type)
        if size != self.sizes[0]:
            facts["size"] = size
        if transparent:
            facts["transparent"] = True
        output = self.sample(condition, generator=generator, output_type=output_type, callback=callback_on_step_end,
                             sampler=sampler, prompts=prompts, edit=edit, finish=finish)
        output.settings = {**output.settings, **facts}
        return output

    def finisher(self, size: int, transparent: bool, output_type: str) -> Callable[[Tensor], Tensor] | None:
        """What makes images larger and cuts them out of their ground; None where neither is asked for.

        Raises:
            ValueError: the pipeline has nothing that cuts them out, or the output is no image.
        """
        larger = size != self.sizes[0]
        if output_type == "latent" and (larger or transparent):
            raise ValueError(f"{'transparent' if transparent else f'a size of {size}'} belongs to images; output_type "
                             "'latent' has none")
        matting = getattr(self, "matting", None)
        if transparent and matting is None:
            raise ValueError("transparent: this pipeline has no matting network; photophone/tiny-image has one, and "
                             "scripts/train_matting.py trains one")
        if not larger and not transparent:
            return None

        def finish(images: Tensor) -> Tensor:
            images = self.upscaler.upscale(images) if larger else images
            return matting.cut_out(images) if transparent else images

        return finish

    def read_prompt(self, text: str, as_written: bool = False) -> str:
        """A prompt as the generator reads it; ``as_written`` as of the call.

        Raises:
            ValueError: see :func:`check_prompt`.
        """
        check_prompt(text)
        guide = getattr(self.text_tokenizer, "guide", None)
        return text if as_written or guide is None else guide.caption(text)

    def encode_prompts(self, prompts: list[str],
                       system_prompt: str | None = None) -> CaptionIds | CaptionFeatures | CaptionStates:
        """What the generator reads of B captions: features of the text encoder where there is one, else ids.

        Raises:
            ValueError: a prompt that is too long, or a system prompt for an encoder that is no language model.
        """
        tokenizer, encoder = self.text_tokenizer, self.text_encoder
        kind = None if encoder is None else encoder.config.model_type
        if system_prompt is not None and kind not in LANGUAGE_MODELS:
            raise ValueError("system_prompt is for text encoders that are language models, "
                             f"{'this pipeline has none' if kind is None else f'not for {kind}'}")
        if self.token_generator.forms_prompts:
            return self.token_generator.encode_prompts(tokenizer, prompts)
        if kind is None:
            return CaptionIds(*encode_captions(tokenizer, prompts))
        config = self.token_generator.config
        (name,) = (name for name in caption_sizes(encoder, 0) if name.endswith("length"))
        if name not in config:
            raise ValueError(f"{type(self.token_generator).__name__} does not read captions of a text encoder of the "
                             f"kind {kind}")
        return read_captions(tokenizer, encoder, prompts, config[name], system_prompt)


def check_prompt(text: str) -> None:
    """Refuse what is no caption.

    Raises:
        ValueError: not a string, empty, too long, or see :func:`photophone.text.captions.check_characters`.
    """
    if not isinstance(text, str):
        raise ValueError(f"a prompt must be a string, got {type(text).__name__}")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"the prompt {shorten(text, 30)!r} has {len(text)} characters, the limit is "
                         f"{MAX_PROMPT_CHARACTERS}")
    if not normalize_caption(text):
        raise ValueError(f"the prompt is empty ({text!r}); write what the picture shows, such as 'a red apple'")
    check_characters(text, "prompt")
