"""What pipelines that make images share: their output, options of the sampler, published checkpoints."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Self

from PIL import Image
from torch import Tensor

from photophone.core.files import atomic_write
from photophone.core.limits import MAX_IMAGES_PER_CALL
from photophone.core.noise import SeededNoise
from photophone.core.pictures import to_pil
from photophone.generators.base import Generator
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler
from photophone.loading.chains import check_chain, find_sources
from photophone.loading.registry import load_original
from photophone.pipelines.base import GeneratorInput, Pipeline, StepCallback, row_generators
from photophone.tokenizers.base import ImageTokenizer

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class ImageOutput:
    """Images and what is needed to make them again.

    Attributes:
        images: list of PIL images; with output_type "np" float (B, H, W, 3) in [0, 1]; "pt" float (B, 3, H, W) in
            [-1, 1]; "latent" the :class:`photophone.Tokens`.
        prompts: of each image; None where images come from classes.
        seeds: of each image; ``torch.Generator().manual_seed(seed)`` makes it again.
        settings: options of the sampler.
        model, revision, weights_licence: of the weights.
        class_labels: of each image; None where images come from prompts.
    """

    images: Any
    prompts: list[str] | None
    seeds: list[int]
    settings: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    revision: str | None = None
    weights_licence: str | None = None
    class_labels: list[int] | None = None

    @property
    def conditions(self) -> tuple[str, list]:
        """What the images were made from: "prompt" or "class_label", and the value of each image."""
        return ("prompt", self.prompts) if self.prompts is not None else ("class_label", self.class_labels)

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
        path, (kind, values) = Path(path), self.conditions
        if path.suffix.lower() == ".png":
            if len(self.images) != 1:
                raise ValueError(f"{len(self.images)} images do not fit one file {path}; give a folder")
            files = [path]
        else:
            files = [path / f"{name}.png" for name in unique_names(
                [value if kind == "prompt" else f"class {value}" for value in values], self.seeds)]
        for file, image, value, seed in zip(files, self.images, values, self.seeds):
            facts = {kind: value, "seed": seed, **self.settings, "model": self.model, "revision": self.revision,
                     "weights_licence": self.weights_licence}
            with atomic_write(file) as png, atomic_write(file.with_suffix(".json")) as beside:
                image.save(png, format="PNG")
                beside.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
        return files


class ImagePipeline(Pipeline):
    """A condition, a generator of image tokens, an image tokenizer.

    A subclass registers the components, ``token_generator`` and ``image_tokenizer`` among them, turns what users give
    into a condition and calls :meth:`sample`.
    """

    token_generator: Generator
    image_tokenizer: ImageTokenizer

    @classmethod
    def from_original(cls, name: str, *, revision: str | None = None, cache_dir: str | Path | None = None,
                      local_files_only: bool = False, generator_config: dict[str, Any] | None = None,
                      tokenizer_config: dict[str, Any] | None = None, **files: Any) -> Self:
        """A published generator with its tokenizer, from official checkpoints, with its published sampler.

        Args:
            name: of the generator in the registry; ``photophone models NAME`` shows its ``chain``.
            revision, cache_dir, local_files_only: of hub downloads.
            generator_config, tokenizer_config: replace settings of the registry's entries.
            **files: checkpoints by the names that the chain gives them, such as ``mar="mar_base.pth"``: a file, a
                folder (also of ``photophone convert``), a hub id, or what a file holds. One that is not given comes
                from the hub id of its entry. ``text_encoder``, where there is one: a folder or hub id.

        Raises:
            ValueError: an unknown name, or one for another pipeline; files that the chain does not have, that are
                missing, or that do not fit.
        """
        chain = check_chain(cls.__name__, name, files, ("text_encoder",) if cls.reads_captions else ())
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        sources, commit = find_sources(chain, files, **hub)
        key, tokenizer = chain.tokenizer
        image_tokenizer = load_original(tokenizer, sources.pop(key),
                                        **{**chain.tokenizer_config, **(tokenizer_config or {})})
        source = sources if len(sources) > 1 else next(iter(sources.values()))
        components = {"token_generator": load_original(name, source, **(generator_config or {})),
                      "image_tokenizer": image_tokenizer}
        components |= cls.load_text_parts(files.get("text_encoder") or chain.text_encoder, hub)
        return cls(**components, published={"model": name, "revision": commit})

    reads_captions = False

    @classmethod
    def load_text_parts(cls, source: str | None, hub: dict[str, Any]) -> dict[str, Any]:
        """The components that read captions; none for classes."""
        return {}

    def sampler(self, given: dict[str, Any] | None = None) -> Sampler:
        """The generator's sampler with what users gave; else published settings, else the generator's defaults.

        Args:
            given: options by name; None means the default.

        Raises:
            ValueError: an option that the generator does not have, or outside its limits.
        """
        family = type(self.token_generator)
        chosen = {name: value for name, value in (given or {}).items() if value is not None}
        return family.Sampler.from_settings({**self.published_sampler, **chosen}, family.__name__)

    def sample(self, condition: Condition, *, generator: GeneratorInput, output_type: str,
               callback: StepCallback | None, sampler: Sampler, prompts: list[str] | None = None,
               class_labels: list[int] | None = None) -> ImageOutput:
        """Tokens of a condition, and their images.

        Args:
            condition: what the generator reads.
            sampler: of :meth:`sampler`.
            prompts, class_labels: of each row, for the output; one of them.
        """
        generators, seeds = row_generators(generator, len(condition))
        model = self.token_generator
        model.connect(self.image_tokenizer)
        with self.watch(callback) as on_step:
            tokens = model.generate(condition, noise=SeededNoise(generators, model.device), sampler=sampler,
                                    callback=on_step)
        images: Any = tokens
        if output_type != "latent":
            images = convert_images(self.image_tokenizer.decode(tokens), output_type)
        return ImageOutput(images, prompts, seeds, sampler.settings(), **self.source,
                           weights_licence=self.weights_licence, class_labels=class_labels)


def check_request(kind: str, given: int, each: Any, output_type: str) -> None:
    """Refuse too many images, or none, and unknown outputs.

    Args:
        kind: "prompts" or "classes".
        given: so many of them.
        each: images for each.
    """
    whole = isinstance(each, Integral) and not isinstance(each, bool) and each >= 1
    if not whole or not 1 <= given * each <= MAX_IMAGES_PER_CALL:
        raise ValueError(f"{given} {kind} x {each} images asked for; one call makes 1 to {MAX_IMAGES_PER_CALL} images")
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {OUTPUT_TYPES}, got {output_type!r}")


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
