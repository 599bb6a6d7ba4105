"""Every class that loads official checkpoints, with the small official weights of tests/goldens that it loads."""

import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from unittest.mock import patch

from photophone.loading.checkpoints import OriginalCheckpoint

GOLDENS = Path(__file__).parent / "goldens"


class Recorded(Exception):
    """Ends a part of a comparison as soon as its first model is asked for."""


@cache
def official_models():
    """{"system Class": (class, state, config, tensors of a second file)} of the recorded systems."""
    if str(GOLDENS) not in sys.path:
        sys.path.insert(0, str(GOLDENS))
    from golden import Golden, load_system

    found = {}

    def record(cls, source, content, take, config, beside=None):
        name = f"{folder.name} {cls.__name__}"
        found.setdefault(name, (cls, dict(content.values), dict(config), dict(beside or {})))
        raise Recorded

    for folder in sorted((GOLDENS / "data").iterdir()):
        if not (folder / "io.safetensors").exists() or not (GOLDENS / f"{folder.name}.py").exists():
            continue
        golden = Golden(folder)
        for part in (part for part in load_system(golden).parts if any(map(part.covers, golden.io))):
            with patch.object(OriginalCheckpoint, "load_content", classmethod(record)), suppress(Recorded):
                part.function(golden)
    return found


def official_variants(model_class):
    """[(state, config)] of a class, of all recorded models of it that differ in the names of their tensors."""
    if str(GOLDENS) not in sys.path:
        sys.path.insert(0, str(GOLDENS))
    from golden import Golden, load_system

    load, found = OriginalCheckpoint.load_content.__func__, {}

    def record(cls, source, content, take, config, beside=None):
        if issubclass(cls, model_class) and not beside:
            found.setdefault(frozenset(content.values), (dict(content.values), dict(config)))
        return load(cls, source, content, take, config, beside)

    for script in sorted(GOLDENS.glob("*.py")):
        folder = GOLDENS / "data" / script.stem
        if model_class.__name__ in script.read_text(encoding="utf-8") and (folder / "io.safetensors").exists():
            golden = Golden(folder)
            for part in (part for part in load_system(golden).parts if any(map(part.covers, golden.io))):
                with patch.object(OriginalCheckpoint, "load_content", classmethod(record)):
                    part.function(golden)
    return list(found.values())
