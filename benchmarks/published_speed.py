"""One image at published size: our pipeline beside plain eager layers with the same passes, in time and peak memory.

Weights are random. The eager side is written as the official samplers are: ``nn.Linear`` and torch's attention, run
over the same tokens, rows and steps, with LlamaGen's cache of full length, and the same image decoder behind them. Each
way runs in a process of its own, twice: the second run is timed, the peak is of both. MAR takes 8 order steps and 10
steps of its head on both sides. "packed" is ``prepare_for_decoding``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from cpu_decode import peak_of_this_process
from published import SHORT, build
from tables import Table, add_json_option, publish
from torch import Tensor, nn

from photophone.core.tokens import Tokens
from photophone.decoding.loop import cosine_reveal_counts
from photophone.layers.decode_linear import prepare_for_decoding

NAMES = ("llamagen-b-256", "mar-base", "var-d16", "titok-l32-generator")
WAYS = ("eager", "ours", "bfloat16", "int8")
LABEL = 207


class EagerAttention(nn.Module):
    """Projections and torch's attention: x (B, N, C) to the same."""

    def __init__(self, width: int, heads: int, cosine: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads
        self.scale = nn.Parameter(torch.zeros(1, heads, 1, 1)) if cosine else None

    def forward(self, x: Tensor, cache: list[Tensor] | None = None, place: int = 0,
                mask: Tensor | None = None) -> Tensor:
        rows, count, width = x.shape
        q, k, v = self.qkv(x).view(rows, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.scale is not None:
            q, k = F.normalize(q, dim=-1) * self.scale.clamp(max=4.6).exp(), F.normalize(k, dim=-1)
        if cache is not None:  # of full length, as LlamaGen's, or as long as what it holds, as VAR's
            cache[0][:, :, place:place + count] = k
            cache[1][:, :, place:place + count] = v
            seen = cache[0].shape[2] if mask is not None else place + count
            k, v = cache[0][:, :, :seen], cache[1][:, :, :seen]
        made = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(made.transpose(1, 2).reshape(rows, count, width))


class EagerBlock(nn.Module):
    """A pre-norm block; ``gated`` as Llama's, ``modulated`` as VAR's: six modulations of a condition, cosine attention
    and the tanh form of GELU."""

    def __init__(self, width: int, heads: int, hidden: int, gated: bool = False, modulated: bool = False) -> None:
        super().__init__()
        norm = nn.RMSNorm if gated else nn.LayerNorm
        self.norm1, self.norm2, self.attention = norm(width), norm(width), EagerAttention(width, heads, modulated)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gate = nn.Linear(width, hidden) if gated else None
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width)) if modulated else None

    def forward(self, x: Tensor, condition: Tensor | None = None, **options) -> Tensor:
        if self.modulation is None:
            x = x + self.attention(self.norm1(x), **options)
            return x + self.feed(self.norm2(x))
        gate1, gate2, scale1, scale2, shift1, shift2 = self.modulation(condition)[:, None].chunk(6, -1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1, **options)
        return x + gate2 * self.feed(self.norm2(x) * (1 + scale2) + shift2)

    def feed(self, x: Tensor) -> Tensor:
        if self.gate is not None:
            return self.fc2(F.silu(self.gate(x)) * self.fc1(x))
        return self.fc2(F.gelu(self.fc1(x), approximate="none" if self.modulation is None else "tanh"))


def drawn(logits: Tensor) -> Tensor:
    """A code for each place of guided logits: rows with and without condition, (2, N, V) to (1, N)."""
    mixed = logits[1:] + 2 * (logits[:1] - logits[1:])
    return torch.multinomial(mixed.softmax(-1).flatten(0, 1), 1).view(1, -1)


def blocks(depth: int, *sizes: int, **options: bool) -> nn.ModuleList:
    return nn.ModuleList(EagerBlock(*sizes, **options) for _ in range(depth))


def caches(depth: int, heads: int, length: int, width: int) -> list[list[Tensor]]:
    return [[torch.zeros(2, heads, length, width // heads) for _ in range(2)] for _ in range(depth)]


def eager_llamagen(config) -> Callable[[], Tensor]:
    """256 steps of two rows, which look at the whole cache through a mask."""
    count = config.grid_size**2
    layers = blocks(config.depth, config.width, config.num_heads, 2048, gated=True)
    head, embedding, norm = (nn.Linear(config.width, config.num_codes), nn.Embedding(config.num_codes, config.width),
                             nn.RMSNorm(config.width))

    def sample() -> Tensor:
        kept = caches(config.depth, config.num_heads, count + 1, config.width)
        masks = torch.ones(count + 1, count + 1, dtype=torch.bool).tril()
        codes = [torch.zeros(1, 1, dtype=torch.long)]
        for place in range(count):
            x = embedding(codes[-1]).repeat(2, 1, 1)
            for layer, cache in zip(layers, kept):
                x = layer(x, cache=cache, place=place, mask=masks[place:place + 1])
            codes.append(drawn(head(norm(x))))
        return torch.cat(codes[1:], 1)

    return sample


def eager_var(config) -> Callable[[], Tensor]:
    """A pass for each scale."""
    layers = blocks(config.depth, config.width, config.num_heads, 4 * config.width, modulated=True)
    head, token_in = nn.Linear(config.width, config.num_codes), nn.Embedding(config.num_codes, config.width)

    def sample() -> Tensor:
        kept = caches(config.depth, config.num_heads, sum(side**2 for side in config.scales), config.width)
        condition, codes, place = torch.randn(2, config.width), [], 0
        for side in config.scales:
            x = token_in(torch.zeros(2, side**2, dtype=torch.long))
            for layer, cache in zip(layers, kept):
                x = layer(x, condition, cache=cache, place=place)
            codes.append(drawn(head(x)))
            place += side**2
        return torch.cat(codes, 1)

    return sample


def eager_titok(config) -> Callable[[], Tensor]:
    """Two passes, with and without the class, for each of 8 steps."""
    layers = blocks(config.depth, config.width, config.num_heads, config.hidden)
    head, embedding = nn.Linear(config.width, config.num_codes), nn.Embedding(config.num_codes, config.width)

    def sample() -> Tensor:
        codes = torch.zeros(1, config.num_tokens + 1, dtype=torch.long)
        for _ in range(8):
            logits = []
            for _ in range(2):
                x = embedding(codes)
                for layer in layers:
                    x = layer(x)
                logits.append(head(x))
            codes = drawn(torch.cat(logits))
        return codes[:, 1:]

    return sample


class EagerMLP(nn.Module):
    """MAR's head: residual blocks that are modulated by condition and time."""

    def __init__(self, width: int, depth: int, dim: int, condition: int) -> None:
        super().__init__()
        self.x_in, self.out = nn.Linear(dim, width), nn.Linear(width, 2 * dim)
        self.condition = nn.Linear(condition, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(nn.ModuleList([nn.LayerNorm(width), nn.Linear(width, 3 * width),
                                                   nn.Linear(width, width), nn.Linear(width, width)])
                                    for _ in range(depth))

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        condition = self.condition(hidden) + self.time(torch.zeros(len(x), 256))
        x = self.x_in(x)
        for norm, modulation, first, second in self.layers:
            shift, scale, gate = modulation(F.silu(condition)).chunk(3, -1)
            x = x + gate * second(F.silu(first(norm(x) * (1 + scale) + shift)))
        return self.out(x)


def eager_mar(config) -> Callable[[], Tensor]:
    """Encoder over what is known, decoder over all, the head over what is revealed, in 8 steps."""
    encoder = blocks(config.encoder_depth, config.encoder_width, config.encoder_heads, 4 * config.encoder_width)
    decoder = blocks(config.decoder_depth, config.decoder_width, config.decoder_heads, 4 * config.decoder_width)
    head = EagerMLP(config.head_width, config.head_depth, config.token_dim, config.decoder_width)
    options = SHORT["mar"]

    def sample() -> Tensor:
        known = 0
        for count in cosine_reveal_counts(config.num_tokens, options["num_order_steps"]):
            x = torch.randn(2, config.buffer_size + known, config.encoder_width)
            for layer in encoder:
                x = layer(x)
            x = torch.randn(2, config.buffer_size + config.num_tokens, config.decoder_width)
            for layer in decoder:
                x = layer(x)
            hidden, values = x[:, -count:].flatten(0, 1), torch.randn(2 * count, config.token_dim)
            for _ in range(options["num_inference_steps"]):
                values = values + 0.01 * head(values, hidden)[:, :config.token_dim]
            known += count
        return torch.randn(1, config.num_tokens, config.token_dim)

    return sample


EAGER = {"llamagen": eager_llamagen, "var": eager_var, "titok": eager_titok, "mar": eager_mar}


def measure(name: str, way: str, threads: int) -> None:
    """Print seconds and megabytes of the second image."""
    torch.set_num_threads(threads)
    pipeline = build(name)
    pipeline.set_progress_bar_config(disable=True)
    family = name.partition("-")[0]
    if way == "eager":
        sample = EAGER[family](pipeline.token_generator.config)
        pipeline.token_generator = None

        def run() -> None:
            pipeline.image_tokenizer.decode(Tokens(sample()))
    else:
        if way != "ours":
            prepare_for_decoding(pipeline.token_generator, way)

        def run() -> None:
            pipeline(LABEL, generator=torch.Generator().manual_seed(1), **SHORT.get(family, {}))
    with torch.inference_mode():
        run()
        began = time.perf_counter()
        run()
    print(time.perf_counter() - began, peak_of_this_process())


def compare(names: list[str], ways: list[str], threads: int) -> Table:
    """A row for each generator and way."""
    rows = []
    for name in names:
        eager = None
        for way in ways:
            done = subprocess.run([sys.executable, __file__, "--child", name, way, "--threads", str(threads)],
                                  check=True, capture_output=True, text=True)
            took, memory = map(float, done.stdout.split())
            eager = took if eager is None else eager
            rows.append([name, "packed " + way if way in WAYS[2:] else way, took, eager / took, memory])
            print(*rows[-1], flush=True)
    return ("generator", "way", "seconds an image", f"times as fast as {ways[0]}", "peak MB"), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="of the four that have an eager side")
    parser.add_argument("--way", action="append", choices=WAYS, help="may be given several times; the first is the "
                                                                     "base")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.child:
        measure(*arguments.child, arguments.threads)
        return
    publish({"published": compare(arguments.names, arguments.way or WAYS, arguments.threads)}, arguments.json,
            threads=arguments.threads)


if __name__ == "__main__":
    main()
