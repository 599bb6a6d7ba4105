"""Nearest codes of 16,384 rows among 16,384, beside torch.cdist with argmin and vector-quantize-pytorch.

Repeats are interleaved; a ratio is the median of the ratios of the repeats. Memory is what the process grows by while
it searches, measured in a process of its own. Run it by ``benchmarks/cpu.py --part vq``.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from tables import Table
from torch import Tensor

from photophone.kernels.vq import nearest_code

ROWS = CODES = 16384
CHANNELS = (8, 32, 256)


def make_inputs(channels: int) -> tuple[Tensor, Tensor]:
    """Rows and codes from the same normal law."""
    generator = torch.Generator().manual_seed(channels)
    return (torch.randn(ROWS, channels, generator=generator), torch.randn(CODES, channels, generator=generator))


def make_peer(codebook: Tensor) -> Callable[[Tensor], Tensor]:
    """vector-quantize-pytorch with the same codes, in evaluation."""
    from vector_quantize_pytorch import VectorQuantize

    peer = VectorQuantize(dim=codebook.shape[1], codebook_size=len(codebook)).eval()
    with torch.no_grad():
        peer._codebook.embed.copy_(codebook[None])
        peer._codebook.initted.fill_(True)
    return lambda x: peer(x[None])[1][0]


def brute_force(x: Tensor, codebook: Tensor) -> Tensor:
    """What one writes without thinking: the whole matrix of distances."""
    return torch.cdist(x, codebook).argmin(-1)


def same_up_to_ties(x: Tensor, codebook: Tensor, index: Tensor, other: Tensor) -> bool:
    """Whether the codes that differ are equally near, to float32's rounding."""
    different = index != other
    x, first, second = x[different].double(), codebook[index[different]].double(), codebook[other[different]].double()
    a, b = (x - first).square().sum(-1), (x - second).square().sum(-1)
    return bool(((a - b).abs() <= 1e-5 * (1 + a)).all())


def grown_megabytes(channels: int) -> float:
    """What a process of its own grows by in one search, in MB."""
    script = f"import cpu_vq; print(cpu_vq.growth({channels}, {torch.get_num_threads()}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parent)
    return float(done.stdout)


def growth(channels: int, threads: int) -> float:
    """The peak of this process in one search over what it held before, in MB (Linux)."""
    torch.set_num_threads(threads)
    x, codebook = make_inputs(channels)
    nearest_code(x[:1024], codebook[:2048])  # loads what torch loads once
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    nearest_code(x, codebook)
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """A line of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


@torch.no_grad()
def run(repeats: int, clock: Callable[[], float] = time.perf_counter) -> Table:
    """A row for each number of channels."""
    rows = []
    for channels in CHANNELS:
        x, codebook = make_inputs(channels)
        peer = make_peer(codebook)
        ways = {"ours": partial(nearest_code, x, codebook), "cdist": partial(brute_force, x, codebook),
                "peer": partial(peer, x)}
        indices = {name: way() for name, way in ways.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                started = clock()
                way()
                times[name].append(clock() - started)
        middle = {name: statistics.median(values) for name, values in times.items()}
        ratios = [statistics.median(a / b for a, b in zip(times["ours"], times[name])) for name in ("cdist", "peer")]
        same = all(same_up_to_ties(x, codebook, indices["ours"], indices[name]) for name in ("cdist", "peer"))
        rows.append([channels, middle["ours"], middle["cdist"], *ratios, grown_megabytes(channels),
                     "equal up to ties" if same else "DIFFER"])
    return ("channels", "our seconds", "`cdist` and `argmin`", "ours to it", "to vector-quantize-pytorch", "extra MB",
            "indices"), rows
