"""Values of configs: each has the type of its annotation and a range, and none may build a model of any size.

A config is the signature of a constructor. :func:`check_config` derives types from its annotations and ranges from the
names of its arguments, for all models in one place; :class:`Budget` stops a constructor before it allocates more than a
model may have; :func:`build` turns what then still goes wrong inside a constructor into one sentence.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

from photophone.core.limits import (
    MAX_CONFIG_BITS,
    MAX_CONFIG_DEPTH,
    MAX_CONFIG_ITEMS,
    MAX_CONFIG_NUMBER,
    MAX_MODEL_ELEMENTS,
    MAX_MODEL_TENSORS,
)

WHOLE = (
    (r"(^|_)seed$", 0, 2**63 - 1),
    (r"bits$", 1, MAX_CONFIG_BITS),
    (r"(depths?|layers|_blocks|^blocks|attention_levels|_iterations)$", 0, MAX_CONFIG_DEPTH),
    (r"(heads|multipliers)$", 1, MAX_CONFIG_DEPTH),
    (r"(look_ahead|lookahead|^context|harmonics|delays|_sets|^spoken_books|^delay)$", 0, MAX_CONFIG_NUMBER),
)
"""Ranges of whole numbers by the names of arguments, the first that fits; all others lie in 1..MAX_CONFIG_NUMBER."""
REAL = (
    (r"(_drop|drop_rate|mask_ratio_min|phi_ratio|^slope|voiced_ratio)$", 0.0, 1.0),
    (r"(^|_)eps$", 0.0, 1.0),
    (r"(_std|^sigma\w*|_ms|seconds|_noise|_weight|commitment|dead_below|rotary_base|temperature)$", 0.0, 1e9),
)
"""Ranges of real numbers by the names of arguments, the first that fits; all others are finite and below 1e12."""
OPEN_INT = range(-MAX_CONFIG_NUMBER, MAX_CONFIG_NUMBER + 1)
"""Whole numbers inside a table of settings, whose names are those of other classes."""
SHOWN = 8
MAX_TEXT = 4_096  # characters of a string of a config
MAX_NESTING = 8
SMALL_ELEMENTS = 50_000_000
"""Numbers in a model that is built at once: 0.2 GB."""

class Config(dict):
    """Settings by key and by attribute, which cannot be changed; :meth:`Model.register_to_config` replaces them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the config has no {name!r}") from error

    def _refuse(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("a config cannot be changed; build the model with other settings")

    __setattr__ = __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple:
        return Config, (dict(self),)


_limits: ContextVar[tuple[int, int]] = ContextVar("limits of a model", default=(MAX_MODEL_ELEMENTS, MAX_MODEL_TENSORS))
_running: ContextVar[bool] = ContextVar("whether a budget counts", default=False)


class ModelTooLarge(ValueError):
    """A constructor asked for more than a model may have here."""


class Budget(TorchFunctionMode):
    """While it is entered, torch's functions that make tensors count them, and refuse before they are too much.

    Args:
        elements: numbers in all tensors together.
        tensors: how many tensors.
    """

    def __init__(self, elements: int, tensors: int) -> None:
        super().__init__()
        self.elements, self.tensors = elements, tensors
        self.made_elements, self.made_tensors = 0, 0

    def __torch_function__(self, function, kinds, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in _device_constructors():
            self.made_tensors += 1
            self.made_elements += _size(function.__name__, args, kwargs)
            if self.made_elements > self.elements or self.made_tensors > self.tensors:
                raise ModelTooLarge(f"these settings make a model of more than {self.elements} numbers in "
                                    f"{self.tensors} tensors, which is the limit here")
        return function(*args, **kwargs)


def _size(name: str, args: tuple, kwargs: Mapping[str, Any]) -> int:
    """Elements of the tensor that a function of torch is asked for; 1 where its arguments do not tell."""
    if name in ("tensor", "as_tensor", "asarray", "sparse_coo_tensor"):
        return 1
    try:
        if name == "eye":
            return int(args[0]) * int(args[1] if len(args) > 1 else args[0])
        if name in ("arange", "range"):
            start, end, step = (*args, 1) if len(args) == 2 else args if len(args) == 3 else (0, *args[:1], 1)
            return max(0, math.ceil((end - start) / step))
        if name in ("linspace", "logspace"):
            return int(kwargs.get("steps", args[2] if len(args) > 2 else 1))
        first = kwargs.get("size", args[0] if args else ())
        sizes = first if isinstance(first, Sequence) else [part for part in args if isinstance(part, int)]
        return math.prod(int(size) for size in sizes)
    except (TypeError, ValueError, IndexError, ArithmeticError):
        return 1


@contextmanager
def model_limits(elements: int, tensors: int) -> Iterator[None]:
    """Inside, models may be built of at most so many numbers and tensors."""
    token = _limits.set((min(elements, MAX_MODEL_ELEMENTS), min(tensors, MAX_MODEL_TENSORS)))
    try:
        yield
    finally:
        _limits.reset(token)


def limits_for(elements: int, tensors: int) -> tuple[int, int]:
    """Limits of a model whose file holds so many numbers in so many tensors: room for tables that no file holds."""
    return 4 * elements + 64_000_000, 40 * tensors + 10_000


def checked_init(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that looks at its arguments first, keeps them as ``config``, and builds within the limits.

    The signature stays that of ``init``: its names are the keys of a config.
    """
    from functools import wraps

    signature = inspect.signature(init)

    @wraps(init)
    def checked(self, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)  # raises as a call would
        check_config(type(self), dict(list(bound.arguments.items())[1:]), init)
        if "_config" not in self.__dict__:  # else the constructor of a base class
            bound.apply_defaults()
            self.__dict__["_config"] = Config(list(bound.arguments.items())[1:])
        if _running.get():
            init(self, *args, **kwargs)
            return
        token = _running.set(True)
        try:
            with Budget(*_limits.get()):
                init(self, *args, **kwargs)
        finally:
            _running.reset(token)

    return checked


def check_config(owner: type, config: Mapping[str, Any], init: Callable | None = None) -> None:
    """Refuse values that are not of the type of their argument, or outside its range.

    Args:
        owner: the class, for the message.
        config: values by the names of the constructor's arguments; others are left alone.
        init: the constructor; None: that of the class.

    Raises:
        ValueError: names the argument, what it must be, and the value.
    """
    kinds = _annotations(init or owner.__init__)
    for name, value in config.items():
        if name in kinds:
            problem = _problem(name, value, kinds[name])
            if problem:
                raise ValueError(f"{owner.__name__}: {problem}")


@lru_cache(maxsize=512)
def _annotations(init: Callable) -> dict[str, Any]:
    inner = inspect.unwrap(init)
    try:
        kinds = typing.get_type_hints(inner)
    except (NameError, TypeError):  # an annotation of a name that is imported for type checkers alone
        return {}
    return {name: kind for name, kind in kinds.items() if name != "return"}


def _problem(name: str, value: Any, kind: Any) -> str | None:
    """What is wrong with a value, or None."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        found = [_problem(name, value, part) for part in parts]
        if None in found:
            return None
        told = [problem for part, problem in zip(parts, found)
                if part is not type(None) and _same_sort(value, part)]
        return told[0] if told else _wrong(name, " or ".join(_words(part) for part in parts), value)
    checks = {int: _whole, float: _real, bool: _truth, str: _text, type(None): _nothing, dict: _table}
    sort = origin or kind
    if sort in (list, tuple, Sequence):
        return _several(name, value, kind)
    return checks[sort](name, value) if sort in checks else None


def _same_sort(value: Any, kind: Any) -> bool:
    """Whether a value was meant as one of a kind, so that what it lacks is worth telling."""
    origin = typing.get_origin(kind) or kind
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    if origin is dict:
        return isinstance(value, Mapping)
    if kind in (int, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(origin, type) and isinstance(value, origin)


def _words(kind: Any) -> str:
    origin = typing.get_origin(kind) or kind
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null",
             list: "a list", tuple: "a list", Sequence: "a list", dict: "a table of settings"}
    return names.get(origin, str(kind))


def _wrong(name: str, what: str, value: Any) -> str:
    text = repr(value)
    return f"{name} must be {what}, got {text if len(text) <= 60 else text[:57] + '...'}"


def _range_of(name: str, table: tuple, default: tuple) -> tuple:
    return next(((low, high) for pattern, low, high in table if re.search(pattern, name)), default)


def _whole(name: str, value: Any) -> str | None:
    low, high = _range_of(name.partition("[")[0], WHOLE, (1, MAX_CONFIG_NUMBER))
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return _wrong(name, f"a whole number in {low}..{high}", value)
    return None


def _real(name: str, value: Any) -> str | None:
    low, high = _range_of(name.partition("[")[0], REAL, (-1e12, 1e12))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # NaN lies in no range
        return _wrong(name, f"a number in {low:g}..{high:g}", value)
    return None


def _truth(name: str, value: Any) -> str | None:
    return None if isinstance(value, bool) else _wrong(name, "true or false", value)


def _text(name: str, value: Any) -> str | None:
    return None if isinstance(value, str) and len(value) <= MAX_TEXT else _wrong(name, "a text", value)


def _table(name: str, value: Any) -> str | None:
    return nested_problem(name, value) if isinstance(value, Mapping) else _wrong(name, "a table of settings", value)


def _nothing(name: str, value: Any) -> str | None:
    return None if value is None else _wrong(name, "null", value)


def _several(name: str, value: Any, kind: Any) -> str | None:
    if not isinstance(value, list | tuple):
        return _wrong(name, "a list", value)
    if len(value) > MAX_CONFIG_ITEMS:
        return f"{name} must be a list of at most {MAX_CONFIG_ITEMS} values, got {len(value)}"
    parts = [part for part in typing.get_args(kind) if part is not Ellipsis]
    for index, item in enumerate(value):
        problem = _problem(f"{name}[{index}]", item, parts[0]) if len(parts) == 1 else nested_problem(name, item)
        if problem:
            return problem
    return None


def nested_problem(name: str, value: Any, depth: int = 0) -> str | None:
    """What is wrong with plain settings of another class: numbers that are not finite or too large, deep nesting."""
    if depth > MAX_NESTING:
        return f"{name} is nested more than {MAX_NESTING} deep"
    if isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        if len(value) > MAX_CONFIG_ITEMS:
            return f"{name} must hold at most {MAX_CONFIG_ITEMS} values, got {len(value)}"
        return next((problem for key, item in items
                     if (problem := nested_problem(f"{name}.{key}", item, depth + 1))), None)
    if isinstance(value, int) and value not in OPEN_INT:
        return _wrong(name, f"within {OPEN_INT.start}..{OPEN_INT.stop - 1}", value)
    if isinstance(value, float) and not abs(value) <= 1e12:
        return _wrong(name, "a finite number", value)
    return _wrong(name, "a text of at most 4096 characters", value) if isinstance(value, str) \
        and len(value) > MAX_TEXT else None


def build(owner: type, config: Mapping[str, Any], where: str = "") -> Any:
    """A model of a config; whatever its constructor stumbles over becomes a sentence.

    Args:
        owner: the class.
        config: arguments of its constructor.
        where: the file that holds them, for the message.

    Raises:
        ValueError: names the file, and the values that differ from the class's own.
    """
    start = f"{where}: " if where else ""
    unknown = sorted(set(config) - set(inspect.signature(owner.__init__).parameters))
    if unknown:
        raise ValueError(f"{start}{owner.__name__} has no setting {', '.join(unknown[:SHOWN])}")
    try:
        return _sized(owner, config)
    except ModelTooLarge as error:
        raise ModelTooLarge(f"{start}{error}; its own defaults are changed in {changed(owner, config)}") from error
    except ValueError as error:
        words = in_short(error)
        more = "" if any(name in words for name in config) else f"; its own defaults are changed in " \
            f"{changed(owner, config)}"
        raise ValueError(f"{start}{words}{more}") from error
    except Exception as error:  # a constructor, of ours or another library, that did not expect such values
        raise ValueError(f"{start}these settings make no {owner.__name__} ({type(error).__name__}: "
                         f"{in_short(error)}); its own defaults are changed in {changed(owner, config)}") from error


def _sized(owner: type, config: Mapping[str, Any]) -> Any:
    """A model; the size of a large one is counted first, without memory, so that none is half built and refused."""
    elements, tensors = _limits.get()
    drawn = torch.get_rng_state()
    try:
        with model_limits(min(elements, SMALL_ELEMENTS), tensors):
            return owner(**config)
    except ModelTooLarge:
        if elements <= SMALL_ELEMENTS:
            raise
    try:
        with torch.device("meta"):
            owner(**config)
    except ModelTooLarge:
        raise
    except Exception:  # a constructor that looks at values: what is wrong with it shows below
        pass
    torch.set_rng_state(drawn)  # random weights are those of one construction
    return owner(**config)


def shapes(owner: type, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Shapes of the tensors of a model that is too large to be built here; None where they cannot be had."""
    tensors = _limits.get()[1]
    try:
        with model_limits(2**62, tensors), torch.device("meta"):
            return {key: tuple(value.shape) for key, value in owner(**config).state_dict().items()}
    except Exception:  # the shapes are for a message alone
        return None


def in_short(error: BaseException) -> str:
    """An error's message on one line, not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 400 else text[:397] + "..."


def changed(owner: type, config: Mapping[str, Any]) -> str:
    """The settings of a config that differ from the defaults of a class; those of odd kinds and those that are not
    above zero come first."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(owner.__init__).parameters.items()}
    found: list[tuple[bool, str]] = []

    def look(name: str, value: Any, default: Any) -> None:
        if isinstance(value, Mapping) and value and not (default and not isinstance(default, Mapping)):
            for key, item in value.items():
                look(f"{name}.{key}", item, default.get(key) if isinstance(default, Mapping) else None)
        elif _plain(value) != _plain(default):
            known = default is not None and default is not inspect.Parameter.empty
            odd = value is None or not value or (isinstance(value, int | float) and value < 0) or \
                (known and _sort(value) != _sort(default))
            found.append((not odd, f"{name}={value!r:.40}"))

    for name, value in config.items():
        look(name, value, defaults.get(name))
    shown = [text for _, text in sorted(found, key=lambda entry: entry[0])]
    more = f" and {len(shown) - 3 * SHOWN} more" if len(shown) > 3 * SHOWN else ""
    return ", ".join(shown[:3 * SHOWN]) + more or "nothing"


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _sort(value: Any) -> Any:
    """The kind of a value, and of the items of a list."""
    if isinstance(value, list | tuple):
        return "list", frozenset(_sort(item) for item in value)
    return type(value).__name__ if isinstance(value, bool | str | Mapping) else "number"
