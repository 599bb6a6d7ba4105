"""Official checkpoints: read safely, found, renamed, loaded strictly.

``Model.from_original(path)`` reads the file (:mod:`photophone.loading.files`: safetensors, or torch's restricted
unpickler), finds the weights in it (:mod:`photophone.loading.tables`), renames them by the family's pure function
``convert_state_dict`` and copies them by ``load_strict``. There is no unsafe fallback, and nothing is ignored in
silence: keys that are left out on purpose stand in the family's ``DROPPED_KEYS``, and what was undone in
``model.load_report``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from photophone.core.config import ModelTooLarge, build, limits_for, model_limits, shapes
from photophone.core.files import atomic_write
from photophone.core.saved_model import differences
from photophone.loading.files import Content, read_content
from photophone.loading.report import LoadReport
from photophone.loading.search import best_reading
from photophone.loading.tables import Table, find_tables, unwrapped
from photophone.loading.weight_norm import WEIGHT_NORM, fold_weight_norm

__all__ = ["WEIGHT_NORM", "OriginalCheckpoint", "State", "fold_weight_norm", "load_strict", "read_state", "rename_keys",
           "write_weights"]
State = dict[str, Tensor]
SHOWN = 5
"""Differing keys of each kind that an error message names."""


def read_state(source: str | Path | Mapping[str, Any], containers: Iterable[str] = ()) -> State:
    """The named tensors of a checkpoint, where nothing is known of the model that they are for.

    Args:
        source: a ``.safetensors`` file, a torch file, shards or a folder, or what such a file holds.
        containers: places of the weights in a nested file, tried in order ("model_ema", "trainer.unitok").

    Returns:
        The tensors of the first of ``containers`` that is there, else of the only table in the file, without the
        prefixes of wrapped modules.

    Raises:
        ValueError: the file is missing, damaged, holds more than tensors and plain values, no tensors, or several
            tables.
    """
    content = content_of(source)
    tables = [table for table in find_tables(content.values) if not table.joined]
    for name in containers:
        for table in tables:
            if table.place == name:
                return unwrapped(table.state)[0]
    if not tables:
        raise ValueError(no_tables(source, content.values, containers))
    if len(tables) > 1:
        raise ValueError(f"expected one table of named tensors, or one at {' or '.join(containers) or 'the top'}, and "
                         f"found several: {', '.join(table.place or 'the top' for table in tables[:SHOWN])}")
    return unwrapped(tables[0].state)[0]


def content_of(source: str | Path | Mapping[str, Any]) -> Content:
    """What a file, a folder or a table in memory holds."""
    return Content(source) if isinstance(source, Mapping) else read_content(source)


def no_tables(source: Any, values: Mapping[str, Any], containers: Iterable[str]) -> str:
    """What to say of a checkpoint without any weights."""
    where = f"{source} holds" if isinstance(source, str | Path) else "the checkpoint holds"
    if {"state", "param_groups"} <= set(values):
        return f"{where} the state of an optimiser and no weights; the weights lie in another file of the training"
    names = [f"{key} ({type(value).__name__})" for key, value in values.items()][:SHOWN]
    found = ", ".join(names) or "nothing"
    wanted = " or ".join(containers)
    return f"{where} no table of named tensors{f', at {wanted} or elsewhere' if wanted else ''}; found {found}"


def rename_keys(state: Mapping[str, Tensor], rules: Iterable[tuple[str, str | Callable[[re.Match], str]]]) -> State:
    """A copy of ``state`` whose keys went through all (pattern, replacement) rules of ``re.sub``, in order.

    Raises:
        ValueError: two keys became one.
    """
    rules = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed: State = {}
    for key, value in state.items():
        new = key
        for pattern, replacement in rules:
            new = pattern.sub(replacement, new)
        if new in renamed:
            raise ValueError(f"two keys of the checkpoint became {new!r}; one of them is {key!r}")
        renamed[new] = value
    return renamed


def load_strict(model: nn.Module, state: Mapping[str, Tensor], where: str = "the checkpoint") -> None:
    """Copy ``state`` into ``model``, which must have exactly its keys, shapes and kinds of numbers.

    Args:
        model: to be filled.
        state: our keys.
        where: what holds them, for the message.

    Raises:
        ValueError: keys, shapes or kinds differ (the first of each kind are named), or a value is not finite, before or
            after it has the model's precision.
    """
    own = model.state_dict()
    words = differences({key: tuple(value.shape) for key, value in own.items()},
                        {key: tuple(value.shape) for key, value in state.items()})
    if words:
        raise ValueError(f"{where} does not fit {type(model).__name__}: {words}. "
                         "Is it the right file, and the right config?")
    wrong = [f"{key} is {_dtype(state[key])}, the model has {_dtype(value)}" for key, value in own.items()
             if not _kinds_agree(state[key], value)]
    if wrong:
        raise ValueError(f"{where} holds {len(wrong)} tensors of another kind than {type(model).__name__}: "
                         f"{'; '.join(wrong[:SHOWN])}")
    check_finite(state, where)
    model.load_state_dict(state, strict=True)
    for key, value in model.state_dict().items():
        if state[key].dtype == torch.float64 and value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{where}: {key} holds values beyond the range of {_dtype(value)}")


def check_finite(state: Mapping[str, Tensor], where: str = "the checkpoint") -> None:
    """Refuse tensors with NaN or infinite values."""
    broken = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{where}: {len(broken)} tensors hold NaN or infinite values: {'; '.join(broken[:SHOWN])}")


def _dtype(value: Tensor) -> str:
    return str(value.dtype).partition(".")[2]


def _kinds_agree(given: Tensor, own: Tensor) -> bool:
    """Whether numbers of one kind go to the same kind; whole numbers may be stored as floats, weights not as whole."""
    if own.is_floating_point():
        return given.is_floating_point()
    if own.is_complex() or given.is_complex():
        return own.is_complex() and given.is_complex()
    return not given.is_floating_point() or bool((given == given.round()).all())


class OriginalCheckpoint:
    """Mixin of models that load official checkpoints.

    Attributes:
        CONTAINERS: where the authors put the weights in nested files; see :func:`read_state`. Weights at other places
            are found as well, and the report says where.
        DROPPED_KEYS: shell patterns of official keys that are left out on purpose.
        original_file: name of the file that :meth:`save_original` writes in the layout of the authors; None for
            models that only read it.
        load_report: how the weights were found; None for a model that came from no official checkpoint.
    """

    CONTAINERS: ClassVar[tuple[str, ...]] = ()
    DROPPED_KEYS: ClassVar[tuple[str, ...]] = ()
    original_file: str | None = None
    load_report: LoadReport | None = None

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours: a pure function; the default changes nothing."""
        return dict(state)

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """Official tensors, without those that are dropped, to ours, for a model of this config."""
        return cls.convert_state_dict(state)

    def original_keys(self, state: State) -> State:
        """Tensors by our keys, all or some of this model's, to those by the authors' keys.

        Raises:
            ValueError: a family that only reads official files.
        """
        raise ValueError(f"{type(self).__name__} is not written in the layout of its authors; use save_pretrained")

    def original_state_dict(self) -> State:
        """The weights by the authors' keys: what :meth:`convert_state_dict` makes these weights of.

        Raises:
            ValueError: see :meth:`original_keys`.
        """
        return self.original_keys(self.state_dict())

    def save_original(self, folder: str | Path, file: str | None = None) -> None:
        """Write the weights with the authors' keys into a folder.

        Args:
            folder: of the release; what else it holds stays.
            file: path in it, a ``.safetensors`` or a torch file; None: :attr:`original_file`.

        Raises:
            ValueError: see :meth:`original_state_dict`; no file is named; keys that would not be read as these weights
                again.
        """
        name = file or self.original_file
        if name is None:
            raise ValueError(f"{type(self).__name__} of these settings is not written in the layout of its authors; "
                             "use save_pretrained, or name the file")
        official, own = self.original_state_dict(), self.state_dict()
        again = self.convert_state_dict(self.split_dropped(official)[0])
        if again.keys() != own.keys() or any(not torch.equal(again[key], value) for key, value in own.items()):
            raise ValueError(f"{type(self).__name__} of these settings is not written in the layout of its authors")
        write_weights(Path(folder) / name, official)

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, take: str | None = None, **config: Any) -> Self:
        """The model with the weights of an official checkpoint, in eval mode.

        Args:
            source: a ``.safetensors`` or torch file, the index of shards, a folder with weights under a usual name, or
                the content of such a file. Nested tables, prefixes of wrapped modules, old and new names of weight
                norms are undone; :attr:`load_report` says what was.
            take: "ema" or "raw" for a file that holds averaged and other weights, or the place of a table in the file,
                such as "trainer.var_wo_ddp"; None takes averaged ones where they are.
            **config: arguments of the constructor; the defaults are the published sizes where there is one.

        Raises:
            ValueError: the file is refused (see :func:`photophone.loading.files.read_content`), holds several tables
                that fit and no word on which to take, or does not fit (see :func:`load_strict`).
        """
        return cls.load_content(source, content_of(source), take, config)

    @classmethod
    def load_content(cls, source: Any, content: Content, take: str | None, config: Mapping[str, Any],
                     beside: Mapping[str, Tensor] | None = None) -> Self:
        """As :meth:`from_original`, of content that was read.

        Args:
            source: where it was read, for messages.
            content: of the file.
            take: see :meth:`from_original`.
            config: arguments of the constructor.
            beside: official tensors of a second file.
        """
        tables = find_tables(content.values)
        name = str(source) if isinstance(source, str | Path) else None
        if not tables:
            raise ValueError(no_tables(source, content.values, cls.CONTAINERS))
        with model_limits(*_room([*tables, Table("", dict(beside or {}))])):
            model = cls._built(config, tables)
        try:
            state, report = best_reading(model, tables, config, take=take, tied=content.tied, beside=beside or {})
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from error
        load_strict(model, state, name or "the checkpoint")
        model.load_report = replace(report, source=name, files=content.files)
        model.load_report.log()
        return model.eval()

    @classmethod
    def _built(cls, config: Mapping[str, Any], tables: list[Table]) -> Self:
        """A model to be filled; one that is far larger than all tables is compared by its shapes alone."""
        try:
            return build(cls, config)
        except ModelTooLarge as error:
            own = shapes(cls, config)
            kept, _ = cls.split_dropped(unwrapped(tables[0].state)[0])
            try:
                given = cls.prepare_state_dict(kept, config)
            except (ValueError, KeyError, IndexError, RuntimeError, TypeError):
                given = {}
            if own and given:
                words = differences(own, {key: tuple(value.shape) for key, value in given.items()})
                raise ValueError(f"the checkpoint does not fit {cls.__name__}: {words}. "
                                 "Is it the right file, and the right config?") from error
            raise

    @classmethod
    def split_dropped(cls, state: State) -> tuple[State, State]:
        """Official tensors that are loaded, and those that are left out on purpose."""
        dropped = {key for key in state if any(fnmatchcase(key, pattern) for pattern in cls.DROPPED_KEYS)}
        return ({key: value for key, value in state.items() if key not in dropped},
                {key: value for key, value in state.items() if key in dropped})

    @classmethod
    def conversion(cls, state: State) -> dict[str, list[str]]:
        """What :meth:`from_original` does with the keys of official tensors.

        Returns:
            ``same``: keys that stay; ``renamed``: those that change, are split or joined; ``dropped``: those left out
            on purpose; ``made``: our keys that the official file does not have.
        """
        kept, dropped = cls.split_dropped(state)
        ours = cls.convert_state_dict(kept)
        return {"same": sorted(set(kept) & set(ours)), "renamed": sorted(set(kept) - set(ours)),
                "dropped": sorted(dropped), "made": sorted(set(ours) - set(kept))}


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a file atomically: safetensors where its name ends so, else a torch file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
    with atomic_write(path) as partial:
        if path.suffix == ".safetensors":
            save_file(state, partial, metadata={"format": "pt"})  # transformers asks for it
        else:
            torch.save(state, partial)


def _room(tables: list[Table]) -> tuple[int, int]:
    """Limits of a model whose weights lie in these tables."""
    values = [value for table in tables for value in table.state.values()]
    return limits_for(sum(value.numel() for value in values), len(values))
