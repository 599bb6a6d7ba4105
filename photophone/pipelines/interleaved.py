"""Text and images to text and images: a vocabulary, a generator of both, an image tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from PIL import Image
from torch import Tensor

from photophone.core.limits import MAX_IMAGES_PER_CALL
from photophone.core.noise import SeededNoise, draw_seed
from photophone.core.tokens import Tokens
from photophone.decoding.interleaved import AnswerPlan
from photophone.generators.interleaved import InterleavedGenerator, word_of
from photophone.pipelines.base import GeneratorInput, StepCallback, row_generators
from photophone.pipelines.images import OUTPUT_TYPES, ImagePipeline, convert_images
from photophone.pipelines.interleaved_output import InterleavedOutput, Part
from photophone.pipelines.text_to_image import check_prompt
from photophone.text.features import load_vocabulary

if TYPE_CHECKING:
    from diffusers import StableUnCLIPImg2ImgPipeline
    from transformers import PreTrainedTokenizerBase

    from photophone.tokenizers.base import ImageTokenizer
    from photophone.tokenizers.seed.model import SEEDTokenizer


class InterleavedPipeline(ImagePipeline):
    """Text and images to text and images: Orthus, SEED-LLaMA and Ming-UniVision.

    Args:
        text_tokenizer: the vocabulary that was published with the generator, of transformers.
        token_generator: reads and writes ids of text and tokens of images.
        image_tokenizer: pictures to tokens, and tokens to pixels, or to what ``image_decoder`` draws.
        image_decoder: Stable unCLIP of diffusers, which draws the image embeddings that SEED makes of its codes; None
            for the others.
        published: ``model`` (registry name) and ``revision`` of published weights; it brings their sampler settings.
    """

    _optional_components = ["image_decoder"]
    OTHERS = ("text_tokenizer", "image_decoder")

    token_generator: InterleavedGenerator

    def __init__(self, text_tokenizer: PreTrainedTokenizerBase, token_generator: InterleavedGenerator,
                 image_tokenizer: ImageTokenizer | SEEDTokenizer,
                 image_decoder: StableUnCLIPImg2ImgPipeline | None = None,
                 published: dict[str, str | None] | None = None) -> None:
        super().__init__()
        self.register_modules(text_tokenizer=text_tokenizer, token_generator=token_generator,
                              image_tokenizer=image_tokenizer, image_decoder=image_decoder)
        self.register_to_config(published=published)

    @classmethod
    def load_other_parts(cls, sources: dict[str, Any], hub: dict[str, Any]) -> dict[str, Any]:
        parts = {"text_tokenizer": load_vocabulary(sources["text_tokenizer"], **hub)}
        if sources["image_decoder"] is not None:
            parts["image_decoder"] = load_decoder(sources["image_decoder"], hub)
        return parts

    def to(self, *arguments: Any, **options: Any) -> Self:
        """Move all components to a device or dtype, as ``torch.nn.Module.to``."""
        if self.image_decoder is not None:
            self.image_decoder.to(*arguments, **options)
        return super().to(*arguments, **options)

    @torch.no_grad()
    def __call__(self, request: str | Image.Image | list, *, kind: str = "any", max_new_tokens: int = 512,
                 max_images: int = 4, num_answers_per_request: int = 1, generator: GeneratorInput = None,
                 num_inference_steps: int | None = None, guidance_scale: float | None = None,
                 temperature: float | None = None, decoder_steps: int = 20, decoder_guidance_scale: float = 10.0,
                 output_type: str = "pil", callback_on_step_end: StepCallback | None = None, return_dict: bool = True,
                 **sampler_options: Any) -> InterleavedOutput | tuple:
        """Answer requests. None for an option means the published setting, or the generator's default.

        Args:
            request: a text, or a list of requests, each a text, a picture, or a list of texts and pictures in their
                order: ``[["What is this?", picture]]`` is one request.
            kind: "any": the model decides when it writes and when it draws; "image": one image and nothing else;
                "text": no image.
            max_new_tokens: ids of text of an answer; it may end before.
            max_images: images of an answer.
            num_answers_per_request: answers to each request, next to each other in the output.
            generator: one ``torch.Generator``, or one for each answer; see
                :func:`photophone.pipelines.base.row_generators`.
            num_inference_steps: solver steps of each token of an image; SEED-LLaMA has no choice.
            guidance_scale: classifier-free guidance of images; 1 is none. SEED-LLaMA has none.
            temperature: of images; of text as well for SEED-LLaMA.
            decoder_steps, decoder_guidance_scale: of ``image_decoder``.
            output_type: of images: "pil", "np", "pt" or "latent" (the :class:`photophone.Tokens`).
            callback_on_step_end: ``callback(pipeline, step, total, {}) -> dict | None`` after each id and each token of
                an image; set ``pipeline._interrupt`` to stop. An answer may end before ``total``.
            return_dict: False gives a tuple with the parts alone.
            **sampler_options: further options of the generator's ``Sampler``, such as ``text_temperature``;
                ``sampler()`` shows them all.

        Raises:
            ValueError: an argument outside its limits, a request without content, or an option that the generator does
                not have.
            DecodingStopped: the callback set ``_interrupt``.
        """
        requests = read_requests(request)
        check_answers(len(requests), num_answers_per_request, output_type)
        plan = AnswerPlan(kind, max_new_tokens, max_images)
        if output_type != "latent" and kind != "text":
            self.check_decoder(decoder_steps, decoder_guidance_scale)
        for row in requests:
            self.check_words(row)
        sampler = self.sampler({"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
                                "temperature": temperature, **sampler_options})
        requests = [row for row in requests for _ in range(num_answers_per_request)]
        generators, seeds = row_generators(generator, len(requests))
        model, answers = self.token_generator, []
        model.connect(self.image_tokenizer)
        for row, source in zip(requests, generators):
            noise = SeededNoise([source], model.device)
            with self.watch(callback_on_step_end) as on_step:
                parts = model.answer(self.encode_request(row, kind), noise=noise, sampler=sampler, plan=plan,
                                     callback=on_step)
            draw = {"steps": decoder_steps, "guidance": decoder_guidance_scale, "output_type": output_type}
            answers.append([made for part in parts if (made := self.show(part, source, **draw)) is not None])
        settings = {**sampler.settings(), "kind": kind, "max_new_tokens": max_new_tokens, "max_images": max_images}
        output = InterleavedOutput(answers, requests, seeds, settings=settings, **self.source,
                                   weights_licence=self.weights_licence)
        return output if return_dict else (output.parts,)

    def encode_request(self, parts: list[Part], kind: str = "any") -> Any:
        """A request as the generator reads it; see
        :meth:`photophone.generators.interleaved.InterleavedGenerator.encode_request`."""
        tokenizer, model = self.image_tokenizer, self.token_generator
        given: list[Any] = []
        for part in parts:
            if isinstance(part, str):
                given.append(part)
            else:
                image = tokenizer.reading(part, tokenizer.image_size)[None]
                given.append(tokenizer.encode(image).values[0].to(model.device))
        return model.encode_request(self.text_tokenizer, given, kind)

    def show(self, part: Tensor | Tokens, source: torch.Generator, *, steps: int, guidance: float,
             output_type: str) -> Any:
        """A part of an answer as the output has it; None for text without a letter."""
        if isinstance(part, Tensor):
            text = self.text_tokenizer.decode(part.tolist(), skip_special_tokens=True).strip()
            return text or None
        if output_type == "latent":
            return part
        made = self.image_tokenizer.decode(part)
        if self.image_decoder is not None:
            made = self.draw_embedding(made, source, steps, guidance)
        return convert_images(made, output_type)[0]

    def draw_embedding(self, embedding: Tensor, source: torch.Generator, steps: int, guidance: float) -> Tensor:
        """The image (1, 3, H, W) in [-1, 1] that Stable unCLIP draws of an image embedding (1, E).

        Unlike in the official code, where all images share one noise, each has its own.
        """
        decoder, network = self.image_decoder, self.image_decoder.unet.config
        own = torch.Generator().manual_seed(draw_seed(source))
        latents = torch.randn(1, network.in_channels, network.sample_size, network.sample_size, generator=own)
        dtype, device = decoder.unet.dtype, decoder.unet.device
        decoder.set_progress_bar_config(disable=True)
        made = decoder(prompt="", image_embeds=embedding.to(device, dtype), latents=latents.to(device, dtype),
                       noise_level=0, guidance_scale=guidance, num_inference_steps=steps, generator=own,
                       output_type="pt").images
        return made.float() * 2 - 1

    def check_decoder(self, steps: int, guidance: float) -> None:
        """Refuse to draw what nothing here can draw, and settings outside their limits.

        Raises:
            ValueError: says what to give.
        """
        needs = not hasattr(self.image_tokenizer, "reconstruct")
        if needs and self.image_decoder is None:
            raise ValueError(f"{type(self.image_tokenizer).__name__} makes image embeddings, not pixels: give "
                             "image_decoder=, a folder of stabilityai/stable-diffusion-2-1-unclip, or take "
                             "output_type='latent' or kind='text'")
        if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= 1000:
            raise ValueError(f"decoder_steps must be 1 to 1000, got {steps!r}")
        if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not 0 <= guidance <= 30:
            raise ValueError(f"decoder_guidance_scale must be 0 to 30, got {guidance!r}")

    def check_words(self, parts: list[Part]) -> None:
        """Refuse a text with words that stand for images.

        Raises:
            ValueError: names the word.
        """
        config = self.token_generator.config
        ids = {config[name] for name in ("image_id", "image_start", "image_end") if name in config}
        for word in (word_of(self.text_tokenizer, id) for id in sorted(ids)):
            if any(isinstance(part, str) and word in part for part in parts):
                raise ValueError(f"a text holds {word!r}, which stands for an image; give images as pictures, and "
                                 "leave the word out")


def read_requests(request: Any) -> list[list[Part]]:
    """One request or several as lists of texts and pictures.

    Raises:
        ValueError: something else, nothing, a text that :func:`photophone.pipelines.text_to_image.check_prompt`
            refuses, or too many pictures.
    """
    rows = request if isinstance(request, list) else [request]
    rows = [list(row) if isinstance(row, list | tuple) else [row] for row in rows]
    if not rows or any(not row for row in rows):
        raise ValueError("a request without text and images; write what is asked, such as 'a red apple'")
    for part in (part for row in rows for part in row):
        if isinstance(part, str):
            check_prompt(part)
        elif not isinstance(part, Image.Image):
            raise ValueError(f"a part of a request must be a text or a PIL image, got {type(part).__name__}; "
                             "several requests are a list, and each may be a list of its parts")
    pictures = max(sum(not isinstance(part, str) for part in row) for row in rows)
    if pictures > MAX_IMAGES_PER_CALL:
        raise ValueError(f"a request holds {pictures} images, the limit is {MAX_IMAGES_PER_CALL}; leave some out")
    return rows


def check_answers(requests: int, each: Any, output_type: str) -> None:
    """Refuse too many answers, or none, and unknown outputs.

    Raises:
        ValueError: names the number, the limit and the way out.
    """
    whole = isinstance(each, int) and not isinstance(each, bool) and each >= 1
    if not whole or requests * each > MAX_IMAGES_PER_CALL:
        raise ValueError(f"{requests} requests x {each} answers asked for; one call gives 1 to {MAX_IMAGES_PER_CALL}; "
                         "make several calls")
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {OUTPUT_TYPES}, got {output_type!r}")


def load_decoder(source: Any, hub: dict[str, Any]) -> StableUnCLIPImg2ImgPipeline:
    """Stable unCLIP of a folder or hub id, from safetensors.

    Raises:
        ValueError: files are missing or damaged.
    """
    from diffusers import StableUnCLIPImg2ImgPipeline

    try:
        return StableUnCLIPImg2ImgPipeline.from_pretrained(source, use_safetensors=True, **hub)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"the image decoder {source} cannot be loaded: {reason}") from error
