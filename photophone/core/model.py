"""What all models share: checked settings, saving and strict loading."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin

from photophone.core.config import (
    ModelTooLarge,
    build,
    changed,
    check_config,
    checked_init,
    in_short,
    limits_for,
    model_limits,
    shapes,
)
from photophone.core.files import saving_into
from photophone.core.weight_files import dtype_kind, read_json_object, safetensors_header

logger = logging.getLogger(__name__)
KINDS = {"float": "float", "float8": "float8", "int": "int", "bool": "int", "complex": "complex"}
SHOWN = 5
"""Tensors or settings that a message names."""
Header = dict[str, tuple[str, tuple[int, ...]]]


class Model(ModelMixin, ConfigMixin):
    """A :class:`diffusers.ModelMixin` that loads all of its weights or none.

    diffusers warns of missing weights and leaves random ones in their place; here they are an error. Arguments of the
    constructors of all subclasses are checked by :func:`photophone.core.config.check_config`.
    """

    config_name = "config.json"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            cls.__init__ = checked_init(cls.__dict__["__init__"])

    @classmethod
    def config_keys(cls) -> frozenset[str]:
        """Names of the constructor's arguments: the keys of a config of this class."""
        return frozenset(cls._get_init_keys(cls)) - {"self", "kwargs"}

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **options: Any) -> Model:
        """Load a saved folder or a hub id.

        Args:
            name: path or hub id.
            options: as in diffusers; pickled weights are read with ``use_safetensors=False`` only.

        Raises:
            ValueError: weights are missing, left over, of another shape or kind, or not finite; a value of the config
                is of another type or outside its range. The message names the file, the key and the value.
            OSError: files are missing or damaged.
        """
        with_info = options.pop("output_loading_info", False)
        if options.get("use_safetensors") is None:
            options["use_safetensors"] = True
        folder = Path(name, options.get("subfolder") or "")
        header = check_saved(cls, folder, options) if folder.is_dir() else {}
        try:
            with model_limits(*_room(header)):
                model, info = super().from_pretrained(name, output_loading_info=True, **options)
        except Exception as error:  # of a constructor or of diffusers, which meets files that it did not write
            explain(cls, folder, header, options)
            if isinstance(error, ValueError | OSError) and str(folder) in str(error):
                raise
            raise ValueError(f"{folder} does not hold a {cls.__name__} that can be loaded "
                             f"({type(error).__name__}: {in_short(error)})") from error
        if info.get("missing_keys") or info.get("unexpected_keys"):
            explain(cls, folder, header, options)
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            if info.get(problem):
                raise ValueError(f"{name} does not hold the weights of {cls.__name__}; "
                                 f"{problem.replace('_', ' ')}: {', '.join(map(str, info[problem]))}")
        check_kinds(folder, header, model)
        for key, weight in model.state_dict().items():
            if weight.is_floating_point() and not weight.is_meta and not torch.isfinite(weight).all():
                raise ValueError(f"{name}: {key} holds NaN or infinite values")
        align_weights(model)
        return (model, info) if with_info else model

    def save_pretrained(self, save_directory: str | os.PathLike, *arguments: Any, **options: Any) -> None:
        """Save config and weights into a folder, readable for all who may read new files; see diffusers for options.

        Raises:
            NoSpace: the disk is full.
        """
        with saving_into(save_directory):
            super().save_pretrained(save_directory, *arguments, **options)

    @property
    def published_name(self) -> str | None:
        """Hub id or built-in name of the weights; None for new models and for local folders, whose path means nothing
        elsewhere."""
        name = str(self.config.get("_name_or_path") or "")
        return name if name.count("/") == 1 and not name.startswith((".", "/")) and not Path(name).exists() else None


def check_saved(owner: type[Model], folder: Path, options: dict[str, Any] | None = None) -> Header:
    """Refuse a saved folder whose config or files are wrong, before any weight is read.

    Args:
        owner: the class that will be loaded.
        folder: what ``save_pretrained`` wrote.
        options: of :meth:`Model.from_pretrained`; those that are settings replace values of the config.

    Returns:
        Dtype and shape of each tensor of the weights; nothing for pickled weights.

    Raises:
        ValueError: names the file, the key and the value.
    """
    file = folder / owner.config_name
    if not file.is_file():
        raise ValueError(f"{folder} holds no {owner.config_name}")
    settings = read_json_object(file)
    named = settings.get("_class_name", owner.__name__)
    if named != owner.__name__:
        raise ValueError(f"{file}: _class_name is {named!r}, not {owner.__name__!r}")
    settings = {key: value for key, value in settings.items() if not key.startswith("_")}
    keys = owner.config_keys()
    unknown = sorted(set(settings) - keys)
    if unknown:
        raise ValueError(f"{file}: {owner.__name__} has no setting {', '.join(unknown[:SHOWN])}")
    settings |= {key: value for key, value in (options or {}).items() if key in keys}
    try:
        check_config(owner, settings)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    _report_absent(owner, file, settings)
    return read_headers(folder) if (options or {}).get("use_safetensors") else {}


def _report_absent(owner: type[Model], file: Path, settings: dict[str, Any]) -> None:
    """Say which settings a config leaves to the class, and refuse one that leaves out what has no default."""
    parameters = inspect.signature(owner.__init__).parameters
    absent = sorted(owner.config_keys() - set(settings))
    without = [key for key in absent if parameters[key].default is inspect.Parameter.empty]
    if without:
        raise ValueError(f"{file} lacks {', '.join(without)}, which {owner.__name__} needs")
    if absent:
        told = [f"{key}={parameters[key].default!r:.40}" for key in absent[:SHOWN]]
        logger.warning("%s says nothing of %d settings; taken are the defaults of %s: %s%s", file, len(absent),
                       owner.__name__, ", ".join(told), ", ..." if len(absent) > SHOWN else "")


def read_headers(folder: Path) -> Header:
    """Dtypes and shapes of all tensors of a saved folder, of one file or of the shards that its index names.

    Raises:
        ValueError: a file is missing or damaged, or a tensor is listed in the index and in no shard.
    """
    indices = sorted(folder.glob("diffusion_pytorch_model*.safetensors.index.json"))
    if not indices:
        found: Header = {}
        for file in sorted(folder.glob("diffusion_pytorch_model*.safetensors")):
            found |= safetensors_header(file)[0]
        return found
    return {key: entry for headers in read_index(indices[0]).values() for key, entry in headers.items()}


def read_index(index: Path) -> dict[str, Header]:
    """The shards of safetensors that an index names, and the tensors in each.

    Raises:
        ValueError: the index is damaged or names a file outside its folder, a shard is missing, or a tensor is not
            where the index says.
    """
    places = index_places(index)
    shards = {name: safetensors_header(index.parent / name)[0] for name in sorted(set(places.values()))}
    absent = [f"{key} (in {name})" for key, name in places.items() if key not in shards[name]]
    if absent:
        raise ValueError(f"{index} lists {len(absent)} tensors that its shards do not hold: "
                         f"{', '.join(absent[:SHOWN])}; download the shards again")
    return shards


def index_places(index: Path) -> dict[str, str]:
    """The file of each tensor, as an index of shards says.

    Raises:
        ValueError: the index is damaged, names a file outside its folder, or a shard is missing.
    """
    places = read_json_object(index, 200_000_000).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index} is damaged: weight_map must name the file of each tensor")
    names = sorted(set(places.values()))
    foreign = [name for name in names if not name or Path(name).name != name or name.startswith(".")]
    if foreign:
        raise ValueError(f"{index} names {foreign[0]!r}, which is no file beside it")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ValueError(f"{len(missing)} of the {len(names)} files that {index} names are missing: "
                         f"{', '.join(missing[:SHOWN])}")
    return places


def _room(header: Header) -> tuple[int, int]:
    """Limits of the model that weights of this header may fill; the usual ones where there is no header."""
    if not header:
        return 2**62, 2**62
    return limits_for(sum(torch.Size(shape).numel() for _, shape in header.values()), len(header))


def explain(owner: type[Model], folder: Path, header: Header, options: dict[str, Any]) -> None:
    """Raise what a config and the weights beside it disagree in, if that is what was wrong.

    Raises:
        ValueError: names settings, and tensors that differ.
    """
    if not header:
        return
    settings = {key: value for key, value in read_json_object(folder / owner.config_name).items()
                if not key.startswith("_")} | {key: options[key] for key in owner.config_keys() & set(options)}
    model = None
    with model_limits(*_room(header)):
        try:
            model = build(owner, settings, str(folder / owner.config_name))
            own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        except ModelTooLarge:
            own = shapes(owner, settings)
            if own is None:
                raise
    words = differences(own, {key: shape for key, (_, shape) in header.items()})
    if words:
        absent = sorted(owner.config_keys() - set(settings))
        left = f"; it says nothing of {', '.join(absent[:2 * SHOWN])}" if absent else ""
        raise ValueError(f"{folder}: the weights do not fit the config: {words}. The config changes the defaults of "
                         f"{owner.__name__} in {changed(owner, settings)}{left}")
    if model is not None:
        check_kinds(folder, header, model)


def differences(own: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]]) -> str:
    """In words, what keys and shapes of weights differ from those of a model; "" where nothing does."""
    problems = {
        "missing": [f"{key} {shape}" for key, shape in own.items() if key not in given],
        "unexpected": [f"{key} {shape}" for key, shape in given.items() if key not in own],
        "of another shape": [f"{key} {given[key]}, the model has {shape}" for key, shape in own.items()
                             if key in given and given[key] != shape]}
    lines = [f"{len(found)} {kind}: {'; '.join(found[:SHOWN])}" for kind, found in problems.items() if found]
    return ". ".join(lines)


def check_kinds(folder: Path, header: Header, model: torch.nn.Module) -> None:
    """Refuse weights that are stored as numbers of another kind than the model's, such as whole ones.

    Raises:
        ValueError: names the first of them.
    """
    wrong = []
    for key, value in model.state_dict().items():
        if key in header:
            kind = KINDS.get(dtype_kind(header[key][0]), "unknown")
            expected = "float" if value.is_floating_point() else "complex" if value.is_complex() else "int"
            if kind != expected:
                wrong.append(f"{key} is stored as {header[key][0]}, the model has {str(value.dtype).partition('.')[2]}")
    if wrong:
        raise ValueError(f"{folder}: {len(wrong)} tensors are of another kind: {'; '.join(wrong[:SHOWN])}")


def align_weights(model: torch.nn.Module) -> None:
    """Copy weights that lie unaligned in a mapped file.

    The processor's kernels take another path for those, and the last bits of a result would depend on the file.
    """
    for weight in (*model.parameters(), *model.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % 64:
            weight.data = weight.data.clone()
