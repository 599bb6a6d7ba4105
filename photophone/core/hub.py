"""Folders of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def snapshot(repository: str, files: list[str], **hub: Any) -> Path:
    """The local copy of some files of a hub repository.

    Args:
        repository: owner/name.
        files: patterns of their names.
        **hub: options of ``huggingface_hub.snapshot_download``, such as ``revision``.

    Raises:
        OSError: they cannot be had; the message says why.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repository, allow_patterns=files, **hub))
    except (HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OSError(f"{repository} is neither a folder nor a repository that can be downloaded: {reason}") from error
