"""Chains whose loader and front lie in a file of their own, which is imported when one of their models is there."""

from __future__ import annotations

import importlib
from types import ModuleType

MODULES = {"Phonon": "phonon", "VoxInstructAR": "voxinstruct", "KallE": "kalle"}
"""Files (with "_front" behind the name) by the class of the speech generator.

Each has ``OTHERS``, further names of files that :meth:`photophone.TextToSpeechPipeline.from_original` takes, a function
``load_parts`` with the arguments of :func:`photophone.pipelines.phonon_front.load_parts`, and ``front(pipeline)``.
"""


def own_module(class_name: str) -> ModuleType | None:
    """The file for a class of speech generators, or None."""
    name = MODULES.get(class_name)
    return None if name is None else importlib.import_module(f"photophone.pipelines.{name}_front")
