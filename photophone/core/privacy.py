"""What the libraries below would tell their makers, and where they would write: all of it is switched here, once.

``import photophone`` applies it, before anything can import those libraries. No torch here.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

TELLING_ONNXRUNTIME = (1, 29)
"""The first version of onnxruntime that writes a device id and calls its maker on all systems."""


@dataclass(frozen=True)
class Switch:
    """A variable of the environment that a library reads when it is imported.

    Args:
        name, value: of the variable.
        library: who reads it.
        stops: what it stops.
    """

    name: str
    value: str
    library: str
    stops: str


SWITCHES = (
    Switch("ORT_DISABLE_TELEMETRY", "1", "onnxruntime (below hibari-tts, faster-whisper, speechmos)",
           "a device id and events under ~/.cache/Microsoft, and their sending"),
    Switch("HF_HUB_DISABLE_TELEMETRY", "1", "huggingface_hub, diffusers, transformers, gradio", "reports of use"),
    Switch("GRADIO_ANALYTICS_ENABLED", "False", "gradio", "reports of use, and the look for a newer version"),
    Switch("RAY_USAGE_STATS_ENABLED", "0", "ray, where it is used", "reports of use"),
    Switch("DO_NOT_TRACK", "1", "all that keep to this convention", "reports of use"),
)
"""One for each library that would tell something."""

CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Where libraries keep what they compiled: folders of ours instead of the temporary and the home folder."""
COMMAND_CACHES = {"MPLCONFIGDIR": "matplotlib", "NUMBA_CACHE_DIR": "numba"}
"""The same for commands and scripts alone: a program that imports photophone keeps its own settings of matplotlib."""


def cache_folder() -> Path:
    """The only folder that is written without being asked for: ``~/.cache/photophone``, or below ``XDG_CACHE_HOME``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(os.path.expanduser("~"), ".cache")) / "photophone"


def keep_quiet() -> None:
    """Switch reports off and choose caches, for libraries that are imported from now on.

    A variable that is set already is the user's choice and stays. A warning tells of a library that cannot be stopped
    any more because it was imported before.
    """
    if "ORT_DISABLE_TELEMETRY" not in os.environ:
        _warn_of_onnxruntime()
    for switch in SWITCHES:
        os.environ.setdefault(switch.name, switch.value)
    _choose_caches(CACHES)


def keep_commands_quiet() -> None:
    """The same for a command or script, whose process is all ours."""
    keep_quiet()
    _choose_caches(COMMAND_CACHES)


def _choose_caches(names: dict[str, str]) -> None:
    folder = cache_folder()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return  # a home that cannot be written: the libraries take the temporary folder
    for name, inner in names.items():
        os.environ.setdefault(name, str(folder / inner))


def _warn_of_onnxruntime() -> None:
    loaded = sys.modules.get("onnxruntime")
    version = re.match(r"(\d+)\.(\d+)", getattr(loaded, "__version__", ""))
    if version and tuple(map(int, version.groups())) >= TELLING_ONNXRUNTIME:
        warnings.warn("onnxruntime was imported before photophone, so it reports to its maker already; import "
                      "photophone first, or set ORT_DISABLE_TELEMETRY=1 in the environment", RuntimeWarning,
                      stacklevel=3)
