"""What people do with a picture and a caption beside making one: variations, inpainting, pictures between two captions,
and a sheet of guidance and seeds.

A variation hides a share of what the tokens of a picture say in noise, and the generator draws them again. Tokens of
the built-in model stand for no place, so inpainting works in pixels: the tokens are re-drawn, the picture that was
given is put back around the region, that is made tokens again, and so on with less and less noise (in the line of
RePaint, arXiv 2201.09865). A picture between two captions is drawn from a mixture of what the backbone makes of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from photophone.core.pictures import labelled_sheet
from photophone.generators.conditions import CaptionBlend, CaptionIds
from photophone.pipelines.base import GeneratorInput, row_generators
from photophone.pipelines.images import ImageOutput
from photophone.pipelines.picture_edit import (
    Edit,
    Region,
    check_number,
    check_rounds,
    check_strength,
    read_mask,
    read_picture,
)

if TYPE_CHECKING:
    from photophone.pipelines.text_to_image import TextToImagePipeline


class ImageEdits:
    """The edits, as methods of :class:`~photophone.pipelines.text_to_image.TextToImagePipeline`.

    They work with generators that have ``edits``, and refuse the others by a ValueError. All take the options of the
    pipeline's call by the same names: ``generator``, ``negative_prompt``, ``transparent``, ``output_type``,
    ``callback_on_step_end``, ``height``, ``width`` and those of the sampler.
    """

    def variations(self: TextToImagePipeline, image: Image.Image, prompt: str | None = None, *, strength: float = 0.6,
                   num_images: int = 4, **options: Any) -> ImageOutput:
        """Pictures like one that is given.

        Args:
            image: the picture; its middle square is scaled to the model's size.
            prompt: what the variations show; None: nothing is said, and guidance has nothing to strengthen.
            strength: share of noise, over 0 up to 1: a little changes details, 1 keeps nothing.
            num_images: how many.

        Raises:
            ValueError: values outside their limits, or a generator without edits.
        """
        edit = Edit(read_picture(image, self.image_tokenizer.image_size), check_strength(strength))
        return self._edit(prompt, num_images, edit, options)

    def inpaint(self: TextToImagePipeline, image: Image.Image, mask: Image.Image | Region, prompt: str | None = None, *,
                rounds: int = 8, num_images: int = 1, **options: Any) -> ImageOutput:
        """A region of a picture drawn anew; outside it every pixel is that of the picture at the model's size.

        Args:
            image: the picture; its middle square is scaled to the model's size.
            mask: a picture that is white where something new is to be drawn, cut and scaled as ``image``; or left, top,
                width and height of a box, in pixels of the model's size.
            prompt: what the whole picture shows then; None: nothing is said.
            rounds: of drawing and putting the picture back; more fit the region better to what is around it.
            num_images: how many.

        Raises:
            ValueError: values outside their limits, a mask of nothing or of everything, or a generator without edits.
        """
        region = read_mask(mask, self.image_tokenizer.image_size)
        edit = Edit(read_picture(image, self.image_tokenizer.image_size), 1.0, region, check_rounds(rounds))
        return self._edit(prompt, num_images, edit, options)

    def interpolate(self: TextToImagePipeline, prompt: str, other: str, *, num_images: int = 8,
                    generator: GeneratorInput = None, **options: Any) -> ImageOutput:
        """Pictures on the way from one caption to another, all from one seed.

        Args:
            prompt, other: the captions; the first picture and the last one are theirs alone.
            num_images: how many, 2 at least.
            generator: one ``torch.Generator``.

        Raises:
            ValueError: values outside their limits, or a generator without edits.
        """
        self.check_edits("pictures between two captions")
        check_number(num_images, 2)
        if isinstance(generator, list):
            raise ValueError("pictures between two captions have one seed; give one torch.Generator, no list")
        (_,), (seed,) = row_generators(generator, 1)
        ends = [self.read_prompt(text, options.get("as_written", False)) for text in (prompt, other)]
        shares = torch.linspace(0, 1, num_images)
        first, second = (self.encode_prompts([text] * num_images) for text in ends)
        condition = CaptionBlend(first.ids, first.mask, first.null_ids, second.ids, second.mask, shares)
        generators = [torch.Generator().manual_seed(seed) for _ in range(num_images)]
        output = self.draw(condition, [f"{prompt} to {other}"] * num_images, generator=generators, **options)
        output.settings = {**output.settings, "edit": "interpolation", "from": ends[0], "to": ends[1]}
        output.rows = [{"share": round(float(share), 4)} for share in shares]
        return output

    def guidance_grid(self: TextToImagePipeline, prompt: str, *, guidance_scales: Sequence[float],
                      seeds: Sequence[int], **options: Any) -> tuple[Image.Image, list[ImageOutput]]:
        """One prompt with several strengths of guidance (lines) and seeds (columns).

        Returns:
            A sheet with labels, and the pictures of each line.

        Raises:
            ValueError: values outside their limits.
        """
        check_number(len(guidance_scales) * len(seeds), 1)
        lines = []
        for scale in guidance_scales:
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            lines.append(self([prompt] * len(seeds), generator=generators, guidance_scale=scale, **options))
        rows = [(f"guidance {scale:g}", line.images) for scale, line in zip(guidance_scales, lines)]
        return labelled_sheet(rows, label_width=120, heads=[f"seed {seed}" for seed in seeds]), lines

    def _edit(self: TextToImagePipeline, prompt: str | None, count: int, edit: Edit,
              options: dict[str, Any]) -> ImageOutput:
        check_number(count, 1)
        return self.edited(None if prompt is None else [prompt] * count, edit, count, **options)

    def edited(self: TextToImagePipeline, prompts: list[str] | None, edit: Edit, count: int,
               **options: Any) -> ImageOutput:
        """What :meth:`variations` and :meth:`inpaint` do, with a prompt for each row, and maybe a picture.

        Args:
            prompts: of each row; None: nothing is said, and guidance has nothing to strengthen.
            edit: of all rows.
            count: of rows.

        Raises:
            ValueError: values outside their limits, or a generator without edits.
        """
        facts: dict[str, Any] = {"edit": "variation", "strength": edit.strength} if edit.mask is None else {
            "edit": "inpainting", "rounds": edit.rounds}
        self.check_edits(facts["edit"])
        texts = prompts
        if prompts is None:
            condition, options = self.nothing_said(count), {**options, "guidance_scale": 1.0}
        else:
            texts = [self.read_prompt(prompt, options.get("as_written", False)) for prompt in prompts]
            condition = self.encode_prompts(texts)
        output = self.draw(condition, prompts or [""] * count, edit=edit, **options)
        output.settings = {**output.settings, **facts}
        if prompts is not None and texts != prompts:
            output.rows = [{"caption": text} for text in texts]
        return output

    def nothing_said(self: TextToImagePipeline, count: int) -> CaptionIds:
        """The empty caption, ``count`` times."""
        empty = self.encode_prompts(["a"])
        mask = torch.zeros(count, len(empty.null_ids), dtype=torch.bool)
        mask[:, 0] = True
        return CaptionIds(empty.null_ids.repeat(count, 1), mask, empty.null_ids)

    def check_edits(self: TextToImagePipeline, what: str) -> None:
        """Refuse what the generator cannot do.

        Raises:
            ValueError: it has no ``edits``.
        """
        if not self.token_generator.edits:
            raise ValueError(f"{what}: {type(self.token_generator).__name__} makes pictures from captions only; take a "
                             "FlowARGenerator, such as that of photophone/tiny-image")


def led_away(condition: CaptionIds, away: CaptionIds) -> CaptionIds:
    """A condition whose guidance leads away from the one caption of another."""
    return type(condition)(**{**condition.__dict__, "null_ids": away.ids[0], "null_mask": away.mask[0]})
