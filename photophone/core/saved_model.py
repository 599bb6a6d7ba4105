"""Saved models: their files, checked before any weight is read, and a model that fits them."""

from __future__ import annotations

import inspect
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from photophone.core.config import ModelTooLarge, build, changed, check_config, limits_for, model_limits, shapes
from photophone.core.weight_files import dtype_kind, read_json_object, safetensors_header

if TYPE_CHECKING:
    from photophone.core.model import Model

logger = logging.getLogger(__name__)
KINDS = {"float": "float", "float8": "float8", "int": "int", "bool": "int", "complex": "complex"}
WEIGHTS = "diffusion_pytorch_model"
"""Files of weights begin so, as those of diffusers."""
VARIANT = re.compile(r"[A-Za-z0-9_-]{1,40}")
SHOWN = 5
"""Tensors or settings that a message names."""
Header = dict[str, tuple[str, tuple[int, ...]]]


class WithoutStart(TorchFunctionMode):
    """Inside, in this thread, most starts of weights are left out: saved ones replace them.

    Those functions of ``torch.nn.init`` that torch shows to modes. Not single draws: ``trunc_normal_`` repeats its own
    until all are in range.
    """

    def __torch_function__(self, function, kinds, args=(), kwargs=None):
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def check_saved(owner: type[Model], folder: Path, overrides: Mapping[str, Any] = MappingProxyType({}),
                variant: str | None = None) -> Header:
    """Refuse a saved folder whose config or files are wrong, before any weight is read.

    Args:
        owner: the class that will be loaded.
        folder: what ``save_pretrained`` wrote.
        overrides: replace values of the config.
        variant: part of the names of the files.

    Returns:
        Dtype and shape of each tensor of the weights.

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
    foreign = sorted(set(overrides) - keys)
    if foreign:
        raise TypeError(f"from_pretrained takes no {', '.join(foreign)}, and {owner.__name__} has no such setting")
    settings |= overrides
    try:
        check_config(owner, settings)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    _report_absent(owner, file, settings)
    return read_headers(folder, variant)


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


def weights_name(variant: str | None = None) -> str:
    """How the files of weights begin."""
    if variant is not None and not VARIANT.fullmatch(variant):
        raise ValueError(f"variant must be letters and digits such as 'fp16', got {variant!r:.60}")
    return WEIGHTS if variant is None else f"{WEIGHTS}.{variant}"


def weight_files(folder: Path, variant: str | None = None) -> tuple[list[Path], Path | None]:
    """The files of weights of a saved folder, and the index where they are shards.

    Raises:
        ValueError: there are none.
    """
    name = weights_name(variant)
    for index in (folder / f"{name}.safetensors.index.json", folder / f"{WEIGHTS}.safetensors.index.{variant}.json"):
        if index.is_file():
            return [folder / file for file in sorted(set(index_places(index).values()))], index
    if not (folder / f"{name}.safetensors").is_file():
        raise ValueError(f"{folder} holds no .safetensors weights named {name}")
    return [folder / f"{name}.safetensors"], None


def read_headers(folder: Path, variant: str | None = None) -> Header:
    """Dtypes and shapes of all tensors of a saved folder, of one file or of the shards that its index names.

    Raises:
        ValueError: a file is missing or damaged, or a tensor is listed in the index and in no shard.
    """
    files, index = weight_files(folder, variant)
    if index is None:
        return safetensors_header(files[0])[0]
    return {key: entry for headers in read_index(index).values() for key, entry in headers.items()}


def read_weights(folder: Path, variant: str | None = None) -> dict[str, Tensor]:
    """All tensors of a saved folder, mapped into memory.

    Raises:
        ValueError: a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for file in weight_files(folder, variant)[0]:
        try:
            state |= load_file(file)
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged ({error}); download or save it again") from error
    return state


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


def fitting(owner: type[Model], folder: Path, header: Header, overrides: Mapping[str, Any]) -> Model:
    """A model of a saved config whose weights are not set yet, and are those that the files hold.

    Args:
        owner: the class.
        folder: a saved one.
        header: of its weights.
        overrides: replace values of the config.

    Raises:
        ValueError: the settings make no model, or weights and config disagree; names settings, and tensors.
    """
    file = folder / owner.config_name
    settings = {key: value for key, value in read_json_object(file).items() if not key.startswith("_")} | {**overrides}
    given = {key: shape for key, (_, shape) in header.items()}
    model = None
    with model_limits(*limits_for(sum(math.prod(shape) for shape in given.values()), len(given))), WithoutStart():
        try:
            model = build(owner, settings, str(file))
            own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        except ModelTooLarge:
            own = shapes(owner, settings)
            if own is None:
                raise
    words = differences(own, given)
    if words or model is None:
        absent = sorted(owner.config_keys() - set(settings))
        left = f"; it says nothing of {', '.join(absent[:2 * SHOWN])}" if absent else ""
        raise ValueError(f"{folder}: the weights do not fit the config: {words}. The config changes the defaults of "
                         f"{owner.__name__} in {changed(owner, settings)}{left}")
    check_kinds(folder, header, model)
    return model


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


def settle_weights(model: nn.Module, dtype: torch.dtype, name: str) -> None:
    """Check that loaded weights are finite, give them their dtype, and copy those that lie unaligned in a mapped file.

    The processor's kernels take another path for unaligned ones, and the last bits of a result would depend on the
    file.

    Args:
        model: with its weights, on the CPU.
        dtype: of floating point weights and buffers.
        name: for messages.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    for key, weight in model.state_dict().items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise ValueError(f"{name}: {key} holds NaN or infinite values")
    model.to(dtype)  # not weight by weight: some layers keep tables in float32
    for weight in (*model.parameters(), *model.buffers()):
        if weight.data_ptr() % 64:
            weight.data = weight.data.clone()
