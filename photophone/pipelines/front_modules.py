"""Systems that speak: the loader and the front of each lie in a file of their own, imported when its model is there."""

from __future__ import annotations

import importlib
from types import ModuleType

MODULES = {"VoxCPM": "voxcpm", "PocketTTS": "pocket", "Phonon": "phonon", "CosyVoiceRelativeLM": "cosyvoice",
           "CosyVoiceQwenLM": "cosyvoice", "SparkTTS": "spark", "DelayedSpeech": "stream",
           "VoxInstructAR": "voxinstruct", "KallE": "kalle"}
"""Files (with "_front" behind the name) by the class of the speech generator.

Each has ``OTHERS``, further names of files that :meth:`photophone.TextToSpeechPipeline.from_original` takes, a function
``load_parts`` with the arguments of :func:`photophone.pipelines.phonon_front.load_parts`, and ``front(pipeline)``.
"""


def front_module(class_name: str) -> ModuleType | None:
    """The file for a class of speech generators, or None."""
    name = MODULES.get(class_name)
    return None if name is None else importlib.import_module(f"photophone.pipelines.{name}_front")
