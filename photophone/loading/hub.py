"""Where the checkpoint of a registered model is: a file, a folder, or a hub repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from photophone.loading.entry import ModelEntry
from photophone.loading.names import MAIN_FILES, SUFFIXES, other_names
from photophone.loading.saved import is_saved_model


def find_checkpoint(entry: ModelEntry, source: str | Path | None = None, *, revision: str | None = None,
                    cache_dir: str | Path | None = None, local_files_only: bool = False) -> tuple[Path, str | None]:
    """The official checkpoint of a model.

    Args:
        entry: of the registry.
        source: a file; a folder with the file that the entry names or with weights under a name that trainings give
            them, or that a model of ours was saved to; a hub id; None for the entry's own hub id.
        revision, cache_dir, local_files_only: of the hub download.

    Returns:
        The file or folder, and the commit of a hub repository (None for local ones).

    Raises:
        ValueError: there is no such file, or the entry names no hub id.
    """
    wanted = entry.files[0] if entry.files else None
    if source is None:
        if entry.hub_id is None:
            raise ValueError(f"the weights of {entry.name} are on no hub; give their file ({entry.summary})")
        source = entry.hub_id
    path = Path(source)
    if path.is_file():
        return path, None
    if path.is_dir():
        if is_saved_model(path):
            return path, None
        return find_in_folder(entry, path), None
    # a hub id is "owner/name"; a path that is not there is more likely a typing error
    if str(source).count("/") != 1 or str(source).startswith((".", "/")) or path.suffix in SUFFIXES:
        raise ValueError(f"no such checkpoint file: {source}")
    return _download_any(str(source), wanted or "model.safetensors", revision, cache_dir, local_files_only)


def _download_any(repository: str, wanted: str, *options: Any) -> tuple[Path, str | None]:
    """The published file, or in copies of a release the other usual one."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return download(repository, wanted, *options)
    except ValueError as error:
        swapped = {"model.safetensors": "pytorch_model.bin", "pytorch_model.bin": "model.safetensors"}.get(wanted)
        if swapped is None or not isinstance(error.__cause__, EntryNotFoundError):
            raise
        try:
            return download(repository, swapped, *options)
        except ValueError:
            raise error from error.__cause__


def find_in_folder(entry: ModelEntry, folder: Path) -> Path:
    """The weights of a registered model in a folder: under the published name, or one that trainings give them.

    Raises:
        ValueError: there are none, or in a form that is not read; says what was looked for.
    """
    from photophone.loading.files import main_file
    from photophone.loading.registry import REGISTRY

    wanted = entry.files[0] if entry.files else None
    if wanted is not None:
        for name in (wanted, Path(wanted).name, *other_names(wanted)):
            if (folder / name).is_file():
                return folder / name
    # a folder of a release may hold parts beside each other: one that is named otherwise is not guessed
    if wanted is not None and wanted not in MAIN_FILES and any((folder / name).is_file() for name in MAIN_FILES):
        raise ValueError(f"the folder {folder} holds no {wanted} of {entry.name}; give its file")
    try:
        return main_file(folder, {file for other in REGISTRY.values() for file in other.files} - {wanted})
    except ValueError as error:
        raise ValueError(f"the folder {folder} holds no {wanted or 'checkpoint'} of {entry.name}: {error}") from error


def download(repository: str, file: str, revision: str | None, cache_dir: str | Path | None,
             local_files_only: bool) -> tuple[Path, str | None]:
    """A file of a hub repository in the local cache, and its commit.

    Raises:
        ValueError: it cannot be had; the message says why.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = Path(hf_hub_download(repository, file, revision=revision, cache_dir=cache_dir,
                                    local_files_only=local_files_only))
    except (HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{file} of {repository} cannot be downloaded: {reason}") from error
    return path, path.parent.name if path.parent.parent.name == "snapshots" else None
