"""Decoding of codecs beside the packages that published them: Vocos beside ``vocos``, EnCodec and Mimi beside
transformers, the same random weights and the same tokens on both sides.

Repeats are interleaved; a ratio is the median of the ratios of the repeats. Run it by
``benchmarks/cpu.py --part codec``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from tables import Table
from torch import Tensor
from transformers import EncodecConfig, EncodecModel, MimiConfig, MimiModel

from photophone.codecs.encodec.model import EnCodec
from photophone.codecs.mimi.model import Mimi
from photophone.codecs.vocos.model import Vocos
from photophone.core.tokens import Tokens

SECONDS = (1, 10)


def make_vocos() -> tuple[Vocos, Callable[[Tensor], Tensor]]:
    """Ours, and a function of the package's decoder on mel frames (B, N, 100), with equal weights."""
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    backbone = VocosBackbone(input_channels=100, dim=512, intermediate_dim=1536, num_layers=8).eval()
    head = ISTFTHead(dim=512, n_fft=1024, hop_length=256, padding="center").eval()
    original = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    original |= {f"head.{name}": value for name, value in head.state_dict().items()}
    ours = Vocos.from_original(original).eval()
    return ours, lambda mels: head(backbone(mels.transpose(1, 2)))[:, None]


def cases() -> Iterator[tuple[str, Callable[[], Tensor], Callable[[], Tensor]]]:
    """A name, our decoding and the peer's, for each codec and length."""
    generator = torch.Generator().manual_seed(0)
    vocos, vocos_peer = make_vocos()
    encodec_peer, mimi_peer = EncodecModel(EncodecConfig()).eval(), MimiModel(MimiConfig()).eval()
    for name, buffer in [*encodec_peer.named_buffers(), *mimi_peer.named_buffers()]:
        if name.endswith(("embed", "embed_sum")):
            buffer.normal_(generator=generator)  # zeros as they are built
    encodec, mimi = EnCodec.from_original(encodec_peer.state_dict()), Mimi.from_original(mimi_peer.state_dict())
    encodec, mimi = encodec.eval(), mimi.eval()
    for seconds in SECONDS:
        mels = torch.randn(1, round(seconds * 93.75), 100, generator=generator)
        yield f"Vocos, {seconds} s", (lambda m=mels: vocos.decode(Tokens(m))), (lambda m=mels: vocos_peer(m))
        codes = torch.randint(1024, (1, 8, 75 * seconds), generator=generator)
        yield (f"EnCodec, 8 codebooks, {seconds} s", (lambda c=codes: encodec.decode(Tokens(c))),
               (lambda c=codes: encodec_peer.decode(c[None], [None])[0]))
        codes = torch.randint(2048, (1, 8, round(12.5 * seconds)), generator=generator)
        yield (f"Mimi, 8 codebooks, {seconds} s", (lambda c=codes: mimi.decode(Tokens(c))),
               (lambda c=codes: mimi_peer.decode(c)[0]))


@torch.no_grad()
def run(repeats: int, clock: Callable[[], float] = time.perf_counter) -> Table:
    """A row for each codec and length."""
    rows = []
    for name, ours, peer in cases():
        made, wanted = ours(), peer()
        length = min(made.shape[-1], wanted.shape[-1])
        error = float((made[..., :length] - wanted[..., :length]).abs().max() / wanted.abs().max())
        times: tuple[list[float], list[float]] = ([], [])
        for repeat in range(4 * repeats):
            for place in (0, 1) if repeat % 2 else (1, 0):
                started = clock()
                (ours, peer)[place]()
                times[place].append(clock() - started)
        ratio = statistics.median(a / b for a, b in zip(*times))
        middle = [1e3 * statistics.median(values) for values in times]
        rows.append([name, *middle, ratio, error])
    return ("codec", "our ms", "the peer's ms", "ours to the peer", "largest difference"), rows
