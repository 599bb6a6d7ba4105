"""Speed of the kernels on a GPU: share of the bandwidth, and ratios to eager torch, torch.compile and named peers.

Peers are measured in the same run where they have the operation: vector-quantize-pytorch (nearest code) and
Liger-Kernel (RMS norm). Both are optional: pip install vector-quantize-pytorch liger-kernel. Also times every tile of
the lookup and of the draw, which is how the rules in photophone/kernels/fused are chosen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

Run = Callable[[], object]


def median_us(run: Run, repeats: int) -> float:
    """Median microseconds of ``run`` by CUDA events, the second-level cache emptied before each."""
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(1000 * start.elapsed_time(end))
    return statistics.median(times)


def copy_bandwidth(repeats: int) -> float:
    """Bytes a second that a copy of 1 GB moves, reads and writes together."""
    source = torch.empty(2**30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / median_us(lambda: target.copy_(source), repeats) * 1e6


def by_reference(run: Run) -> Run:
    """The same call with the kernels switched off."""
    from photophone.kernels import dispatch

    def call() -> object:
        mode, dispatch.MODE = dispatch.MODE, "reference"
        try:
            return run()
        finally:
            dispatch.MODE = mode
    return call


def random(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cuda") -> Tensor:
    """Normal draws on a device."""
    return torch.randn(*shape, device=device).to(dtype)


def operations(device: str = "cuda") -> dict[str, tuple[Run, float, dict[str, Run]]]:
    """By name: the public function on random inputs, the bytes it must move, and peers."""
    from photophone.core.noise import GlobalNoise
    from photophone.kernels import adaln, overlap_add, pack, rotary, sampling, snake, solver, vq
    from photophone.layers.rotary import sequence_rotary

    half, noise, made = torch.bfloat16, GlobalNoise(device), {}
    normal = partial(random, device=device)
    for dim in (8, 32, 256):
        x, codes = normal(16384, dim), normal(16384, dim)
        made[f"vq nearest N=16384 K=16384 D={dim}"] = (
            lambda x=x, c=codes: vq.nearest_code(x, c), 2 * x.numel() * 4 + 8 * len(x), vq_peers(x, codes))
    x, books = normal(16384, 128), normal(8, 1024, 128)
    made["vq residual N=16384 K=1024 D=128 Q=8"] = (lambda: vq.residual_lookup(x, books), x.numel() * 8 + books.numel(),
                                                    {})
    t, mod = normal(64, 256, 1024, dtype=half), [normal(64, 1, 1024, dtype=half) for _ in range(3)]
    h = normal(64, 256, 1024, dtype=half)
    size = t.numel() * 2
    made["adaln norm-modulate M=16384 W=1024"] = (lambda: adaln.norm_modulate(t, *mod[:2]), 2 * size, {})
    made["adaln gate-residual-norm M=16384 W=1024"] = (
        lambda: adaln.gate_residual_norm(t, mod[2], h, *mod[:2]), 4 * size, {})
    weight = normal(1024, dtype=half)
    made["adaln rms-norm M=16384 W=1024"] = (
        lambda: adaln.norm_modulate(t, weight=weight, rms=True), 2 * size, rms_peers(t, weight))
    state, outputs, draws = normal(64, 256, 16), normal(128, 256, 32), normal(64, 256, 16)
    cond, uncond = outputs.chunk(2)
    made["solver ddpm N=262144"] = (lambda: solver.ddpm_step(
        state, cond, uncond, 2.0, (1.1, 0.5, 0.4, 0.5, -3.0, -1.0), draws, 1.0), 24 * state.numel(), {})
    logits = normal(32, 16384)
    made["sampling all filters M=16 V=16384"] = (lambda: sampling.draw(
        *logits.chunk(2), 2.0, noise, temperature=0.9, top_k=900, top_p=0.96, min_p=0.05), 16 * 16384 * 12, {})
    heads, table = normal(16, 12, 1024, 64, dtype=half), sequence_rotary(1024, 64, device=device)
    made["rotary rotate B=16 H=12 N=1024 d=64"] = (lambda: rotary.rotate(heads, table), 4 * heads.numel(), {})
    qkv, cache = normal(64, 36, 1, 64, dtype=half), normal(2, 64, 12, 1024, 64, dtype=half)
    made["rotary into-cache B=64 H=12 d=64"] = (lambda: rotary.rotate_into_cache(
        qkv, table[:1], cache, 17, num_heads=12), 4 * qkv.numel(), {})
    wave, alpha = normal(8, 96, 48000), normal(1, 96, 1).abs() + 0.1
    made["snake B=8 C=96 T=48000"] = (lambda: snake.snake(wave, alpha), 8 * wave.numel(), {})
    frames, window = normal(8, 1000, 1024).transpose(1, 2), torch.hann_window(1024, device=device)
    made["overlap_add B=8 L=1024 F=1000 hop=256"] = (lambda: overlap_add.windowed_overlap_add(
        frames, window, 256, trim=384), 4 * frames.numel() * 1.25, {})
    bits, digits = normal(64, 1024, 18), normal(64, 1024, 8)
    levels = torch.full((8,), 4, device=device)
    made["pack signs M=65536 D=18"] = (lambda: pack.quantize_signs(bits, 1, 1.0), 8 * bits.numel() + 8 * 65536, {})
    made["pack levels M=65536 C=8"] = (lambda: pack.quantize_levels(
        digits, [4] * 8, levels, eps=1e-3, twice=True, want_values=False), 4 * digits.numel() + 8 * 65536, {})
    return made


def vq_peers(x: Tensor, codes: Tensor) -> dict[str, Run]:
    """torch.cdist, and vector-quantize-pytorch's layer with the same codes where it is installed."""
    peers: dict[str, Run] = {"cdist": lambda: torch.cdist(x, codes).argmin(-1)}
    if find_spec("vector_quantize_pytorch"):
        from vector_quantize_pytorch import VectorQuantize

        layer = VectorQuantize(x.shape[1], codebook_size=len(codes)).to(x.device).eval()
        layer.codebook = codes
        peers["vector-quantize-pytorch"] = lambda: layer(x[None])
    return peers


def rms_peers(x: Tensor, weight: Tensor) -> dict[str, Run]:
    """Liger-Kernel's RMS norm where it is installed."""
    if not find_spec("liger_kernel"):
        return {}
    from liger_kernel.transformers.functional import liger_rms_norm

    return {"Liger-Kernel": lambda: liger_rms_norm(x, weight, 1e-5)}


def tiles(repeats: int) -> None:
    """Time every tile of the kernels that have several."""
    from photophone.kernels.fused import sampling, vq

    for dim in (8, 64, 256):
        x, codes = random(1, 16384, dim), random(1, 16384, dim)
        for name, config in vq.CONFIGS.items():
            time = median_us(lambda x=x, c=codes, t=config: vq.lookup(x, c, False, True, False, None, t), repeats)
            print(f"tile of vq D={dim}: {name:<10} {time:10.1f} us")
    for vocabulary in (2048, 16384, 65536):
        logits, uniform = random(2, 16, vocabulary), torch.rand(16, vocabulary, device="cuda")
        for name, config in sampling.CONFIGS.items():
            time = median_us(lambda z=logits, u=uniform, t=config: sampling.sample(
                z[0], z[1], 2.0, 0.9, 900, 0.96, -3.0, u, t), repeats)
            print(f"tile of sampling V={vocabulary}: {name:<10} {time:10.1f} us")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--only", default="", help="operations whose name has this in it")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("kernels_gpu.py measures on a CUDA GPU and finds none; benchmarks/kernels_aot.py compiles without one")
        return 0
    bandwidth = copy_bandwidth(arguments.repeats)
    print(f"{torch.cuda.get_device_name()}: a copy moves {bandwidth / 1e9:.0f} GB/s")
    print(f"{'operation':<44} {'us':>9} {'of copy':>8} {'eager':>7} {'compile':>8}  peers, all as times of ours")
    with torch.no_grad():
        for name, (run, moved, peers) in operations().items():
            if arguments.only not in name:
                continue
            ours = median_us(run, arguments.repeats)
            eager = median_us(by_reference(run), arguments.repeats) / ours
            compiled = median_us(torch.compile(run), arguments.repeats) / ours  # the reference: see dispatch.py
            ratios = {peer: median_us(call, arguments.repeats) / ours for peer, call in peers.items()}
            others = ", ".join(f"{peer} {ratio:.2f}" for peer, ratio in ratios.items())
            share = moved / ours * 1e6 / bandwidth
            print(f"{name:<44} {ours:9.1f} {share:8.0%} {eager:7.2f} {compiled:8.2f}  {others}")
        tiles(arguments.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
