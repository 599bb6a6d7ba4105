"""Tables of named tensors in what a checkpoint holds: where they lie, and what stands before their keys.

Training scripts nest the weights ({"trainer": {"var_wo_ddp": ...}}), keep averaged ones beside them, and wrap modules
(torch.compile, DDP, FSDP, Lightning), which writes a prefix before every key. :func:`find_tables` lists all tables of a
file and :func:`readings` the ways to read one; which of them a model has the keys of is for its loader to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

State = dict[str, Tensor]
DEPTH = 6
MOST = 64
"""Levels that are searched, and tables that are looked at."""
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_forward_module.", "_fpw_module.",
            "_ddp_module.")
"""What torch.compile, FSDP, activation checkpointing and Fabric put into keys: no model of its own has such a name."""
AVERAGED = re.compile(r"(?:^|[^a-z])(?:ema|emas|swa|averaged?|polyak|shadow)(?:\d*)(?:[^a-z]|$)")
"""Places of running averages: "ema", "model_ema", "params_ema", "state_dict_ema", "ema_model", "g_ema"."""
ONLINE = re.compile(r"^(?:online|raw|live)(?:_|$)")
"""What a wrapper of averages calls the weights that it averages."""
TRAINING = re.compile(
    r"(?:^|[._])(?:discriminators?|disc\d*|net_?d|mpd|msd|mrd|mssd|msstftd|multi\w*disc\w*|loss|losses|loss_fn|criterion"
    r"|perceptual\w*|lpips|optimizers?|optim\w*|opt|schedulers?|lr_schedulers?|scaler|grad_scaler|teacher_loss)(?:[._]|$)",
    re.IGNORECASE)
"""Parts that only a training has: judges, losses, optimisers."""
COUNTERS = re.compile(r"(?:^|[._])(?:n_averaged|num_updates|decay|steps?|global_step|iterations?|iter|epoch|initted|"
                      r"num_steps|optimization_step|best_\w+)$")
"""Single numbers that count steps."""
PARTIAL = (
    (r"flat_param", "FSDP's flat parameters; save the full state dict where it was trained"),
    (r"(^|\.)lora_|\.lora\.|_lora\.", "an adapter (LoRA); merge it into its model with the authors' code"))
"""Forms that are no weights of a whole model, by what their keys contain."""
RAW = ("model", "state_dict", "model_state_dict", "module", "net", "network", "generator", "weights", "params")


def is_averaged(place: str) -> bool:
    """Whether the last name of a place that tells says so: "ema.ema_model" is one, "ema.online_model" is none."""
    told = [not ONLINE.search(name) for name in place.lower().split(".")
            if ONLINE.search(name) or AVERAGED.search(name)]
    return bool(told) and told[-1]


@dataclass(frozen=True)
class Table:
    """Tensors by name, as they lie at one place of a checkpoint.

    Args:
        place: names on the way to it, with dots; "" for the top.
        state: the tensors.
        values: places of what lies there and above and is no table of tensors.
        joined: whether its keys were put together from several tables.
    """

    place: str
    state: State
    values: tuple[str, ...] = ()
    joined: bool = False

    @property
    def averaged(self) -> bool:
        """Whether its place says that it holds a running average."""
        return is_averaged(self.place)


@dataclass(frozen=True)
class Reading:
    """One way to read a table.

    Args:
        table: where it lies.
        prefix: what was taken away before the keys.
        state: the tensors under the rest of their names.
        rest: keys of the table without the prefix, under their whole names.
        averaged: whether place or prefix say that it holds a running average.
    """

    table: Table
    prefix: str
    state: State
    rest: tuple[str, ...] = ()
    averaged: bool = field(default=False)

    @property
    def place(self) -> str:
        """Place and prefix, as users name them."""
        return ".".join(part for part in (self.table.place, self.prefix.rstrip(".")) if part)


def find_tables(content: Mapping[str, Any]) -> list[Table]:
    """All tables of tensors in a checkpoint, from the top down; those of optimisers and judges are left out."""
    found: list[Table] = []
    _search(content, "", 0, found, ())
    return found[:MOST]


def _search(content: Mapping[str, Any], place: str, depth: int, found: list[Table], above: tuple[str, ...]) -> None:
    if depth > DEPTH or len(found) >= MOST or len(content) > 1_000_000:
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    inner = {str(key): _as_mapping(value) for key, value in content.items() if not isinstance(value, Tensor)}
    named = {key: value for key, value in inner.items() if value is not None and not _of_training(key, value)}
    values = (*above, *(f"{place}.{key}" if place else key for key in inner if key not in named))
    counters = all(COUNTERS.search(key) and value.numel() == 1 for key, value in tensors.items())
    if tensors and not (counters and named):
        found.append(Table(place, tensors, values))
    for key, value in named.items():
        _search(value, f"{place}.{key}" if place else key, depth + 1, found, values)
    if named and not (tensors and not counters):
        joined = _joined(named)
        if joined:
            found.append(Table(place, joined, values, joined=True))


def _as_mapping(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple) and 0 < len(value) <= 8 and all(isinstance(item, Mapping) for item in value):
        return {str(index): item for index, item in enumerate(value)}
    return None


def _of_training(name: str, value: Mapping[str, Any]) -> bool:
    optimiser = "param_groups" in value and "state" in value
    return optimiser or bool(TRAINING.search(name)) or any(not isinstance(key, str) for key in list(value)[:3])


def _joined(content: Mapping[str, Any], depth: int = 0) -> State:
    """The tensors of nested tables under their whole names: {"encoder": {"weight": w}} is "encoder.weight"."""
    made: State = {}
    if depth > DEPTH:
        return made
    for key, value in content.items():
        if isinstance(value, Tensor):
            made[str(key)] = value
        elif isinstance(value, Mapping) and not _of_training(str(key), value):
            made |= {f"{key}.{name}": tensor for name, tensor in _joined(value, depth + 1).items()}
    return made


def unwrapped(state: Mapping[str, Tensor]) -> tuple[State, str]:
    """``state`` without the names that wrappers of modules put into its keys, and those names.

    ``module.`` goes where it stands before all keys (DDP, DataParallel, torch's averaged models).
    """
    found = sorted({name for name in WRAPPERS for key in state if name in key})
    keys = {key: _without(key, found) for key in state}
    if len(set(keys.values())) < len(keys):  # two would become one: these are no wrappers
        keys, found = {key: key for key in state}, []
    prefix = ""
    while keys and (inner := [key for key, new in keys.items() if new.startswith("module.")]) and all(
            new.startswith("module.") or (COUNTERS.search(new) and state[key].numel() == 1)
            for key, new in keys.items()):
        keys = {key: keys[key].removeprefix("module.") if key in inner else keys[key] for key in keys}
        prefix += "module."
    return {new: state[key] for key, new in keys.items()}, prefix + "".join(found)


def _without(key: str, names: Iterable[str]) -> str:
    for name in names:
        key = key.replace(name, "")
    return key


def partial_form(tables: Iterable[Table]) -> str | None:
    """What a checkpoint holds instead of the weights of a whole model, and the way out; None where nothing tells."""
    for table in tables:
        for pattern, words in PARTIAL:
            if any(re.search(pattern, key) for key in table.state):
                return words
        empty = sum(value.numel() == 0 for value in table.state.values())
        if 2 * empty > len(table.state):
            return "weights without values, as DeepSpeed writes in stage 3; join them with its zero_to_fp32.py"
    return None


def readings(table: Table) -> Iterator[Reading]:
    """Ways to read a table: averages before others, whole tables before parts, short prefixes before long ones."""
    state, wrapped = unwrapped(table.state)
    whole = Reading(table, wrapped, state, averaged=table.averaged)
    parts = []
    for prefix in () if table.joined else _prefixes(state):
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        inner, more = unwrapped(inner)
        rest = tuple(key for key in state if not key.startswith(prefix))
        averaged = is_averaged(f"{table.place}.{prefix}")
        parts.append(Reading(table, wrapped + prefix + more, inner, rest, averaged))
    dotless = _dotless(table, state)
    yield from dotless
    yield from (part for part in parts if part.averaged)
    yield whole
    if any(".module." in key for key in state):  # DDP around parts of a model
        yield Reading(table, wrapped + "module.", {key.replace(".module.", "."): value for key, value in state.items()},
                      averaged=table.averaged)
    yield from (part for part in parts if not part.averaged)


def _prefixes(state: State) -> list[str]:
    """Beginnings of keys, of one to three names, under which a model may lie; at most 40."""
    counts: dict[str, int] = {}
    for key in state:
        names = key.split(".")
        for length in range(1, min(4, len(names))):
            prefix = ".".join(names[:length]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    usable = [prefix for prefix in counts if not TRAINING.search(prefix)]
    return sorted(usable, key=lambda prefix: (-counts[prefix], prefix.count("."), prefix))[:40]


def _dotless(table: Table, state: State) -> list[Reading]:
    """The average that latent diffusion keeps: "model_ema." before keys that lost their dots, without buffers."""
    averages = {key.removeprefix("model_ema."): value for key, value in state.items() if key.startswith("model_ema.")}
    others = {key: value for key, value in state.items() if not key.startswith("model_ema.")}
    if not averages or any("." in key for key in averages):
        return []
    made, used = {}, set()
    for prefix in ("", "model."):
        for key, value in others.items():
            name = key.removeprefix(prefix).replace(".", "")
            if key.startswith(prefix) and name in averages and name not in used:
                made[key] = averages[name]
                used.add(name)
            else:
                made.setdefault(key, value)
    rest = tuple(f"model_ema.{name}" for name in averages if name not in used)
    if not used:
        return []
    inner = [Reading(Table(table.place, made, table.values), part.prefix, part.state, (*part.rest, *rest), True)
             for part in readings(Table(table.place, made, table.values))]
    return inner


def only_of_training(key: str, value: Tensor, averages: bool) -> bool:
    """Whether a tensor that no model has belongs to the training: a judge, a loss, a counter, or another average.

    Args:
        key: its whole name.
        value: the tensor.
        averages: whether averages may be left out, because a model was found beside them.
    """
    if TRAINING.search(key) or (value.numel() <= 1 and COUNTERS.search(key)):
        return True
    return averages and bool(AVERAGED.search(key.rpartition(".")[0].lower()))
