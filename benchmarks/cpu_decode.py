"""Autoregressive decoding of a Llama-shaped model with 111 million parameters, two guidance rows, on the processor.

The peer is transformers' LlamaForCausalLM with random weights, a static cache, the same sizes and rows, greedy. Repeats
are interleaved; a ratio is the median of the ratios of the repeats, and so is a share of the bandwidth, which is read
just before and after. Peak memory is that of a process of its own for each row, without the other rows' weights. Run it
by ``benchmarks/cpu.py --part decode``.
"""

from __future__ import annotations

import contextlib
import copy
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tables import Table
from torch import Tensor, nn

from photophone.core.noise import SeededNoise
from photophone.decoding.loop import DecodingStopped, KVCache
from photophone.generators.conditions import ClassLabels
from photophone.generators.llamagen.model import LlamaGenGPT
from photophone.kernels.few_rows import BYTES, WEIGHTS, library
from photophone.layers.decode_linear import prepare_for_decoding
from photophone.layers.rotary import sequence_rotary

TOKENS = 64
LABELS = 4
READ_BYTES = 1_000_000_000
NAMES = {"transformers": "transformers, static cache", "plain": "ours, not prepared"}
PREFILL = 512


def make_model(**config: int) -> LlamaGenGPT:
    """LlamaGen's GPT-B with random weights, and a head that is not zero."""
    torch.manual_seed(0)
    model = LlamaGenGPT(**config).eval()
    nn.init.normal_(model.token_head.linear.weight, std=0.02)
    return model


def make_peer() -> tuple[Callable[[int], object], Callable[[], object]]:
    """Functions of transformers: decode so many tokens of two rows, and read PREFILL tokens of each of them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(vocab_size=16384, hidden_size=768, intermediate_size=2048,
                                         num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=1024,
                                         eos_token_id=None, pad_token_id=0)).eval()

    @torch.inference_mode()
    def generate(start: Tensor, count: int) -> object:
        return model.generate(start, attention_mask=torch.ones_like(start), do_sample=False, min_new_tokens=count,
                              max_new_tokens=count, cache_implementation="static")

    short, long = torch.ones(2, 1, dtype=torch.long), torch.ones(2, PREFILL, dtype=torch.long)
    return lambda count: generate(short, count), lambda: generate(long, 1)


@torch.inference_mode()
def prefill(model: LlamaGenGPT) -> Tensor:
    """Logits of the code behind PREFILL codes of two rows, whose keys and values are kept."""
    config = model.config
    head_dim = config.width // config.num_heads
    cache = KVCache(len(model.blocks), 2, config.num_heads, PREFILL + 1, head_dim)
    x = model.token_embedding(torch.ones(2, PREFILL, dtype=torch.long))
    mask = torch.ones(1, 1, PREFILL, PREFILL, dtype=torch.bool).tril()
    hidden = model.hidden(x, mask, sequence_rotary(PREFILL, head_dim), cache)
    return model.token_head.logits(hidden[:, -1:])


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


def peak_memory(name: str, threads: int) -> float:
    """Megabytes that a process needs at most for the row ``name``: the model, its packed copy, TOKENS codes."""
    script = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import cpu_decode; "
              f"cpu_decode.measure_memory({name!r}, {threads})")
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def measure_memory(name: str, threads: int) -> None:
    """Print the megabytes of one row."""
    torch.set_num_threads(threads)
    if name == "transformers":
        make_peer()[0](TOKENS)
    else:
        model = make_model()
        decode(model if name == "plain" else prepare_for_decoding(model, name), TOKENS)
    print(peak_of_this_process())


def peak_of_this_process() -> float:
    """Megabytes; the maximum that the system counts for a process otherwise begins with that of its parent."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(runs: dict[str, Callable[[], object]], read: Callable[[], object], repeats: int,
            clock: Callable[[], float]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each run in each repeat, and of a reading before and after it."""
    times, readings = {name: [] for name in runs}, {name: [] for name in runs}
    for _ in range(repeats):
        for name, function in runs.items():
            before = [seconds(read, clock) for _ in range(2)]
            times[name].append(seconds(function, clock))
            readings[name].append(statistics.median(before + [seconds(read, clock) for _ in range(2)]))
    return times, readings


def run(repeats: int, clock: Callable[[], float]) -> Table:
    """A row for each kind of weights, and for transformers."""
    print(f"compiled code: {library()[1]}")
    plain = make_model()
    peer, peer_prefill = make_peer()
    models = {"plain": plain} | {kind: prepare_for_decoding(copy.deepcopy(plain), kind) for kind in WEIGHTS}
    runs: dict[str, Callable[[], object]] = {"transformers": lambda: peer(TOKENS)}
    runs |= {kind: lambda model=model: decode(model, TOKENS) for kind, model in models.items()}
    prefills: dict[str, Callable[[], object]] = {"transformers": peer_prefill}
    prefills |= {kind: lambda model=model: prefill(model) for kind, model in models.items()}
    numbers = torch.ones(READ_BYTES // 4)
    for function in (*runs.values(), *prefills.values()):
        function()
    times, readings = measure(runs, numbers.sum, repeats, clock)
    prompts = {name: [] for name in prefills}
    for _ in range(repeats):
        for name, function in prefills.items():
            prompts[name].append(seconds(function, clock))
    bandwidth = numbers.nbytes / statistics.median(sum(readings.values(), []))
    print(f"read bandwidth {bandwidth / 1e9:.1f} GB/s (sum over {numbers.nbytes / 1e9:.0f} GB); a step reads "
          f"{linear_weights(plain) / 1e6:.1f} million weights; {TOKENS} tokens, 2 rows; prefill of {PREFILL} tokens")
    rows = []
    for name in runs:
        size = linear_weights(plain) * BYTES.get(name, 4)
        against = [ratio(times[other], times[name]) for other in ("transformers", "float32")]
        shares = [size * TOKENS / took * reading / numbers.nbytes for took, reading in zip(times[name], readings[name])]
        right = agreement(models[name], models["float32"], TOKENS) if BYTES.get(name, 4) < 4 else [None] * 3
        rows.append([NAMES.get(name, name), 1000 * statistics.median(times[name]) / TOKENS, *against,
                     size * TOKENS / statistics.median(times[name]) / 1e9, statistics.median(shares),
                     ratio(prompts["transformers"], prompts[name]), *right,
                     peak_memory(name, torch.get_num_threads())])
    return ("weights", "ms a step", "times as fast as transformers", "as our float32", "GB/s of weights",
            "of the read bandwidth", "prefill, as transformers", "agreement", "free", "error of logits",
            "peak MB"), rows


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Median of the ratios of paired repeats."""
    return statistics.median(a / b for a, b in zip(theirs, ours))
