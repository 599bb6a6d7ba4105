"""The reader of hibari-tts: lexicon, tagger and the names of numbers, without the package's voice.

The front page of that package imports its voice, and scipy's transforms with it: a quarter of a second that nothing
here needs. So its folder ``g2p``, which imports nothing from outside itself, is loaded under a name of its own.
"""

from __future__ import annotations

import functools
import importlib
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

_NAME = "photophone_hibari_g2p"


@functools.cache
def hibari_g2p() -> ModuleType:
    """The module ``hibari.g2p``.

    Raises:
        ModuleNotFoundError: hibari-tts is not installed.
    """
    package = find_spec("hibari")
    if package is None or package.submodule_search_locations is None:
        raise ModuleNotFoundError("reading aloud needs hibari-tts: pip install 'hibari-tts>=0.2.1,<0.3'")
    folder = Path(next(iter(package.submodule_search_locations))) / "g2p"
    spec = spec_from_file_location(_NAME, folder / "__init__.py", submodule_search_locations=[str(folder)])
    module = module_from_spec(spec)
    sys.modules[_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_NAME]
        raise
    return module


@functools.cache
def hibari_numbers() -> ModuleType:
    """The module ``hibari.g2p.numbers``, the names of numbers."""
    hibari_g2p()
    return importlib.import_module(f"{_NAME}.numbers")
