"""The tab that edits: variations of an uploaded picture, a part of it drawn anew, pictures between two prompts, a sheet
of guidance and seeds, one picture for each line of text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gradio as gr
import torch
from PIL import Image

from photophone.core.limits import DEMO_GUIDANCE_SCALE, DEMO_IMAGES, MAX_PROMPT_CHARACTERS
from photophone.core.pictures import grid
from photophone.demo.events import connect, example_button, wait
from photophone.demo.image_tab import EXAMPLES
from photophone.demo.jobs import Emit, on_step
from photophone.demo.models import licence_line
from photophone.demo.parts import Demo, buttons, choose_seed, facts_line, for_visitors, record, seed_row, whole
from photophone.demo.parts import number as in_range
from photophone.demo.uploads import decode_upload, take_bytes
from photophone.pipelines.text_to_image import TextToImagePipeline, check_prompt

VARIATIONS, REGION, BETWEEN, SHEET, LINES = ("Variations", "Draw a part anew", "Between two prompts",
                                             "Guidance and seeds", "A picture for each line")
MODES = [VARIATIONS, REGION, BETWEEN, SHEET, LINES]
SCALES = (1.0, 3.0, 6.0)
"""Guidance of the lines of a sheet."""
SHEET_SEEDS = 4
Job = Callable[[TextToImagePipeline, int, dict[str, Any]], list[Image.Image]]


class EditParts(NamedTuple):
    """The components of the tab, from what goes in to what comes out."""

    mode: gr.Radio
    picture: gr.Image
    prompt: gr.Textbox
    other: gr.Textbox
    strength: gr.Slider
    left: gr.Slider
    top: gr.Slider
    width: gr.Slider
    height: gr.Slider
    number: gr.Slider
    guidance: gr.Slider
    seed: gr.Number
    random: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    gallery: gr.Gallery
    facts: gr.HTML
    made: gr.JSON


def build_edit_tab(demo: Demo) -> dict[str, gr.components.Component]:
    """Add the tab's components and events; returns what the history takes: ``record`` and ``run``."""
    pipeline = demo.shelf.pipeline(TextToImagePipeline, demo.choice.image)
    parts = lay_out(demo, pipeline)
    inputs = list(parts[:13])
    run = connect(demo, parts.start, parts.stop, editor(demo, pipeline), inputs,
                  [parts.gallery, parts.facts, parts.seed, parts.made], name="edit", kind="image", shown=parts.gallery,
                  facts=parts.facts)
    return {"record": parts.made, "run": run}


def lay_out(demo: Demo, pipeline: TextToImagePipeline) -> EditParts:
    """The components, on the page."""
    size = pipeline.image_tokenizer.image_size
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            mode = gr.Radio(MODES, value=VARIATIONS, label="What to do", elem_id="edit-mode")
            picture = gr.Image(label="Picture, for variations and parts", type="filepath",
                               sources=["upload", "clipboard"], height=200, elem_id="edit-input")
            take_bytes(picture)
            example_button(demo, picture, demo.choice.image, "image", lambda: pipeline(
                EXAMPLES[0], generator=torch.Generator().manual_seed(7)).images[0], "edit-example")
            prompt = gr.Textbox(EXAMPLES[0], label="Prompt", lines=2, max_length=DEMO_IMAGES * MAX_PROMPT_CHARACTERS,
                                elem_id="edit-prompt")
            other = gr.Textbox("birthday cake, 3d emoji", label="Second prompt", max_length=MAX_PROMPT_CHARACTERS)
            seed, random = seed_row()
            start, stop = buttons("Make images", "edit")
            with gr.Accordion("Settings", open=False):
                number = gr.Slider(1, DEMO_IMAGES, 6, step=1, label="Images")
                strength = gr.Slider(0.05, 1, 0.6, step=0.05, label="Strength of variations")
                guidance = gr.Slider(0, DEMO_GUIDANCE_SCALE, 3.0, step=0.1, label="Guidance")
                box = [gr.Slider(0, size - 1, value, step=1, label=f"{name} of the part")
                       for name, value in (("Left", size // 2), ("Top", 0))]
                box += [gr.Slider(1, size, value, step=1, label=f"{name} of the part")
                        for name, value in (("Width", size // 2), ("Height", size))]
        with gr.Column(scale=3, min_width=300):
            gallery = gr.Gallery(label="Images", columns=2, object_fit="contain", format="png", elem_id="edit-gallery",
                                 interactive=False, buttons=["download", "fullscreen"])
            facts = gr.HTML(elem_id="edit-facts")
            gr.HTML(licence_line(pipeline))
    made = gr.JSON(visible=False)
    return EditParts(mode, picture, prompt, other, strength, *box, number, guidance, seed, random, start, stop, gallery,
                     facts, made)


def editor(demo: Demo, pipeline: TextToImagePipeline) -> Callable[..., Iterator[Any]]:
    """What the start button does."""
    @for_visitors
    def make(mode: Any, upload: Any, prompt: Any, other: Any, strength: Any, left: Any, top: Any, width: Any,
             height: Any, number: Any, guidance: Any, seed: Any, random: Any,
             progress=gr.Progress()) -> Iterator[Any]:  # noqa: B008 (gradio finds it by its default)
        job = read_job(pipeline, mode, upload, prompt, other, strength, (left, top, width, height),
                       whole(number, "images", 1, DEMO_IMAGES))
        options = {} if mode == SHEET else {"guidance_scale": in_range(guidance, "guidance", 0, DEMO_GUIDANCE_SCALE)}
        first = choose_seed(seed, random, DEMO_IMAGES)

        def work(emit: Emit) -> tuple:
            began = time.perf_counter()
            images = job(pipeline, first, {**options, "callback_on_step_end": on_step(emit)})
            return images, time.perf_counter() - began

        images, seconds = yield from wait(demo.shelf.worker(demo.choice.image).run(work), progress, "making tokens")
        made = f"{len(images)} image{'s' * (len(images) > 1)} in {seconds:.1f} s"
        line = facts_line(made, str(mode), f"seed {first}")
        shown = grid(images, min(len(images), 4))
        yield images, line, first, record("edit", prompt, first, shown, mode=mode, **options)

    return make


def read_job(pipeline: TextToImagePipeline, mode: Any, upload: Any, prompt: Any, other: Any, strength: Any,
             box: tuple[Any, ...], number: int) -> Job:
    """What a visitor asked for, as a function of pipeline, first seed and options.

    Raises:
        ValueError: values outside their limits, an unknown mode, or no picture where one is needed.
    """
    if mode not in MODES:
        raise ValueError("choose one of the listed edits")
    if mode == LINES:
        return lines_job(prompt)
    check_prompt(prompt)
    if mode == BETWEEN:
        check_prompt(other)
        return lambda pipeline, seed, options: pipeline.interpolate(
            prompt, other, num_images=max(2, number), generator=one_of(seed), **options).images
    if mode == SHEET:
        return lambda pipeline, seed, options: [pipeline.guidance_grid(
            prompt, guidance_scales=SCALES, seeds=range(seed, seed + SHEET_SEEDS), **options)[0]]
    size = pipeline.image_tokenizer.image_size
    picture = Image.fromarray(decode_upload(upload, "image", size)[0])
    if mode == REGION:
        region = tuple(whole(side, "a side of the part", 0, size) for side in box)
        return lambda pipeline, seed, options: pipeline.inpaint(
            picture, region, prompt, num_images=number, generator=some_of(seed, number), **options).images
    amount = in_range(strength, "strength", 0.05, 1)
    return lambda pipeline, seed, options: pipeline.variations(
        picture, prompt, strength=amount, num_images=number, generator=some_of(seed, number), **options).images


def lines_job(text: Any) -> Job:
    """A picture for each line of a text.

    Raises:
        ValueError: no lines, more than ``DEMO_IMAGES``, or one that is no prompt.
    """
    prompts = [line.strip() for line in text.splitlines() if line.strip()] if isinstance(text, str) else []
    if not 1 <= len(prompts) <= DEMO_IMAGES:
        raise ValueError(f"write 1 to {DEMO_IMAGES} prompts, each on a line; there are {len(prompts)}")
    for prompt in prompts:
        check_prompt(prompt)
    return lambda pipeline, seed, options: pipeline(prompts, generator=some_of(seed, len(prompts)), **options).images


def one_of(seed: int) -> torch.Generator:
    """A generator with a seed."""
    return torch.Generator().manual_seed(seed)


def some_of(seed: int, count: int) -> list[torch.Generator]:
    """Generators with a seed and those that follow it."""
    return [one_of(seed + index) for index in range(count)]
