"""What loaders of chains that speak share: further files of a release, a vocabulary, a generator with its codec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from photophone.loading.chains import find_sources, read_config, settings_of
from photophone.loading.entry import Chain
from photophone.loading.hub import download
from photophone.loading.registry import find, load_original


def beside(name: str, folder: str | Path | None, file: str, hub: Mapping[str, Any],
           optional: bool = False) -> Path | None:
    """A further file of a release.

    Args:
        name: of the registry.
        folder: the published folder or a hub id; None: the registry's.
        file: its path in the release.
        hub: revision, cache_dir and local_files_only.
        optional: not every release has one; then None.

    Raises:
        ValueError: there is none.
    """
    source = folder or find(name).hub_id
    if Path(source).is_dir():
        path = Path(source) / file
        if path.is_file():
            return path
        if optional:
            return None
        raise ValueError(f"the folder {source} holds no {file}, which {name} needs")
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return download(str(source), file, hub.get("revision"), hub.get("cache_dir"),
                        bool(hub.get("local_files_only")))[0]
    except ValueError as error:
        if optional and isinstance(error.__cause__, EntryNotFoundError):
            return None
        raise


def vocabulary_place(name: str, folder: str | Path | None, subfolder: str, hub: Mapping[str, Any]) -> Path:
    """The folder of a vocabulary inside a release; from the hub its files are fetched one by one."""
    source = folder or find(name).hub_id
    if Path(source).is_dir():
        return Path(source) / subfolder
    from photophone.core.hub import snapshot

    files = [f"{subfolder}/{file}" for file in ("*.json", "*.txt")]
    return Path(snapshot(str(source), files, revision=hub.get("revision"), cache_dir=hub.get("cache_dir"),
                         local_files_only=bool(hub.get("local_files_only")))) / subfolder


def load_generator_and_codec(name: str, chain: Chain, files: Mapping[str, Any], folder: str | Path | None,
                             hub: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]
                             ) -> tuple[dict[str, Any], str | None]:
    """Both, of a chain that has nothing else, see :func:`photophone.pipelines.phonon_front.load_parts`.

    The sizes are those of the ``config.json`` of ``folder`` where there is one.
    """
    sources, commit = find_sources(chain, dict(files), folder, **hub)
    key, codec = chain.tokenizer
    codec_source = sources.pop(key)
    (own, source), = sources.items()
    settings = read_config(folder)
    generator = load_original(name, source, **{**settings_of(name, settings), **configs.get(own, {})})
    codec = load_original(codec, codec_source, **{**settings_of(codec, settings), **configs.get(key, {})})
    return {"speech_generator": generator, "codec": codec}, commit
