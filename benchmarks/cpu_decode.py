"""Autoregressive decoding of a Llama-shaped model with 111 million parameters, two guidance rows, on the processor.

The peer is transformers' LlamaForCausalLM with random weights, a static cache, the same sizes and rows, greedy. Repeats
are interleaved; a ratio is the median of the ratios of the repeats. Run it by ``benchmarks/cpu.py --part decode``.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
from collections.abc import Callable

import torch
from tables import Table
from torch import Tensor, nn

from photophone.core.noise import SeededNoise
from photophone.decoding.loop import DecodingStopped
from photophone.generators.conditions import ClassLabels
from photophone.generators.llamagen.model import LlamaGenGPT
from photophone.kernels.few_rows import WEIGHTS, library
from photophone.layers.decode_linear import prepare_for_decoding

TOKENS = 64
LABELS = 4
READ_BYTES = 1_000_000_000
NAMES = {"transformers": "transformers, static cache", "plain": "ours, not prepared"}
SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}


def make_model(**config: int) -> LlamaGenGPT:
    """LlamaGen's GPT-B with random weights, and a head that is not zero."""
    torch.manual_seed(0)
    model = LlamaGenGPT(**config).eval()
    nn.init.normal_(model.token_head.linear.weight, std=0.02)
    return model


def make_peer() -> Callable[[int], object]:
    """A function that decodes so many tokens of two rows with transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(vocab_size=16384, hidden_size=768, intermediate_size=2048,
                                         num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=512,
                                         eos_token_id=None, pad_token_id=0)).eval()
    start = torch.ones(2, 1, dtype=torch.long)

    @torch.inference_mode()
    def decode(count: int) -> object:
        return model.generate(start, attention_mask=torch.ones_like(start), do_sample=False, min_new_tokens=count,
                              max_new_tokens=count, cache_implementation="static")

    return decode


def decode(model: LlamaGenGPT, count: int) -> None:
    """The first ``count`` codes of an image, greedy, with two guidance rows: the model's own ``generate``."""
    with contextlib.suppress(DecodingStopped):
        model.generate(ClassLabels(torch.tensor([0])), noise=SeededNoise.from_seeds([0]),
                       sampler=model.Sampler(guidance_scale=2.0, temperature=0.0),
                       callback=lambda step, total: step == count)


def seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    """What one call takes."""
    started = clock()
    function()
    return clock() - started


def linear_weights(model: nn.Module) -> int:
    """Weights of linear layers: what a step reads."""
    return sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))


@torch.inference_mode()
def agreement(model: LlamaGenGPT, exact: LlamaGenGPT, count: int) -> tuple[float, float, float]:
    """Of greedy codes of LABELS classes: share that agrees with those of ``exact`` when both see the codes of
    ``exact``, share when each goes on from its own, and the largest difference of logits over their largest size."""
    labels = torch.arange(LABELS)
    wanted, logits = greedy(exact, labels, count)
    forced, other = greedy(model, labels, count, wanted)
    free, _ = greedy(model, labels, count)
    return ((forced == wanted).double().mean().item(), (free == wanted).double().mean().item(),
            ((other - logits).abs().max() / logits.abs().max()).item())


def greedy(model: LlamaGenGPT, labels: Tensor, count: int, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes (B, count) and logits (B, count, V), step by step; inputs are ``given`` codes, or those just made."""
    cache, rotary = model.static_cache(len(labels)), model.rotary()
    x, codes, logits = model.prefix(ClassLabels(labels)), [], []
    for index in range(count):
        cache.place(torch.full((len(labels),), index))
        logits.append(model.token_head.logits(model.decode_step(x, rotary, cache))[:, 0])
        codes.append(logits[-1].argmax(-1))
        x = model.token_embedding(codes[-1] if given is None else given[:, index])[:, None]
    return torch.stack(codes, 1), torch.stack(logits, 1)


def run(repeats: int, clock: Callable[[], float]) -> Table:
    """A row for each kind of weights, and for transformers."""
    print(f"compiled code: {library()[1]}")
    plain, peer = make_model(), make_peer()
    models = {kind: prepare_for_decoding(copy.deepcopy(plain), kind) for kind in WEIGHTS}
    runs: dict[str, Callable[[], object]] = {"transformers": lambda: peer(TOKENS)}
    runs["plain"] = lambda: decode(plain, TOKENS)
    runs |= {kind: lambda model=model: decode(model, TOKENS) for kind, model in models.items()}
    numbers = torch.ones(READ_BYTES // 4)
    runs["read"] = numbers.sum
    for function in runs.values():
        function()
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, function in runs.items():
            times[name].append(seconds(function, clock))
    bandwidth = numbers.nbytes / statistics.median(times["read"])
    print(f"read bandwidth {bandwidth / 1e9:.1f} GB/s (sum over {numbers.nbytes / 1e9:.0f} GB); a step reads "
          f"{linear_weights(plain) / 1e6:.1f} million weights; {TOKENS} tokens, 2 rows")
    rows = []
    for name in list(runs)[:-1]:
        step = statistics.median(times[name]) / TOKENS
        against = [statistics.median(a / b for a, b in zip(times[other], times[name]))
                   for other in ("transformers", "float32")]
        rate = linear_weights(plain) * SIZES.get(name, 4) / step
        right = agreement(models[name], models["float32"], TOKENS) if name in ("bfloat16", "int8") else [None] * 3
        rows.append([NAMES.get(name, name), 1000 * step, *against, rate / 1e9, rate / bandwidth, *right])
    return ("weights", "ms a step", "times as fast as transformers", "as our float32", "GB/s of weights",
            "of the read bandwidth", "agreement", "free", "error of logits"), rows
