"""Which of the tables of a checkpoint, read in which way, holds the weights of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from photophone.loading.quantized import QuantizedError, whole_weights
from photophone.loading.report import LoadReport
from photophone.loading.tables import Reading, State, Table, only_of_training, partial_form, readings
from photophone.loading.weight_norm import as_wanted, old_names

CONVERSION_ERRORS = (ValueError, KeyError, IndexError, RuntimeError, TypeError)
"""What a family's conversion raises for keys that are not its own."""
ATTEMPTS = 120
SHOWN = 5


@dataclass(frozen=True)
class Attempt:
    """A reading as a model's keys.

    Args:
        reading: of a table.
        state: our keys.
        left_out: official keys that belong to the training alone.
        notes: what was undone on the way.
        same, renamed, dropped, made: see :class:`photophone.loading.report.LoadReport`.
        complete: whether keys and shapes are the model's.
        foreign: keys beside them that are neither of the training nor another copy.
        matches: keys of the model that are there in their shape.
        error: why it could not be converted.
    """

    reading: Reading
    state: State = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    complete: bool = False
    foreign: tuple[str, ...] = ()
    matches: int = 0
    error: Exception | None = None

    @property
    def fits(self) -> bool:
        """Whether it is the weights of the model and nothing else."""
        return self.complete and not self.foreign


class Search:
    """Attempts to read tables as the weights of one model.

    Args:
        model: an :class:`photophone.loading.checkpoints.OriginalCheckpoint`.
        config: the arguments that it was built of.
        tied: keys that the file leaves out because their tensors are those of other keys.
        beside: official tensors of a second file.
    """

    def __init__(self, model: nn.Module, config: Mapping[str, Any], tied: Mapping[str, str],
                 beside: Mapping[str, Tensor]) -> None:
        self.model, self.config, self.tied, self.beside = model, config, tied, beside
        self.own = model.state_dict()
        self.shared = _shared_keys(model)

    def attempt(self, reading: Reading, *, real: bool) -> Attempt:
        """A reading as our keys.

        Args:
            reading: of a table.
            real: with its values; False: with shapes alone, which costs nothing.
        """
        try:
            state, notes = (whole_weights if real else _floats_of)(reading.state)
            official = {**state, **self.beside}
            official |= {key: official[other] for key, other in self.tied.items()
                         if other in official and key not in official}
            if not real:
                official = {key: torch.empty(value.shape, dtype=value.dtype, device="meta")
                            for key, value in official.items()}
            kept, dropped = self.model.split_dropped(official)
            official_names = self.model.prepare_state_dict(kept, self.config)
            attempts = [official_names]
            if not self._complete(official_names):
                attempts += [old for old in (self._prepared(old_names(kept)), kept) if old is not None]
            ours, more = max((as_wanted(one, self.own) for one in attempts), key=lambda pair: self._matches(pair[0]))
        except CONVERSION_ERRORS as error:
            return Attempt(reading, error=error)
        return self._judged(reading, kept, dropped, ours, (*notes, *more))

    def _complete(self, state: State) -> bool:
        return set(state) == set(self.own)

    def _prepared(self, state: State) -> State | None:
        try:
            return self.model.prepare_state_dict(state, self.config)
        except CONVERSION_ERRORS:
            return None

    def _judged(self, reading: Reading, kept: State, dropped: State, ours: State, notes: tuple[str, ...]) -> Attempt:
        """Leave out what is of the training alone, add what is tied, and compare with the model."""
        out = [key for key, value in ours.items() if key not in self.own and only_of_training(key, value, True)]
        ours = {key: value for key, value in ours.items() if key not in out}
        tied = {key: ours[other] for key, others in self.shared.items() for other in others
                if key not in ours and other in ours}
        ours |= tied
        rest = {key: reading.table.state[key] for key in reading.rest if key in reading.table.state}
        foreign = [key for key, value in rest.items() if not only_of_training(key, value, True)
                   and not self._another_copy(key, reading)]
        matches = self._matches(ours)
        complete = matches == len(self.own) == len(ours)
        notes = (*notes, *([f"{len(tied)} tied weights filled in: {', '.join(list(tied)[:SHOWN])}"] if tied else []))
        return Attempt(reading, ours, (*out, *reading.rest), notes, tuple(sorted(set(kept) & set(ours))),
                       tuple(sorted(set(kept) - set(ours) - set(out))), tuple(sorted(dropped)),
                       tuple(sorted(set(ours) - set(kept))), complete, tuple(foreign), matches)

    def _another_copy(self, key: str, reading: Reading) -> bool:
        """Whether a key outside the prefix of a reading is a copy of one inside: the weights beside an average."""
        prefix = reading.prefix.rpartition("module.")[2] or reading.prefix
        if not prefix:
            return False
        parts = key.split(".")
        return any(".".join(parts[start:]) in reading.state for start in range(min(4, len(parts))))

    def _matches(self, state: Mapping[str, Tensor]) -> int:
        return sum(key in state and state[key].shape == value.shape for key, value in self.own.items())


def _floats_of(state: State) -> tuple[State, list[str]]:
    """For attempts with shapes alone: 8-bit weights lose their scales as in :func:`whole_weights`."""
    return (whole_weights(state) if any(value.element_size() == 1 for value in state.values()) else (dict(state), []))


def _shared_keys(model: nn.Module) -> dict[str, list[str]]:
    """Other names of the same parameter, for each key that has one."""
    places: dict[int, list[str]] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if value.numel():
            places.setdefault(id(value), []).append(key)
    return {key: [other for other in keys if other != key] for keys in places.values() if len(keys) > 1
            for key in keys}


def best_reading(model: nn.Module, tables: list[Table], config: Mapping[str, Any], *, take: str | None = None,
                 tied: Mapping[str, str] | None = None, beside: Mapping[str, Tensor] | None = None,
                 ) -> tuple[State, LoadReport]:
    """The weights of a model in a checkpoint, under our keys.

    Args:
        model: an :class:`photophone.loading.checkpoints.OriginalCheckpoint`.
        tables: of the checkpoint.
        config: the arguments that the model was built of.
        take: "ema", "raw", or the place of a table; None: averages where they are.
        tied: keys that the file leaves out because their tensors are those of other keys.
        beside: official tensors of a second file.

    Returns:
        What fits, or what comes nearest: :func:`photophone.loading.checkpoints.load_strict` says what is wrong with it.

    Raises:
        ValueError: several tables fit and nothing says which is meant, ``take`` names none, or no table can be
            converted.
    """
    search = Search(model, config, tied or {}, beside or {})
    chosen = list(_taken(tables, take))
    containers = type(model).CONTAINERS
    chosen.sort(key=lambda reading: (not reading.averaged, reading.table.joined,
                                     _rank(reading.table.place, containers)))
    fitting, nearest = _tried(search, chosen, take not in (None, "ema", "raw"))
    if not fitting:
        return _nearest(search, nearest)
    first = fitting[0]
    rivals = _different(fitting, first)
    unclear = [rival for rival in rivals if rival.reading.averaged == first.reading.averaged
               and _rank(rival.reading.table.place, containers) == _rank(first.reading.table.place, containers)]
    if unclear and take not in (None, "ema", "raw"):
        unclear = []
    if unclear:
        places = ", ".join(repr(one.reading.place or "the top") for one in (first, *unclear))
        raise ValueError(f"the checkpoint holds {len(unclear) + 1} different sets of weights that fit "
                         f"{type(model).__name__}: {places}; say which by take=PLACE (--take in the shell)")
    final = search.attempt(first.reading, real=True)
    if final.error:
        raise ValueError(f"the checkpoint cannot be converted: {final.error}") from final.error
    report = _report(final, rivals, containers)
    if take is None and not final.reading.averaged:
        final, report = _with_average(search, final, report, nearest)
    read = {first.reading.table.place, report.place, *(one.reading.table.place for one in rivals)}
    left = [table.place for table in tables if table.place not in read and not table.joined
            and not (first.reading.table.joined and table.place.startswith(first.reading.table.place))]
    return final.state, replace(report, tables=tuple(place or "the top" for place in left))


def _with_average(search: Search, final: Attempt, report: LoadReport, others: list[Attempt],
                  ) -> tuple[Attempt, LoadReport]:
    """An average of the parameters alone, with the buffers of the weights beside it, where a checkpoint holds one."""
    parameters = {key for key, _ in search.model.named_parameters(remove_duplicate=False)}
    for other in others:
        if other.reading.averaged and other.error is None and not other.foreign and set(other.state) < set(search.own) \
                and other.matches == len(other.state) and parameters <= set(other.state):
            average = search.attempt(other.reading, real=True)
            count = len(search.own) - len(average.state)
            notes = (*average.notes, f"{count} buffers taken from {final.reading.place or 'the top'!r}")
            made = replace(average, state={**final.state, **average.state}, notes=notes)
            return made, replace(_report(made, [final], ()), others=(final.reading.place,))
    return final, report


def _taken(tables: list[Table], take: str | None) -> Iterator[Reading]:
    """The readings that a user allows.

    Raises:
        ValueError: there are none; lists the places.
    """
    found = [reading for table in tables for reading in readings(table)]
    if take in (None, "ema", "raw"):
        chosen = [one for one in found if take is None or one.averaged == (take == "ema")]
    else:
        chosen = [one for one in found if take in (one.table.place, one.place, one.prefix.rstrip("."))]
    if not chosen:
        places = ", ".join(dict.fromkeys(repr(table.place or "the top") for table in tables[:3 * SHOWN]))
        raise ValueError(f"the checkpoint holds no weights for take={take!r}; it holds {places}")
    yield from chosen


def _rank(place: str, containers: Iterable[str]) -> int:
    """Order of places: those of the family first, then the usual names of weights, then all others."""
    from photophone.loading.tables import RAW

    for index, name in enumerate(containers):
        if place == name:
            return index
    last = place.rpartition(".")[2]
    return 100 + RAW.index(last) if last in RAW else 99 if not place else 200


def _tried(search: Search, chosen: list[Reading], named: bool) -> tuple[list[Attempt], list[Attempt]]:
    """Attempts that fit, in order, and all others.

    Args:
        search: of the model.
        chosen: readings in order.
        named: whether a user named the place; then what lies beside it does not matter.
    """
    fitting, others, done = [], [], set()
    least = (len(search.own) - len(search.beside)) // 4  # conversions join three layers or split one, not more
    large = [reading for reading in chosen if len(reading.state) >= least] or chosen
    for reading in large[:ATTEMPTS]:
        if id(reading.table) in done and not reading.averaged:
            continue  # its whole fits: parts of it are not looked at
        attempt = search.attempt(reading, real=False)
        if attempt.error is not None and "meta" in str(attempt.error).lower():
            attempt = search.attempt(reading, real=True)
        fits = attempt.fits or (named and attempt.complete)
        (fitting if fits else others).append(attempt)
        if fits and not reading.rest:
            done.add(id(reading.table))
    return fitting, others


def _nearest(search: Search, others: list[Attempt]) -> tuple[State, LoadReport]:
    """The attempt that comes nearest, for the message of what is wrong with it."""
    form = partial_form([one.reading.table for one in others])
    if form:
        raise ValueError(f"the checkpoint holds {form}")
    for one in others:
        if isinstance(one.error, QuantizedError) and not one.reading.rest:
            raise one.error
    converted = [one for one in others if one.error is None]
    if not converted:
        raise ValueError(f"the checkpoint cannot be converted: {_words(others[0].error)}") from others[0].error
    beside = [one for one in converted if one.complete]
    if beside:
        places = " or ".join(dict.fromkeys(repr(one.reading.place) for one in beside))
        raise ValueError(f"the weights at {places} fit, but lie beside {len(beside[0].foreign)} other tensors, "
                         f"unexpected here: {'; '.join(beside[0].foreign[:SHOWN])}; take={places} (--take in the "
                         "shell) reads them alone")
    best = max(converted, key=lambda one: (one.matches, -len(one.state), not one.reading.prefix))
    whole = next(one for one in converted if one.reading.table.place == best.reading.table.place)
    if not best.matches or (whole.matches == best.matches and not whole.reading.prefix):
        best = whole
    final = search.attempt(best.reading, real=True)
    if final.error:
        raise ValueError(f"the checkpoint cannot be converted: {_words(final.error)}") from final.error
    return final.state, _report(final, [], ())


def _words(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]


def _different(fitting: list[Attempt], first: Attempt) -> list[Attempt]:
    """Attempts that read other tensors than the first, one for each place; a table inside another is none, where both
    fit without what only one of them holds."""
    found: dict[str, Attempt] = {}
    taken = {_identity(first)}
    for attempt in fitting[1:]:
        identity = _identity(attempt)
        same = attempt.reading.averaged == first.reading.averaged
        inside = same and any(identity <= other or identity >= other for other in taken)
        if identity not in taken and not inside and not _equal(attempt, first):
            taken.add(identity)
            found[attempt.reading.place] = attempt
    return list(found.values())


def _identity(attempt: Attempt) -> frozenset[int]:
    return frozenset(id(value) for value in attempt.reading.state.values())


def _equal(one: Attempt, other: Attempt) -> bool:
    """Whether two readings hold the same numbers."""
    mine, theirs = list(one.reading.state.values()), list(other.reading.state.values())
    return len(mine) == len(theirs) and all(first.shape == second.shape and torch.equal(first, second)
                                            for first, second in zip(mine, theirs))


def _report(attempt: Attempt, rivals: list[Attempt], containers: Iterable[str]) -> LoadReport:
    reading = attempt.reading
    notes = list(attempt.notes)
    official = reading.table.place in ("", *containers) and not reading.prefix and not attempt.left_out and not rivals \
        and not any("8 bits" in note or "tied" in note for note in notes)
    return LoadReport(place=reading.table.place, prefix=reading.prefix, averaged=reading.averaged,
                      others=tuple(one.reading.place for one in rivals), left_out=attempt.left_out,
                      values=reading.table.values, notes=tuple(notes), official=official, same=attempt.same,
                      renamed=attempt.renamed, dropped=attempt.dropped, made=attempt.made)
