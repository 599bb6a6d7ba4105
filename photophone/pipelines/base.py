"""What all pipelines share: loading by name, naming of saved components, seeds."""

from __future__ import annotations

import importlib
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

import photophone
from photophone.core.config import Config, in_short
from photophone.core.files import saving_into
from photophone.core.hub import snapshot
from photophone.core.limits import MAX_VOCABULARY_BYTES
from photophone.core.model import Model
from photophone.core.noise import draw_seed
from photophone.core.weight_files import read_json_object, safetensors_header
from photophone.loading.entry import ModelEntry
from photophone.loading.registry import REGISTRY, builtin_folder

GeneratorInput = torch.Generator | list[torch.Generator] | None
StepCallback = Callable[["Pipeline", int, int, dict], Any]

SAVED_FILES = ["model_index.json", "revision.txt", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model"]
"""Of a pipeline on the hub."""


class Pipeline:
    """Components that work together, saved as a folder each beside ``model_index.json``.

    The contract is that of diffusers' ``DiffusionPipeline``, with the same files, without importing diffusers: that and
    its pipelines take twice as long as importing torch. Our own components are saved under the library name
    ``photophone``, so that moving a module breaks no saved pipeline.
    """

    config_name = "model_index.json"
    _optional_components: ClassVar[list[str]] = []
    _interrupt = False

    def __init__(self) -> None:
        self._names: list[str] = []
        self._settings: dict[str, Any] = {}
        self._bar_options: dict[str, Any] = {"disable": None}

    def register_modules(self, **components: Any) -> None:
        """Hold components under their names; None for optional ones that are left out."""
        for name, component in components.items():
            if name not in self._names:
                self._names.append(name)
            setattr(self, name, component)

    def register_to_config(self, **values: Any) -> None:
        """Replace or add values of the config."""
        self._settings |= values

    @property
    def components(self) -> dict[str, Any]:
        """The components by their names."""
        return {name: getattr(self, name) for name in self._names}

    @property
    def config(self) -> Config:
        """What ``model_index.json`` says: library and class of each component, and further settings."""
        return Config({"_class_name": type(self).__name__, **self._settings,
                       **{name: library_and_class(component) for name, component in self.components.items()}})

    @property
    def device(self) -> torch.device:
        """Of the first component with weights."""
        return next((module.device for module in self._modules_in()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of the first component with weights."""
        return next((module.dtype for module in self._modules_in()), torch.float32)

    def to(self, *arguments: Any, **options: Any) -> Self:
        """Move all components to a device or dtype, as ``torch.nn.Module.to``."""
        for module in self._modules_in():
            module.to(*arguments, **options)
        return self

    def _modules_in(self) -> list[torch.nn.Module]:
        return [component for component in self.components.values() if isinstance(component, torch.nn.Module)]

    def set_progress_bar_config(self, **options: Any) -> None:
        """Options of tqdm for all progress bars, such as ``disable=True``; by default they show on terminals."""
        self._bar_options = options

    def progress_bar(self, iterable: Iterable | None = None, total: int | None = None) -> Any:
        """A progress bar of tqdm."""
        from tqdm.auto import tqdm

        return tqdm(iterable, total=total, **self._bar_options)

    def save_pretrained(self, save_directory: str | os.PathLike, *, variant: str | None = None,
                        max_shard_size: int | str = "10GB") -> None:
        """Save all components into a folder, readable for all who may read new files.

        Args:
            save_directory: the folder; files in it are replaced.
            variant, max_shard_size: of the models, see :meth:`photophone.core.model.Model.save_pretrained`.

        Raises:
            NoSpace: the disk is full.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        with saving_into(folder):
            for name, component in self.components.items():
                if isinstance(component, torch.nn.Module):
                    component.save_pretrained(folder / name, variant=variant, max_shard_size=max_shard_size)
                elif component is not None:
                    component.save_pretrained(folder / name)
            text = json.dumps(self.config, indent=2, sort_keys=True)
            (folder / self.config_name).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def component_names(cls) -> frozenset[str]:
        """Names of all components: the arguments of the constructor without a plain default."""
        return frozenset(inspect.signature(cls.__init__).parameters) - {"self", "published"}

    @classmethod
    def component_class(cls, name: str, index: dict[str, Any]) -> list[str]:
        """Library and class to load a component by, from those that ``model_index.json`` names."""
        return index[name]

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, *, dtype: torch.dtype | None = None,
                        torch_dtype: torch.dtype | None = None, variant: str | None = None,
                        revision: str | None = None, cache_dir: str | os.PathLike | None = None,
                        token: str | bool | None = None, force_download: bool = False, local_files_only: bool = False,
                        **components: Any) -> Self:
        """Load a built-in (``photophone/...``), a saved folder, or a hub id.

        Args:
            name: built-in name, path or hub id.
            dtype: of floating point weights, by default float32.
            torch_dtype: diffusers' older name of ``dtype``.
            variant: part of the names of the files, such as "fp16".
            revision, cache_dir, token, force_download, local_files_only: of hub downloads.
            **components: take the place of saved ones, by their names.

        Raises:
            ValueError: an unknown built-in, or missing, damaged or foreign files.
        """
        foreign = sorted(set(components) - cls.component_names())
        if foreign:
            raise TypeError(f"from_pretrained takes no {', '.join(foreign)}; components of {cls.__name__}: "
                            f"{', '.join(sorted(cls.component_names()))}")
        builtin = builtin_folder(str(name))
        path = Path(builtin or name)
        if not path.is_dir():
            if builtin is None and str(name).count("/") != 1:
                raise ValueError(f"{name} is neither a folder, nor a built-in such as photophone/tiny-image, "
                                 "nor a hub id of the form owner/name")
            try:
                path = snapshot(str(name), SAVED_FILES, revision=revision, cache_dir=cache_dir, token=token,
                                force_download=force_download, local_files_only=local_files_only)
            except OSError as error:
                raise ValueError(f"{name} cannot be loaded: {error}") from error
        check_saved_pipeline(path, cls.component_names() - set(components), set(cls._optional_components))
        index = read_json_object(path / cls.config_name)
        dtype = dtype or torch_dtype or torch.float32
        saved = [part for part in cls.component_names() - set(components) if (index.get(part) or [None])[0] is not None]
        loaded = {part: load_component(path / part, *cls.component_class(part, index), dtype, variant)
                  for part in saved}
        pipeline = cls(**loaded, **components, **({"published": index["published"]} if "published" in index else {}))
        if builtin is not None:  # tokens that these parts make carry the name, not a path of this machine
            for component in pipeline.components.values():
                if isinstance(component, Model):
                    component.register_to_config(_name_or_path=str(name))
        pipeline._source = {"model": str(name), "revision": revision or pipeline_revision(path)}
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
        self._interrupt = False
        bars: list[Any] = []

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


def library_and_class(component: Any) -> list[str | None]:
    """How ``model_index.json`` names a component."""
    if component is None:
        return [None, None]
    return [type(component).__module__.partition(".")[0], type(component).__name__]


def load_component(folder: Path, library: str, class_name: str, dtype: torch.dtype, variant: str | None) -> Any:
    """A saved component, in eval mode.

    Args:
        folder: of the component.
        library, class_name: as ``model_index.json`` names them; checked by :func:`check_saved_pipeline`.
        dtype: of floating point weights.
        variant: part of the names of the files.

    Raises:
        ValueError: its files are missing or damaged, or the library has no such class of components.
    """
    owner = getattr(importlib.import_module(library), class_name, None)
    if not isinstance(owner, type) or not hasattr(owner, "from_pretrained"):
        raise ValueError(f"{folder.parent}: {library} has no component {class_name!r}")
    try:
        if not issubclass(owner, torch.nn.Module):
            return owner.from_pretrained(folder)
        if library == "photophone":
            return owner.from_pretrained(folder, dtype=dtype, variant=variant)
        return owner.from_pretrained(folder, dtype=dtype, variant=variant, use_safetensors=True).eval()
    except OSError as error:
        raise ValueError(f"{folder} cannot be loaded: {error}") from error
    except (ValueError, TypeError) as error:
        if library == "photophone":
            raise
        raise ValueError(f"{folder} cannot be loaded: {in_short(error)}") from error
    except Exception as error:  # what other libraries stumble over in files that they did not write
        raise ValueError(f"{folder} cannot be loaded: one of its files is damaged or not what its library wrote "
                         f"({type(error).__name__}: {in_short(error)})") from error


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
        weights = (path / name).glob("*.safetensors")
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
