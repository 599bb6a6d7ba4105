"""The launches that the kernel benchmarks compile and time: shapes of real models, with the work each must do.

A case builds its tensors on any device, the meta device included, and calls the same host code as the package does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from photophone.kernels.fused import adaln, overlap_add, pack, rotary, sampling, snake, solver, vq

Make = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One operation at one shape.

    Args:
        name: family, operation, dtype and shape, separated by spaces.
        run: called with a function ``make(*shape, dtype=float32)`` that gives tensors; runs the operation once.
        moved: bytes that must be moved.
        operations: operations that must be done.
        kernel: the kernel that the work is counted for; its name without ``_kernel``.
        quick: belongs to the short list that the test suite compiles.
    """

    name: str
    run: Callable[[Make], object]
    moved: float
    operations: float
    kernel: str
    quick: bool = field(default=False)


BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
SHORT = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
HALF, FULL = torch.bfloat16, torch.float32


def vq_cases() -> Iterator[Case]:
    """Lookups: every tile, widths of 8 to 512, statistics, several codebooks, residual stages."""
    rows, codes = 16384, 16384
    for dim, dtype, names in ((8, FULL, ["narrow", "few rows"]), (32, FULL, ["narrow"]), (64, FULL, ["wide"]),
                              (256, FULL, ["wide", "few rows"]), (512, FULL, ["wide"]), (8, HALF, ["narrow"]),
                              (256, HALF, ["wide"])):
        for name in names:
            n = rows if name != "few rows" else 2048
            size = BYTES[dtype]
            yield Case(f"vq lookup {SHORT[dtype]} N={n} K={codes} D={dim} tile={name.replace(' ', '-')}",
                       lambda make, n=n, dim=dim, dtype=dtype, name=name: vq.lookup(
                           make(1, n, dim, dtype=dtype), make(1, codes, dim, dtype=dtype), False, True, False, None,
                           vq.CONFIGS[name]),
                       n * dim * (size + 4) + 8 * n + codes * dim * size, n * codes * (2 * dim + 5), "lookup",
                       quick=dim in (8, 256))
    yield Case("vq lookup-statistics float32 N=16384 K=8192 D=32 masked cosine",
               lambda make: vq.lookup(make(1, rows, 32), make(1, 8192, 32), True, True, True,
                                      make(rows, dtype=torch.bool)),
               rows * 32 * 12 + 8 * rows + 8192 * 32 * 8, rows * 8192 * 69, "lookup", quick=True)
    yield Case("vq multi-codebook float32 N=16384 K=4096 D=8 Q=8",
               lambda make: vq.lookup(make(rows, 8, 8).transpose(0, 1), make(8, 4096, 8), True, True, False, None),
               8 * (rows * 8 * 8 + 8 * rows + 4096 * 32), 8 * rows * 4096 * 21, "lookup")
    for dim, name in ((8, "narrow"), (64, "wide"), (256, "wide"), (128, "few rows")):
        n = rows if name != "few rows" else 1024
        yield Case(f"vq residual float32 N={n} K=1024 D={dim} Q=8 tile={name.replace(' ', '-')}",
                   lambda make, n=n, dim=dim, name=name: vq.residual_lookup(
                       make(n, dim), make(8, 1024, dim), False, False, None, vq.CONFIGS[name]),
                   n * dim * 8 + 64 * n + 8 * 1024 * dim * 4, 8 * n * 1024 * (2 * dim + 5), "residual",
                   quick=dim == 128)


def _block(make: Make, shape: tuple[int, ...], shared: tuple[int, ...], dtype: torch.dtype, *, norm: int,
           gate: bool = False, weight: bool = False, bias: bool = False, modulate: bool = True, silu: bool = False,
           backward: bool = False) -> None:
    width = shape[-1]
    def tensor(*sizes: int) -> Tensor:
        return make(*sizes, dtype=dtype).requires_grad_(backward)
    x, h = tensor(*shape), tensor(*shape) if gate else None
    g, shift, scale = tensor(*shared) if gate and modulate else None, *(
        tensor(*shared) if modulate else None for _ in range(2))
    w, b = tensor(width) if weight else None, tensor(width) if bias else None
    outputs = adaln.FusedBlock.apply(x, h, g, shift, scale, w, b, 1.0, norm, 1e-6, silu, (dtype, dtype))
    if backward:
        torch.autograd.backward([o for o in outputs if o is not None],
                                [make(*shape, dtype=dtype) for o in outputs if o is not None])


def adaln_cases() -> Iterator[Case]:
    """Blocks of MAR's head (a modulation a token), of DiT (one an image) and of Llama (none), both passes."""
    for dtype in (FULL, HALF):
        size = BYTES[dtype]
        for rows, width, quick in ((16384, 1024, True), (4096, 4096, False)):
            unit = rows * width * size
            shape = (64, rows // 64, width)
            named = f"{SHORT[dtype]} M={rows} W={width}"
            yield Case(f"adaln norm-modulate {named}", lambda make, s=shape, d=dtype: _block(
                make, s, s, d, norm=adaln.LAYER, weight=True, bias=True), 4 * unit, 10 * rows * width, "forward",
                quick=quick)
            yield Case(f"adaln norm-modulate-backward {named}", lambda make, s=shape, d=dtype: _block(
                make, s, s, d, norm=adaln.LAYER, weight=True, bias=True, backward=True), 6 * unit, 20 * rows * width,
                "backward", quick=quick)
            shared = (64, 1, width)
            yield Case(f"adaln gate-residual-norm {named} shared", lambda make, s=shape, t=shared, d=dtype: _block(
                make, s, t, d, norm=adaln.LAYER, gate=True), 4 * unit, 12 * rows * width, "forward", quick=quick)
            yield Case(f"adaln gate-residual-norm-backward {named} shared",
                       lambda make, s=shape, t=shared, d=dtype: _block(make, s, t, d, norm=adaln.LAYER, gate=True,
                                                                       backward=True), 6 * unit, 24 * rows * width,
                       "backward", quick=quick)
    yield Case("adaln rms-modulate-silu bfloat16 M=16384 W=1024 shared", lambda make: _block(
        make, (64, 256, 1024), (64, 1, 1024), HALF, norm=adaln.RMS, silu=True, backward=True),
        2 * 2 * 16384 * 1024, 14 * 16384 * 1024, "forward")
    yield Case("adaln residual-rms bfloat16 M=2 W=768 decode", lambda make: _block(
        make, (2, 1, 768), (), HALF, norm=adaln.RMS, gate=True, weight=True, modulate=False), 4 * 2 * 2 * 768,
        8 * 2 * 768, "forward", quick=True)
    yield Case("adaln gate-residual float32 M=16384 W=1024", lambda make: _block(
        make, (64, 256, 1024), (64, 256, 1024), FULL, norm=adaln.NO, gate=True, backward=True), 16 * 16384 * 1024,
        2 * 16384 * 1024, "forward")
    yield Case("adaln everything float32 M=4096 W=4096 shared", lambda make: _block(
        make, (16, 256, 4096), (16, 1, 4096), FULL, norm=adaln.LAYER, gate=True, weight=True, bias=True, backward=True),
        16 * 4096 * 4096, 14 * 4096 * 4096, "forward")


def solver_cases() -> Iterator[Case]:
    """Steps of flow and diffusion heads over 64 x 256 tokens of 16 channels, guided."""
    size = 64 * 256 * 16
    yield Case("solver euler float32 N=262144", lambda make: solver.linear_step(
        make(64, 256, 16), make(64, 256, 16), make(64, 256, 16), 2.0, 1.0, -0.1, None, 0.0), 16 * size, 5 * size,
        "linear_step", quick=True)
    yield Case("solver euler-maruyama bfloat16 N=262144", lambda make: solver.linear_step(
        make(64, 256, 16), make(64, 256, 16, dtype=HALF), make(64, 256, 16, dtype=HALF), make(64), 0.9, -0.1,
        make(64, 256, 16), 0.2), 16 * size, 7 * size, "linear_step")
    yield Case("solver ddpm float32 N=262144", lambda make: solver.ddpm_step(
        make(64, 256, 16), make(64, 256, 32), make(64, 256, 32), 2.0, (1.1, 0.5, 0.4, 0.5, -3.0, -1.0),
        make(64, 256, 16), 1.0, False, False), 24 * size, 16 * size, "ddpm_step", quick=True)
    yield Case("solver ddpm-observed bfloat16 N=262144", lambda make: solver.ddpm_step(
        make(64, 256, 16), make(64, 256, 32, dtype=HALF), None, 1.0, (1.1, 0.5, 0.4, 0.5, -3.0, -1.0),
        make(64, 256, 16), 1.0, True, True), 24 * size, 16 * size, "ddpm_step")


def sampling_cases() -> Iterator[Case]:
    """Draws with every tile; 16,384 is an image's vocabulary, 65,536 X-Codec 2's."""
    rows = 16
    for dtype in (FULL, HALF):
        for name, vocabulary in (("small", 2048), ("middle", 8192), ("large", 16384), ("large", 65536)):
            size = BYTES[dtype]
            yield Case(f"sampling all-filters {SHORT[dtype]} M={rows} V={vocabulary} tile={name}",
                       lambda make, v=vocabulary, d=dtype, n=name: sampling.sample(
                           make(rows, v, dtype=d), make(rows, v, dtype=d), 2.0, 0.9, 900, 0.96, -3.0, make(rows, v),
                           sampling.CONFIGS[n]),
                       rows * vocabulary * (2 * size + 4), rows * vocabulary * 260, "sample", quick=vocabulary == 16384)
    yield Case("sampling draw float32 M=4096 V=4096", lambda make: sampling.sample(
        make(4096, 4096), None, 1.0, 1.0, 0, 1.0, None, make(4096, 4096)), 4096 * 4096 * 8, 4096 * 4096 * 8, "sample")
    yield Case("sampling greedy float32 M=4096 V=4096", lambda make: sampling.sample(
        make(4096, 4096), make(4096, 4096), make(4096), 1.0, 0, 1.0, None, None), 4096 * 4096 * 8, 4096 * 4096 * 4,
        "sample")


def rotary_cases() -> Iterator[Case]:
    """Rotation of a training batch, and the decode step of two guidance rows and of 64 rows."""
    for halves in (False, True):
        word = "halves" if halves else "interleaved"
        for dtype in (FULL, HALF):
            size = BYTES[dtype]
            yield Case(f"rotary rotate {SHORT[dtype]} B=16 H=12 N=1024 d=64 {word}",
                       lambda make, d=dtype, h=halves: rotary.run(
                           make(16, 12, 1024, 64, dtype=d), make(1024, 32, 2), make(16, 12, 1024, 64, dtype=d),
                           halves=h, heads=12), 2 * 16 * 12 * 1024 * 64 * size, 3 * 16 * 12 * 1024 * 64, "rotary",
                       quick=not halves and dtype == HALF)
            for rows in (2, 64):
                yield Case(f"rotary into-cache {SHORT[dtype]} B={rows} H=12 d=64 {word}",
                           lambda make, d=dtype, h=halves, r=rows: rotary.run(
                               make(r, 1, 36, 64, dtype=d).transpose(1, 2), make(1, 32, 2), make(r, 12, 1, 64, dtype=d),
                               halves=h, heads=12, kv_heads=12, cache=make(2, r, 12, 257, 64, dtype=d), position=17),
                           2 * rows * 36 * 64 * size, 3 * rows * 36 * 64, "rotary", quick=rows == 2)
    yield Case("rotary normed-into-cache bfloat16 B=64 H=16 H'=4 d=128 halves places on device",
               lambda make: rotary.run(
                   make(64, 1, 24, 128, dtype=HALF).transpose(1, 2), make(64, 1, 1, 64, 2),
                   make(64, 16, 1, 128, dtype=HALF), halves=True, heads=16, kv_heads=4,
                   cache=make(2, 64, 4, 4096, 128, dtype=HALF), position=make(64, dtype=torch.long),
                   weights=(make(128, dtype=HALF), make(128, dtype=HALF)), eps=1e-6),
               2 * 64 * 24 * 128 * 2, 8 * 64 * 24 * 128, "rotary", quick=True)


def _snake(make: Make, x: Tensor, backward: bool) -> None:
    x = x.requires_grad_(backward)
    y = snake.FusedSnake.apply(x, make(x.shape[1], dtype=x.dtype).requires_grad_(backward), 1e-9)
    if backward:
        y.backward(make(*y.shape, dtype=x.dtype))


def wave_cases() -> Iterator[Case]:
    """Activations of a decoder at 24 kHz, and the synthesis of Vocos."""
    numbers = 8 * 96 * 48000
    for dtype in (FULL, HALF):
        size = BYTES[dtype]
        yield Case(f"snake forward {SHORT[dtype]} B=8 C=96 T=48000", lambda make, d=dtype: _snake(
            make, make(8, 96, 48000, dtype=d), False), 2 * numbers * size, 25 * numbers, "forward", quick=dtype == FULL)
        yield Case(f"snake backward {SHORT[dtype]} B=8 C=96 T=48000", lambda make, d=dtype: _snake(
            make, make(8, 96, 48000, dtype=d), True), 3 * numbers * size, 50 * numbers, "backward", quick=dtype == FULL)
    yield Case("snake frames float32 B=8 T=1500 C=512", lambda make: _snake(
        make, make(8, 1500, 512).transpose(1, 2), True), 8 * 8 * 1500 * 512, 25 * 8 * 1500 * 512, "forward")
    for masked in (False, True):
        yield Case(f"overlap_add forward float32 B=8 L=1024 F=1000 hop=256{' masked' if masked else ''}",
                   lambda make, m=masked: _synthesis(make, m, False), 8 * 1000 * (1024 + 256) * 4,
                   8 * 1000 * 256 * 16, "forward", quick=True)
        yield Case(f"overlap_add backward float32 B=8 L=1024 F=1000 hop=256{' masked' if masked else ''}",
                   lambda make, m=masked: _synthesis(make, m, True), 8 * 1000 * (1024 + 256) * 4,
                   8 * 1000 * 1024 * 10, "backward", quick=masked)
    yield Case("overlap_add constant float32 B=8 L=16 F=12000 hop=4",
               lambda make: overlap_add.FusedOverlapAdd.apply(make(8, 12000, 16).transpose(1, 2), make(16), None, None,
                                                              make(), 4, 0, 48012, 1e-11),
               8 * 12000 * 20 * 4, 8 * 48000 * 8, "forward")


def _synthesis(make: Make, masked: bool, backward: bool) -> None:
    frames = make(8, 1000, 1024).transpose(1, 2).requires_grad_(backward)
    mask = (make(8, 1000, dtype=torch.bool), make(8, dtype=torch.long)) if masked else (None, None)
    y = overlap_add.FusedOverlapAdd.apply(frames, make(1024), *mask, None, 256, 384, 256000, 1e-11)
    if backward:
        y.backward(make(8, 256000))


def pack_cases() -> Iterator[Case]:
    """Bits of MAGVIT-v2 and FocalCodec, levels of X-Codec 2 and CosyVoice 2."""
    rows = 65536
    for dtype in (FULL, HALF):
        size = BYTES[dtype]
        yield Case(f"pack signs {SHORT[dtype]} M={rows} D=18", lambda make, d=dtype: pack.binary(
            make(rows, 18, dtype=d), 1, 1.0, True), rows * (18 * (size + 4) + 8), 3 * rows * 18, "binary", quick=True)
        yield Case(f"pack levels {SHORT[dtype]} M={rows} C=8", lambda make, d=dtype: pack.scalar(
            make(rows, 8, dtype=d), make(8, dtype=torch.long), make(8, dtype=torch.long), 1e-3, True, False),
            rows * (8 * size + 8), 40 * rows * 8, "levels", quick=True)
    yield Case(f"pack signs-groups float32 M={rows} D=64 Q=8", lambda make: pack.binary(make(rows, 64), 8, 1.0, False),
               rows * (256 + 64), 3 * rows * 64, "binary")
    yield Case(f"pack levels-values float32 M={rows} C=5", lambda make: pack.scalar(
        make(rows, 5), make(5, dtype=torch.long), make(5, dtype=torch.long), -1e-3, False, True), rows * 48,
        30 * rows * 5, "levels")


def all_cases() -> list[Case]:
    """Every case of every kernel."""
    families = (vq_cases, adaln_cases, solver_cases, sampling_cases, rotary_cases, wave_cases, pack_cases)
    return [case for family in families for case in family()]
