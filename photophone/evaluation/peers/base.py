"""Systems of other people that are measured beside ours, where they are installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

System = TypeVar("System")


@dataclass(frozen=True)
class Peers(Generic[System]):
    """Systems of one kind.

    Args:
        systems: by name.
        attempt: a short use of a system, which raises where it does not work here.
    """

    systems: Mapping[str, System]
    attempt: Callable[[System], object]

    def available(self, names: list[str] | None = None) -> tuple[dict[str, System], dict[str, str]]:
        """Systems that work here, each tried once, and why the others do not.

        Args:
            names: None for all.

        Raises:
            ValueError: an unknown name.
        """
        names = list(self.systems) if names is None else names
        if unknown := sorted(set(names) - set(self.systems)):
            raise ValueError(f"unknown peers {', '.join(unknown)}; known are {', '.join(self.systems)}")
        usable, missing = {}, {}
        for name in names:
            try:
                self.attempt(self.systems[name])
                usable[name] = self.systems[name]
            except (ImportError, OSError, RuntimeError, AttributeError) as error:
                missing[name] = str(error).splitlines()[0]
        return usable, missing
