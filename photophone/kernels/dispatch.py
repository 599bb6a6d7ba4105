"""The one rule that chooses the code of an operation: Triton, a faster path for the processor, or the reference.

Triton is used when all tensors lie on one CUDA device of capability 8.0 or higher, their dtypes are supported, and the
kernel has a backward pass where one is needed. Otherwise operations in CPU_PATHS take a path of their own on the
processor, and everything else is the reference, which is plain torch. Under ``torch.compile`` it is the reference as
well: inductor fuses it with what stands around it.

The environment variable PHOTOPHONE_KERNELS is read once: "reference" forces the reference everywhere, "triton" takes
tensors of the processor too, which needs Triton's interpreter (TRITON_INTERPRET=1) and is for tests.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

ENVIRONMENT = "PHOTOPHONE_KERNELS"
MODES = ("auto", "reference", "triton")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)
LOWEST_CAPABILITY = (8, 0)
OPERATIONS = {
    "vq": "nearest code, residual and multi-codebook lookup",
    "adaln": "norm, modulation, gate and residual",
    "solver": "guidance and solver step",
    "sampling": "filters and draw over the vocabulary",
    "rotary": "rotary positions and key-value cache",
    "snake": "Snake activation and its anti-aliasing filters",
    "overlap_add": "inverse STFT's overlap-add",
    "pack": "binary and scalar quantization with packed indices",
}
"""Operations that have a Triton kernel."""
CPU_PATHS: dict[str, str] = {"vq": "tiles that stay in the cache"}
"""Operations with a faster path on the processor, and what it is."""


def read_mode(text: str | None) -> str:
    """The mode that the environment variable asks for, "auto" when it is unset or empty.

    Raises:
        ValueError: for a word that is not in MODES.
    """
    if text and text not in MODES:
        raise ValueError(f"{ENVIRONMENT} must be one of {', '.join(MODES)}, got {text!r}")
    return text or "auto"


MODE = read_mode(os.environ.get(ENVIRONMENT))


def interpreted() -> bool:
    """Whether Triton runs its kernels in its interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def device_problem(index: int) -> str | None:
    """Why Triton is not used on CUDA device ``index``, or None."""
    if find_spec("triton") is None:
        return "triton is not installed"
    if torch.version.hip is not None:
        return "the kernels are not checked on ROCm"
    capability = torch.cuda.get_device_capability(index)
    if capability < LOWEST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below {LOWEST_CAPABILITY[0]}.0"
    return None


def choose(operation: str, *tensors: Tensor | None, backward: bool = False) -> str:
    """"triton", "cpu" or "reference" for one call of an operation.

    Args:
        operation: a name in OPERATIONS.
        tensors: all inputs; None stands for one that is absent.
        backward: the kernel has a backward pass.

    Raises:
        ValueError: for an operation that is not in OPERATIONS.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, got {operation!r}")
    if MODE == "reference" or torch.compiler.is_compiling():
        return "reference"
    given = [tensor for tensor in tensors if tensor is not None]
    if MODE != "triton" and not given[0].is_cuda:
        return "cpu" if operation in CPU_PATHS and not any(tensor.is_cuda for tensor in given) else "reference"
    if not _fits(given) or (not backward and torch.is_grad_enabled() and any(t.requires_grad for t in given)):
        return "reference"
    return "triton"


def _fits(tensors: list[Tensor]) -> bool:
    device = tensors[0].device
    for tensor in tensors:
        if tensor.device != device or not tensor.numel() or (tensor.is_floating_point() and tensor.dtype not in FLOATS):
            return False
    return interpreted() if device.type == "cpu" else device.type == "cuda" and device_problem(device.index) is None


def report() -> dict[str, str]:
    """For each operation, which code this machine will use and why, in a few words: what ``photophone doctor`` says."""
    if MODE == "reference":
        return dict.fromkeys(OPERATIONS, f"reference ({ENVIRONMENT}=reference)")
    count = torch.cuda.device_count()
    problems = {index: device_problem(index) for index in range(count)}
    usable = [f"cuda:{index}" for index, problem in problems.items() if problem is None]
    fallback = {name: f"cpu: {CPU_PATHS[name]}" if name in CPU_PATHS else "reference" for name in OPERATIONS}
    if usable:
        return {name: f"triton on {', '.join(usable)}; elsewhere {fallback[name]}" for name in OPERATIONS}
    reason = problems[0] if count else "no CUDA device"
    return {name: f"{fallback[name]} ({reason})" for name in OPERATIONS}
