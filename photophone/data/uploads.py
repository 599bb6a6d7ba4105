"""What strangers upload is decoded in a child process under limits. No torch here, and none in the child."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import numpy as np

from photophone.core.limits import DECODER_WALL_SECONDS
from photophone.data.upload_decoder import REFUSED

DECODERS = threading.BoundedSemaphore(2)
"""Decoding processes at a time."""


def run_decoder(kind: str, data: bytes, size: int) -> tuple[np.ndarray, int]:
    """Decode in a child process; see :mod:`photophone.data.upload_decoder`.

    Raises:
        ValueError: the child refused the data, was killed by a limit, or took too long.
    """
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    with DECODERS:
        try:
            child = subprocess.run([sys.executable, "-m", "photophone.data.upload_decoder", kind, str(size)],
                                   input=data, capture_output=True, timeout=DECODER_WALL_SECONDS, check=False,
                                   env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
        except subprocess.TimeoutExpired as error:
            raise ValueError("the file took too long to decode") from error
    if child.returncode == REFUSED:
        raise ValueError(child.stdout.decode("utf-8", "replace").strip() or "the file cannot be read")
    if child.returncode != 0:
        print(child.stderr.decode("utf-8", "replace"), file=sys.stderr)
        raise ValueError("the file cannot be decoded")
    rate = int.from_bytes(child.stdout[:4], "little")
    return np.load(io.BytesIO(child.stdout[4:]), allow_pickle=False), rate
