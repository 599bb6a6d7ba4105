"""What pipelines that make images share: their output, options of the sampler, published checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image
from torch import Tensor

from photophone.core.limits import MAX_IMAGES_PER_CALL
from photophone.core.noise import SeededNoise
from photophone.core.pictures import PICTURE_FORMATS, to_pil, write_picture
from photophone.generators.base import Generator
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler
from photophone.loading.chains import check_chain, find_sources, read_config, settings_of
from photophone.loading.registry import find, load_original
from photophone.loading.saved import is_saved_model
from photophone.pipelines.base import GeneratorInput, Pipeline, StepCallback, row_generators
from photophone.pipelines.output import MediaOutput, file_with_facts, unique_names
from photophone.tokenizers.base import ImageTokenizer

if TYPE_CHECKING:
    from photophone.pipelines.picture_edit import Edit

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class ImageOutput(MediaOutput):
    """Images and what is needed to make them again.

    Attributes:
        images: list of PIL images; with output_type "np" float (B, H, W, 3) in [0, 1]; "pt" float (B, 3, H, W) in
            [-1, 1]; "latent" the :class:`photophone.Tokens`.
        prompts: of each image; None where images come from classes.
        seeds: of each image; ``torch.Generator().manual_seed(seed)`` makes it again.
        class_labels: of each image; None where images come from prompts.
        rows: what further is to be said of each image, or None.
        settings: options of the sampler.
        model, revision, weights_licence: of the weights.
    """

    SUFFIXES = tuple(PICTURE_FORMATS)
    NOUN = "images"

    images: Any
    prompts: list[str] | None
    seeds: list[int]
    class_labels: list[int] | None = None
    rows: list[dict[str, Any]] | None = None

    @property
    def conditions(self) -> tuple[str, list]:
        """What the images were made from: "prompt" or "class_label", and the value of each image."""
        return ("prompt", self.prompts) if self.prompts is not None else ("class_label", self.class_labels)

    def names(self) -> list[str]:
        """Prompt or class, and seed."""
        kind, values = self.conditions
        return unique_names([value if kind == "prompt" else f"class {value}" for value in values], self.seeds, "image")

    def facts(self, row: int) -> dict[str, Any]:
        """What the JSON beside a file says of one image."""
        kind, values = self.conditions
        own = self.rows[row] if self.rows else {}
        return {kind: values[row], "seed": self.seeds[row], **own, **self.settings, **self.origin}

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """See :meth:`MediaOutput.save`; only PIL images can be saved."""
        if not (isinstance(self.images, list) and self.images and isinstance(self.images[0], Image.Image)):
            raise ValueError("only images of output_type 'pil' can be saved")
        return super().save(path, overwrite=overwrite)

    def write(self, row: int, file: Path, overwrite: bool) -> None:
        """A picture in the format of its suffix."""
        with file_with_facts(file, self.facts(row), overwrite=overwrite) as partial:
            write_picture(self.images[row], partial, file.suffix)


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
                from the hub id of its entry. ``text_encoder``, ``text_tokenizer`` and ``image_decoder``, where there
                is one: a folder or hub id.

        Raises:
            ValueError: an unknown name, or one for another pipeline; files that the chain does not have, that are
                missing, or that do not fit.
        """
        chain = check_chain(cls.__name__, name, files, cls.OTHERS)
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        sources, commit = find_sources(chain, files, **hub)
        key, tokenizer = chain.tokenizer
        own = sources.pop(key)
        image_tokenizer = load_original(tokenizer, own, **{
            **chain.tokenizer_config, **official_settings(tokenizer, own), **(tokenizer_config or {})})
        source = sources if len(sources) > 1 else next(iter(sources.values()))
        settings = {**official_settings(name, source), **(generator_config or {})}
        components = {"token_generator": load_original(name, source, **settings),
                      "image_tokenizer": image_tokenizer}
        others = {other: files.get(other) or getattr(chain, other) for other in cls.OTHERS}
        components |= cls.load_other_parts(others, {**hub, "revision": None})  # that of the image model, not of these
        return cls(**components, published={"model": name, "revision": commit})

    OTHERS: ClassVar[tuple[str, ...]] = ()
    """Names of further parts, which other libraries load: attributes of the chain, and names of what users give."""

    @classmethod
    def load_other_parts(cls, sources: dict[str, Any], hub: dict[str, Any]) -> dict[str, Any]:
        """The components of OTHERS; none for classes.

        Args:
            sources: folder or hub id of each, or None.
            hub: options of hub downloads.
        """
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
        settings = {**self.token_generator.sampler_settings, **self.published_sampler, **chosen}
        return family.Sampler.from_settings(settings, family.__name__)

    def sample(self, condition: Condition, *, generator: GeneratorInput, output_type: str,
               callback: StepCallback | None, sampler: Sampler, prompts: list[str] | None = None,
               class_labels: list[int] | None = None, edit: Edit | None = None,
               finish: Callable[[Tensor], Tensor] | None = None) -> ImageOutput:
        """Tokens of a condition, and their images.

        Args:
            condition: what the generator reads.
            sampler: of :meth:`sampler`.
            prompts, class_labels: of each row, for the output; one of them.
            edit: of a picture that is given; None: new ones are made.
            finish: what becomes of the images (B, 3, H, W), such as a transparent ground.
        """
        generators, seeds = row_generators(generator, len(condition))
        model = self.token_generator
        model.connect(self.image_tokenizer)
        noise = SeededNoise(generators, model.device)
        with self.watch(callback) as on_step:
            if edit is None:
                tokens = model.generate(condition, noise=noise, sampler=sampler, callback=on_step)
            else:
                tokens = edit.tokens(model, self.image_tokenizer, condition, noise, sampler, on_step)
        images: Any = tokens
        if output_type != "latent":
            read = condition.read_by(self.image_tokenizer.decode_options)  # such as a caption's states
            images = self.image_tokenizer.decode(tokens, **read)
            images = images if edit is None else edit.put_back(images)
            images = convert_images(images if finish is None else finish(images), output_type)
        return ImageOutput(images, prompts, seeds, settings=sampler.settings(), **self.source,
                           weights_licence=self.weights_licence, class_labels=class_labels)


def official_settings(name: str, source: Any) -> dict[str, Any]:
    """Settings of a model in the official ``config.json`` beside its local file, for families that read one.

    Raises:
        ValueError: see :func:`photophone.loading.chains.settings_of`.
    """
    if not hasattr(find(name).load_class(), "convert_config") or not isinstance(source, str | Path):
        return {}
    path = Path(source)
    if is_saved_model(path):  # ours, which is no official one
        return {}
    return settings_of(name, read_config(path if path.is_dir() else path.parent))


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
    """Images (B, 3 or 4, H, W) in [-1, 1] to PIL images or arrays, see :class:`ImageOutput`."""
    if output_type == "pt":
        return images
    if output_type == "np":
        return ((images.float() + 1) / 2).permute(0, 2, 3, 1).cpu().numpy()
    return to_pil(images)
