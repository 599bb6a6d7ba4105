"""Installed versions that are known to misbehave for this package: what ``photophone doctor`` warns of.

Only what reaches a user stands here. What a library does and this package puts right is in docs/surprises.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version


@dataclass(frozen=True)
class Fault:
    """Versions that misbehave.

    Args:
        versions: requirements that all have to be met by what is installed, such as ("torch<2.13", "torchaudio>=2.11").
        what: goes wrong.
        way_out: what to do.
    """

    versions: tuple[str, ...]
    what: str
    way_out: str


FAULTS = (
    Fault(("torchaudio>=2.11.1", "torch<2.13"), "torchaudio does not load: its library needs a newer torch",
          "pip install -U torch"),
    Fault(("torch<2.12",), "streamed speech may differ from the whole by more than 1e-5",
          "pip install -U torch torchaudio"),
    Fault(("transformers<5.13",), "X-Codec 2 is missing", "pip install -U transformers"),
    Fault(("gradio<6.24",), "the demo's redirects and run history have faults", "pip install -U gradio"),
    Fault(("typer<0.16", "click>=8.2"), "commands print no help", "pip install -U typer"),
    Fault(("hibari-tts>=0.3",), "its phonemes come from a private class that may have moved",
          "pip install 'hibari-tts<0.3'"),
)


def installed_versions(names: set[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def known_faults(versions: Mapping[str, str] | None = None) -> list[str]:
    """A line for each fault of ``FAULTS`` that these versions have, None: those that are installed."""
    requirements = {fault: [Requirement(text) for text in fault.versions] for fault in FAULTS}
    if versions is None:
        versions = installed_versions({needed.name for rules in requirements.values() for needed in rules})
    lines = []
    for fault, rules in requirements.items():
        met = [needed.name in versions and needed.specifier.contains(Version(versions[needed.name]), prereleases=True)
               for needed in rules]
        if all(met):
            named = " with ".join(f"{needed.name} {versions[needed.name]}" for needed in rules)
            lines.append(f"{named}: {fault.what}; {fault.way_out}")
    return lines
