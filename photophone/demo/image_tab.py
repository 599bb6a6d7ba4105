"""The tab that makes images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gradio as gr
import torch

from photophone.core.limits import DEMO_GUIDANCE_SCALE, DEMO_IMAGE_STEPS, DEMO_IMAGES, MAX_PROMPT_CHARACTERS
from photophone.core.pictures import grid
from photophone.demo.events import connect, wait
from photophone.demo.jobs import Emit, on_step
from photophone.demo.models import licence_line
from photophone.demo.parts import Demo, buttons, choose_seed, facts_line, for_visitors, record, seed_row, whole
from photophone.demo.parts import number as in_range
from photophone.pipelines.text_to_image import TextToImagePipeline, check_prompt

EXAMPLES = ["a red apple, 3d emoji", "smiling cat face, noto emoji", "blue rocket, silhouette icon",
            "green dragon, monster, pixel art", "birthday cake, flat emoji"]


class ImageParts(NamedTuple):
    """The components of the tab, from what goes in to what comes out."""

    prompt: gr.Textbox
    number: gr.Slider
    seed: gr.Number
    random: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    steps: gr.Slider
    guidance: gr.Slider
    temperature: gr.Slider
    negative: gr.Textbox
    transparent: gr.Checkbox
    size: gr.Radio
    gallery: gr.Gallery
    facts: gr.HTML
    made: gr.JSON


def build_image_tab(demo: Demo) -> dict[str, gr.components.Component]:
    """Add the tab's components and events.

    Returns:
        The components that the history fills: ``text``, ``seed``, ``random``; and ``record``.
    """
    pipeline = demo.shelf.pipeline(TextToImagePipeline, demo.choice.image)
    parts = lay_out(pipeline)
    run = connect(demo, parts.start, parts.stop, maker(demo, pipeline),
                  [parts.prompt, parts.number, parts.seed, parts.random, parts.steps, parts.guidance,
                   parts.temperature, parts.negative, parts.transparent, parts.size],
                  [parts.gallery, parts.facts, parts.seed, parts.made], name="image",
                  kind="image", shown=parts.gallery, facts=parts.facts)
    return {"text": parts.prompt, "seed": parts.seed, "random": parts.random, "record": parts.made, "run": run}


def lay_out(pipeline: TextToImagePipeline) -> ImageParts:
    """The components, on the page."""
    defaults = pipeline.sampler().settings()
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            prompt = gr.Textbox(EXAMPLES[0], label="Prompt", lines=2, max_length=MAX_PROMPT_CHARACTERS,
                                placeholder="what the picture shows, and in which style", elem_id="image-prompt")
            number = gr.Slider(1, DEMO_IMAGES, 4, step=1, label="Images")
            seed, random = seed_row()
            start, stop = buttons("Make images", "image")
            gr.Examples([[text] for text in EXAMPLES], [prompt], label="Examples")
            with gr.Accordion("Settings", open=False):
                steps = gr.Slider(1, DEMO_IMAGE_STEPS, defaults.get("num_inference_steps", 20), step=1, label="Steps")
                guidance = gr.Slider(0, DEMO_GUIDANCE_SCALE, defaults.get("guidance_scale", 3.0), step=0.1,
                                     label="Guidance")
                temperature = gr.Slider(0, 2, defaults.get("temperature", 1.0), step=0.05, label="Temperature")
                negative = gr.Textbox("", label="Not to be shown", max_length=MAX_PROMPT_CHARACTERS,
                                      visible=pipeline.token_generator.edits, elem_id="image-negative")
                transparent = gr.Checkbox(False, label="Transparent ground", visible=hasattr(pipeline, "matting"),
                                          elem_id="image-transparent")
                size = gr.Radio(pipeline.sizes, value=pipeline.sizes[0], label="Pixels per side",
                                visible=len(pipeline.sizes) > 1, elem_id="image-size")
        with gr.Column(scale=3, min_width=300):
            gallery = gr.Gallery(label="Images", columns=2, object_fit="contain", format="png",
                                 elem_id="image-gallery", interactive=False, buttons=["download", "fullscreen"])
            facts = gr.HTML(elem_id="image-facts")
            gr.HTML(licence_line(pipeline))
    made = gr.JSON(visible=False)
    return ImageParts(prompt, number, seed, random, start, stop, steps, guidance, temperature, negative,
                      transparent, size, gallery, facts, made)


def maker(demo: Demo, pipeline: TextToImagePipeline) -> Callable[..., Iterator[Any]]:
    """What the start button does: images for visitors."""
    @for_visitors
    def make(prompt: Any, number: Any, seed: Any, random: Any, steps: Any, guidance: Any, temperature: Any,
             negative: Any = "", transparent: Any = False, size: Any = None,
             progress=gr.Progress()) -> Iterator[Any]:  # noqa: B008 (gradio finds it by its default)
        check_prompt(prompt)
        count = whole(number, "images", 1, DEMO_IMAGES)
        first = choose_seed(seed, random, count)
        options = {"num_inference_steps": whole(steps, "steps", 1, DEMO_IMAGE_STEPS),
                   "guidance_scale": in_range(guidance, "guidance", 0, DEMO_GUIDANCE_SCALE),
                   "temperature": in_range(temperature, "temperature", 0, 2)}
        further = {}
        if negative:
            check_prompt(negative)
            further["negative_prompt"] = negative
        if transparent is True:
            further["transparent"] = True
        if size is not None and size != pipeline.sizes[0]:
            further["height"] = further["width"] = pipeline.check_size(size, size)

        def work(emit: Emit) -> tuple:
            began = time.perf_counter()
            generators = [torch.Generator().manual_seed(first + index) for index in range(count)]
            result = pipeline(prompt, num_images_per_prompt=count, generator=generators,
                              callback_on_step_end=on_step(emit), **options, **further)
            return result.images, time.perf_counter() - began

        images, seconds = yield from wait(demo.shelf.worker(demo.choice.image).run(work), progress, "making tokens")
        seeds = f"seed {first}" if count == 1 else f"seeds {first} to {first + count - 1}"
        line = facts_line(f"{count} image{'s' * (count > 1)} in {seconds:.1f} s", seeds,
                          f"{options['num_inference_steps']} steps",
                          f"guidance {options['guidance_scale']:g}", f"temperature {options['temperature']:g}")
        sheet = grid(images, min(count, 4))  # what the history shows
        yield images, line, first, record("image", prompt, first, sheet, images=count, **options, **further)

    return make
