"""Encoding and decoding of codecs beside the packages that published them: Vocos beside ``vocos``, EnCodec, Mimi and
WavTokenizer beside transformers, the same random weights, audio and tokens on both sides.

    python benchmarks/cpu.py --part codec [--threads 1]     speed
    python benchmarks/cpu_codec.py                          peak memory, a process for each number

Repeats are interleaved; a ratio is the median of the ratios of the repeats. Differences are those of the results to the
largest value; of codes, the share that is not the same.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from tables import Table, add_json_option, publish
from torch import Tensor, nn

from photophone import create_model
from photophone.codecs.base import AudioCodec
from photophone.core.tokens import Tokens
from photophone.loading.weight_norm import old_names

SECONDS = (1, 10)
RATE = 24000


class VocosPeer(nn.Module):
    """The package's parts with its published sizes; its own class wants files."""

    def __init__(self) -> None:
        super().__init__()
        from vocos.feature_extractors import MelSpectrogramFeatures
        from vocos.heads import ISTFTHead
        from vocos.models import VocosBackbone

        self.feature_extractor = MelSpectrogramFeatures()
        self.backbone = VocosBackbone(input_channels=100, dim=512, intermediate_dim=1536, num_layers=8)
        self.head = ISTFTHead(dim=512, n_fft=1024, hop_length=256, padding="center")


def encodec_peer() -> nn.Module:
    from transformers import EncodecConfig, EncodecModel

    return EncodecModel(EncodecConfig())


def mimi_peer() -> nn.Module:
    from transformers import MimiConfig, MimiModel

    return MimiModel(MimiConfig())


def wavtokenizer_peer() -> nn.Module:
    from transformers import WavTokenizerConfig, WavTokenizerModel

    return WavTokenizerModel(WavTokenizerConfig())


def wavtokenizer_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys of transformers as those of the official checkpoint."""
    renamed = {}
    for key, value in old_names(state).items():
        name = re.sub(r"^encoder_model\.encoder\.layers\.", "feature_extractor.encodec.encoder.model.", key)
        if name != key:
            name = name.replace(".conv.", ".conv.conv.")
        name = name.replace("encoder_model.quantizer.codebook.",
                            "feature_extractor.encodec.quantizer.vq.layers.0._codebook.")
        renamed[name.replace("head.linear.", "head.out.")] = value
    return renamed


class Pair(NamedTuple):
    """A codec and its peer: how they are made, and the peer's functions on audio and on the values of tokens."""

    registered: str
    peer: Callable[[], nn.Module]
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]
    state: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict


PAIRS = {
    "Vocos": Pair("vocos-mel-24khz", VocosPeer, lambda model, wave: model.feature_extractor(wave[:, 0]).transpose(1, 2),
                  lambda model, mels: model.head(model.backbone(mels.transpose(1, 2)))[:, None]),
    "EnCodec": Pair("encodec-24khz-6kbps", encodec_peer, lambda model, wave: model.encode(wave, bandwidth=6.0)[0][0],
                    lambda model, codes: model.decode(codes[None], [None])[0]),
    "Mimi": Pair("mimi-8", mimi_peer, lambda model, wave: model.encode(wave, num_quantizers=8)[0],
                 lambda model, codes: model.decode(codes)[0]),
    "WavTokenizer": Pair("wavtokenizer-large-unify-40", wavtokenizer_peer,
                         lambda model, wave: model.encode(wave).audio_codes[:, 0],
                         lambda model, codes: model.decode(codes[:, None]).audio_values, wavtokenizer_state),
}


def make_peer(pair: Pair) -> nn.Module:
    """The peer with random weights and codebooks, which are zeros as they are built."""
    torch.manual_seed(0)
    peer = pair.peer().eval()
    for name, buffer in peer.named_buffers():
        if name.endswith(("embed", "embed_sum")):
            buffer.normal_()
    return peer


def make_ours(pair: Pair, peer: nn.Module) -> AudioCodec:
    """Our codec with the weights of the peer."""
    state = {name: value for name, value in peer.state_dict().items() if "mel_spec" not in name}
    return type(create_model(pair.registered)).from_original(pair.state(state)).eval()


def noise(seconds: int) -> Tensor:
    """Noise (1, 1, T) as loud as speech."""
    return torch.randn(1, 1, seconds * RATE, generator=torch.Generator().manual_seed(1)) / 10


def difference(made: Tensor, wanted: Tensor) -> float:
    """Of results, to the largest value; of codes, the share that differs."""
    shared = tuple(slice(min(sizes)) for sizes in zip(made.shape, wanted.shape))  # ours fills the last hop up
    made, wanted = made[shared], wanted[shared]
    if not made.is_floating_point():
        return float((made != wanted).float().mean())
    return float((made - wanted).abs().max() / wanted.abs().max())


def directions(pair: Pair, codec: AudioCodec, peer: nn.Module, wave: Tensor) -> dict[str, tuple[Callable, Callable]]:
    """What is timed of us and of the peer."""
    values = codec.encode(wave).values
    return {"encodes": (lambda: codec.encode(wave).values, lambda: pair.encode(peer, wave)),
            "decodes": (lambda: codec.decode(Tokens(values)), lambda: pair.decode(peer, values))}


@torch.no_grad()
def run(repeats: int, clock: Callable[[], float] = time.perf_counter) -> Table:
    """A row for each codec, length and direction."""
    rows = []
    for name, pair in PAIRS.items():
        peer = make_peer(pair)
        codec = make_ours(pair, peer)
        for seconds in SECONDS:
            for direction, sides in directions(pair, codec, peer, noise(seconds)).items():
                error = difference(*(side() for side in sides))
                times: tuple[list[float], list[float]] = ([], [])
                for repeat in range(2 * repeats if seconds == 1 else repeats):
                    for place in (0, 1) if repeat % 2 else (1, 0):
                        started = clock()
                        sides[place]()
                        times[place].append(clock() - started)
                ratio = statistics.median(theirs / ours for ours, theirs in zip(*times))
                rows.append([f"{name}, {seconds} s", direction,
                             *(1e3 * statistics.median(values) for values in times), ratio, error])
                print(*rows[-1], flush=True)
    return ("codec", "direction", "our ms", "the peer's ms", "times as fast", "largest difference"), rows


@torch.no_grad()
def use(name: str, side: str, seconds: int) -> float:
    """Encode and decode on one side; the peak memory of this process in MB."""
    pair = PAIRS[name]
    wave = noise(seconds)
    if side == "ours":
        codec = create_model(pair.registered).eval()
        for _ in range(2):
            codec.decode(codec.encode(wave))
    else:
        peer = make_peer(pair)
        for _ in range(2):
            pair.decode(peer, pair.encode(peer, wave))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_memory() -> Table:
    """A row for each codec and length."""
    rows = []
    for name in PAIRS:
        for seconds in SECONDS:
            peaks = []
            for side in ("ours", "peer"):
                command = [sys.executable, __file__, "--child", name, side, str(seconds)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                peaks.append(float(done.stdout.split()[-1]))
            rows.append([f"{name}, {seconds} s", *peaks])
            print(*rows[-1], flush=True)
    return ("codec", "our peak MB", "the peer's"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.child:
        name, side, seconds = arguments.child
        print(use(name, side, int(seconds)))
        return
    publish({"codec-memory": measure_memory()}, arguments.json)


if __name__ == "__main__":
    main()
