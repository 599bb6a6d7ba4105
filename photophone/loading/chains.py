"""What pipelines share that are built of original checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from photophone.core.weight_files import read_json_object
from photophone.loading.entry import Chain
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import REGISTRY, find


def check_chain(family: str, name: str, files: Iterable[str], others: tuple[str, ...] = ()) -> Chain:
    """The chain of a registered generator that a pipeline class runs.

    Args:
        family: name of the class.
        name: of the generator in the registry.
        files: names of the checkpoints that the user gave.
        others: further names that may be among them.

    Raises:
        ValueError: an unknown name, one without a chain or for another class, or a checkpoint that is none of its.
    """
    chain = find(name).chain
    if chain is None:
        known = [entry.name for entry in REGISTRY.values() if entry.chain]
        raise ValueError(f"{name} has no pipeline from original checkpoints; these have: {', '.join(known)}")
    if chain.pipeline != family:
        raise ValueError(f"{name} is no model for {family}; use {chain.pipeline}")
    allowed = [*chain.files, *others]
    if unknown := sorted(set(files) - set(allowed)):
        raise ValueError(f"{name} has no checkpoint named {', '.join(unknown)}; it is made of {', '.join(allowed)}")
    return chain


def find_sources(chain: Chain, files: dict[str, Any], folder: str | Path | None = None,
                 **hub: Any) -> tuple[dict[str, Any], str | None]:
    """Where the checkpoints of a chain are.

    Args:
        chain: of the registry.
        files: what users gave by the chain's names: a file, a folder, a hub id, or what a file holds. What lies in the
            file of another (``chain.within``) need not be given.
        folder: a folder or hub id for those that they did not give; None: the hub id of each entry.
        hub: of :func:`photophone.loading.hub.find_checkpoint`.

    Returns:
        The file, folder or content of each, and the commits of what came from the hub (None for local files).

    Raises:
        ValueError: one cannot be found.
    """
    sources = {}
    commits = []
    for key, part in chain.files.items():
        given = files.get(key) if files.get(key) is not None else files.get(chain.within.get(key))
        source = folder if given is None else given
        if not isinstance(source, dict):
            source, commit = find_checkpoint(find(part), source, **hub)
            commits += [commit] if commit else []
        sources[key] = source
    return sources, ", ".join(dict.fromkeys(commits)) or None


def read_config(folder: str | Path | None) -> dict[str, Any] | None:
    """The official ``config.json`` of a local folder, or None where there is none.

    Raises:
        ValueError: it is no JSON object.
    """
    file = Path(folder or "") / "config.json"
    if folder is None or not file.is_file():
        return None
    settings = OfficialSettings(read_json_object(file))
    settings.file = file
    return settings


class OfficialSettings(dict):
    """Settings of an official ``config.json``, and the file, which messages name."""

    file: Path | None = None


def settings_of(name: str, official: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of a registered model's class for official settings, which replace those of the registry.

    Raises:
        ValueError: a part of the settings is missing or of another kind, or a value is outside its range; names the
            file, the key and the way out.
    """
    from photophone.core.config import check_config, in_short

    if official is None:
        return {}
    file = getattr(official, "file", None) or "config.json"
    model_class = find(name).load_class()
    out = f"take the config.json that was published with {name}, or leave the file out for the registered sizes"
    try:
        settings = model_class.convert_config(official)
        check_config(model_class, settings)
        return settings
    except KeyError as error:
        raise ValueError(f"{file} lacks {error.args[0]!r}, which {name} needs; {out}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    except (TypeError, AttributeError, IndexError, ArithmeticError) as error:
        odd = ", ".join(f"{key}={value!r:.40}" for key, value in official.items()
                        if value is None or isinstance(value, list) or value in ("", 0)) or "see its values"
        raise ValueError(f"{file} is not the config of {name}: a value is of another kind "
                         f"({in_short(error)}; {odd}); {out}") from error
