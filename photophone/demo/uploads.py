"""What visitors upload: read into memory, decoded in a child process, deleted when refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from photophone.core.limits import DEMO_UPLOAD_BYTES
from photophone.data.uploads import run_decoder


@dataclass(frozen=True)
class Upload:
    """An uploaded file, not decoded.

    Args:
        data: its bytes, at most one more than ``DEMO_UPLOAD_BYTES``.
        file: where gradio stores it for the browser.
    """

    data: bytes
    file: Path


def take_bytes(component) -> None:
    """Make a gradio component hand uploads to event handlers as :class:`Upload`.

    gradio's own preprocessing would decode them in the server's process.
    """
    def preprocess(payload) -> Upload | None:
        if payload is None:
            return None
        file = Path(payload.path)
        try:
            with file.open("rb") as handle:
                return Upload(handle.read(DEMO_UPLOAD_BYTES + 1), file)
        except OSError:  # deleted: gradio keeps equal uploads of all visitors as one file
            return Upload(b"", file)

    component.preprocess = preprocess


def decode_upload(upload: Upload | None, kind: str, size: int = 0) -> tuple[np.ndarray, int]:
    """The samples of an upload; a refused one is deleted at once.

    Args:
        upload: of a component under :func:`take_bytes`.
        kind: "image" or "audio".
        size: of the image in pixels.

    Returns:
        uint8 (size, size, 3) and 0, or float32 (C, T) and the rate in Hz.

    Raises:
        ValueError: nothing was uploaded, or it is refused; the message is for the visitor.
    """
    if upload is None:
        raise ValueError("upload a picture first" if kind == "image" else "upload or record something first")
    if not isinstance(upload, Upload):  # a component that was not prepared by take_bytes
        raise TypeError(f"expected an Upload, got {type(upload).__name__}")
    if not upload.data:
        raise ValueError("the upload is empty, or was deleted; upload it again")
    try:
        return run_decoder(kind, upload.data, size)
    except ValueError:
        upload.file.unlink(missing_ok=True)
        raise
