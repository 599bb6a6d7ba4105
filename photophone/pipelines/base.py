"""What all pipelines share: loading by name, naming of saved components, seeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging

import photophone
from photophone.core.config import in_short
from photophone.core.files import saving_into
from photophone.core.limits import MAX_VOCABULARY_BYTES
from photophone.core.model import Model
from photophone.core.noise import draw_seed
from photophone.core.weight_files import read_json_object, safetensors_header
from photophone.loading.entry import ModelEntry
from photophone.loading.registry import REGISTRY, builtin_folder

GeneratorInput = torch.Generator | list[torch.Generator] | None
StepCallback = Callable[["Pipeline", int, int, dict], Any]


class Pipeline(DiffusionPipeline):
    """A :class:`diffusers.DiffusionPipeline` whose own components are saved under the library name ``photophone``.

    diffusers would store each component's module path, so that moving a file would break saved pipelines.
    """

    def register_modules(self, **components: Any) -> None:
        """As in diffusers, with ``photophone`` as the library of our own classes."""
        super().register_modules(**components)
        for name, component in components.items():
            self._name_library(name, component)

    def save_pretrained(self, save_directory: str | os.PathLike, *arguments: Any, **options: Any) -> None:
        """Save all components into a folder, readable for all who may read new files; see diffusers for options.

        Raises:
            NoSpace: the disk is full.
        """
        with saving_into(save_directory):
            super().save_pretrained(save_directory, *arguments, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(getattr(self, "config", {}).get(name), tuple | list):
            self._name_library(name, value)

    def _name_library(self, name: str, component: Any) -> None:
        if type(component).__module__.startswith("photophone."):
            self.register_to_config(**{name: ("photophone", type(component).__name__)})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **options: Any) -> Pipeline:
        """Load a built-in (``photophone/...``), a saved folder, or a hub id.

        Args:
            name: built-in name, path or hub id.
            options: as in diffusers, with ``dtype`` float32 by default.

        Raises:
            ValueError: an unknown built-in, or missing, damaged or foreign files.
        """
        folder = builtin_folder(str(name))
        path = Path(folder or name)
        if path.is_dir():
            check_saved_pipeline(path, set(cls._get_signature_keys(cls)[0]) - set(options),
                                 set(cls._optional_components))
        elif folder is None and str(name).count("/") != 1:
            raise ValueError(f"{name} is neither a folder, nor a built-in such as photophone/tiny-image, "
                             "nor a hub id of the form owner/name")
        if "torch_dtype" not in options:  # diffusers' older name of the same option
            options.setdefault("dtype", torch.float32)
        try:
            with quiet_loading(path.is_dir()):
                pipeline = super().from_pretrained(str(path if path.is_dir() else name), **options)
        except OSError as error:
            raise ValueError(f"{name} cannot be loaded: {error}") from error
        except ValueError:
            raise
        except Exception as error:  # what other libraries stumble over in files that they did not write
            raise ValueError(f"{name} cannot be loaded: one of its files is damaged or not what its library wrote "
                             f"({type(error).__name__}: {in_short(error)})") from error
        if folder is not None:  # tokens that these parts make carry the name, not a path of this machine
            for component in pipeline.components.values():
                if isinstance(component, Model):
                    component.register_to_config(_name_or_path=str(name))
        pipeline._source = {"model": str(name), "revision": options.get("revision") or pipeline_revision(path)}
        return pipeline

    @property
    def source(self) -> dict[str, str | None]:
        """Where the weights came from: ``model`` and ``revision``; None for a pipeline built by hand.

        A pipeline of published weights keeps their name when it is saved.
        """
        return self.config.get("published") or getattr(self, "_source", {"model": None, "revision": None})

    @property
    def entry(self) -> ModelEntry | None:
        """The registry's entry of the weights, or None."""
        return REGISTRY.get(self.source["model"] or "")

    @property
    def published_sampler(self) -> dict[str, Any]:
        """Published settings of the sampler for these weights; none for a pipeline built by hand."""
        return self.entry.published_sampler if self.entry else {}

    @property
    def weights_licence(self) -> str | None:
        """Licences of all published weights in this pipeline, or None."""
        if self.entry is None:
            return None
        if self.entry.chain is None:
            return self.entry.weights_licence
        licences = {name: REGISTRY[name].weights_licence for name in self.entry.chain.files.values()}
        if len(set(licences.values())) == 1:
            return next(iter(licences.values()))
        return "; ".join(f"{name}: {licence}" for name, licence in licences.items())

    @contextmanager
    def watch(self, callback: StepCallback | None) -> Iterator[Callable[[int, int], bool]]:
        """A callback for generators, which moves the progress bar, calls the user's and stops when that asks to.

        The bar shows on terminals; ``set_progress_bar_config(disable=...)`` decides otherwise.

        Args:
            callback: ``callback(pipeline, step, total, {})`` after each step; it stops by ``pipeline._interrupt``.
        """
        self._interrupt, bars = False, []
        if not hasattr(self, "_progress_bar_config"):
            self.set_progress_bar_config(disable=None)

        def on_step(step: int, total: int) -> bool:
            if not bars:
                bars.append(self.progress_bar(total=total))
            bars[0].update(step - bars[0].n)
            if callback is not None:
                callback(self, step, total, {})
            return self._interrupt

        try:
            yield on_step
        finally:
            for bar in bars:
                bar.close()


@contextmanager
def quiet_loading(quiet: bool) -> Iterator[None]:
    """No progress bar while local files load: it would flash by."""
    shown = logging.is_progress_bar_enabled()
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def check_saved_pipeline(path: Path, components: set[str], optional: set[str] = frozenset()) -> None:
    """Refuse a folder whose index or weights cannot be read, before any of it is loaded.

    Args:
        path: the folder.
        components: names that the index must hold, and the only ones that it may hold.
        optional: those of them that may be missing or empty.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    try:
        index = read_json_object(path / "model_index.json")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a saved pipeline: model_index.json cannot be read ({error})") from error
    named = {name for name, value in index.items() if not name.startswith("_") and isinstance(value, list)
             and not (name in optional and value == [None, None])}
    if not components - optional <= named <= components:
        raise ValueError(f"{path}: model_index.json names the components {sorted(named)}, not {sorted(components)}")
    published = index.get("published") or {}
    if not isinstance(published, dict) or not all(isinstance(value, str | None) for value in published.values()) or (
            published and not published.get("model")):
        raise ValueError(f"{path}: 'published' in model_index.json must be null, or hold the texts 'model' and "
                         f"'revision', got {str(published)[:60]}")
    for name in sorted(named):
        if len(index[name]) != 2 or not all(isinstance(part, str) for part in index[name]):
            raise ValueError(f"{path}: component {name} is not given as [library, class] but as {index[name]}")
        library, class_name = index[name]
        if library not in ("photophone", "transformers", "diffusers"):
            raise ValueError(f"{path}: component {name} names the library {library!r}; only photophone, diffusers "
                             "and transformers are loaded")
        if library == "photophone" and class_name not in photophone.__all__:
            raise ValueError(f"{path}: component {name} names the class {class_name!r}, which photophone does not have")
        if not (path / name).is_dir():
            raise ValueError(f"{path}: the folder of component {name} is missing")
        weights = list((path / name).glob("*.safetensors"))
        if not weights and library == "photophone":
            raise ValueError(f"{path / name} holds no .safetensors weights")
        for file in weights:
            safetensors_header(file)
        for file in (path / name).glob("*.json"):
            read_json_object(file, MAX_VOCABULARY_BYTES)


def pipeline_revision(path: Path) -> str | None:
    """The revision that a saved pipeline's model card states in ``revision.txt``, or None."""
    file = path / "revision.txt"
    return file.read_text(encoding="utf-8", errors="replace").strip()[:100] if file.is_file() else None


def row_generators(generator: GeneratorInput, rows: int) -> tuple[list[torch.Generator], list[int]]:
    """One CPU generator for each sample, and the seeds that repeat them.

    A list gives each row its own; a fresh generator in it (nothing drawn yet) is used as it is, so that
    ``torch.Generator().manual_seed(s)`` means the same sample alone and in any batch. One generator for one row is the
    same. One generator for several rows, or one that was used before, draws a seed for each row. None draws seeds from
    the operating system.

    Raises:
        ValueError: a list whose length is not ``rows``, or a generator that is not on the CPU.
    """
    given = generator if isinstance(generator, list) else [generator]
    for source in given:
        if not isinstance(source, torch.Generator | None):
            raise ValueError(f"generator must be a torch.Generator or a list of them, got {type(source).__name__}")
    if isinstance(generator, list):
        if len(generator) != rows:
            raise ValueError(f"{len(generator)} generators for {rows} samples; give one, or one for each sample")
        if len({id(source) for source in generator}) < rows:
            raise ValueError("the list holds one generator twice; give each sample its own")
        sources = generator
    else:
        sources = [generator or torch.Generator().manual_seed(_system_seed())] * rows
    generators, seeds = [], []
    for source in sources:
        if source.device.type != "cpu":
            raise ValueError(f"generator on {source.device}; use a CPU generator: torch.Generator().manual_seed(seed)")
        seed = source.initial_seed()
        own = torch.Generator().manual_seed(seed)
        if torch.equal(own.get_state(), source.get_state()) and (rows == 1 or isinstance(generator, list)):
            generators.append(source)
        else:
            seed = draw_seed(source)
            generators.append(own.manual_seed(seed))
        seeds.append(seed)
    return generators, seeds


def _system_seed() -> int:
    return int.from_bytes(os.urandom(6), "big")
