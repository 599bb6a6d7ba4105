"""What a stream of CosyVoice 2 or 3 costs at its published size, beside the authors' way, in one run.

The authors make each piece after all that came before, computed again: pieces of 25, 50, then 100 tokens. Here every
layer keeps what later pieces need. Weights are random: they cost what trained ones cost. Seconds are those of the
processor. Half a minute is run with one step of the solver in both ways, because all ten would take many minutes in
theirs; what all cost follows from it: the flow counts ten times. Work is counted in multiply-adds, those of the
language model as at its first tokens; it costs the same in both ways.

    python benchmarks/cosyvoice_stream.py cosyvoice2-0.5b
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from audio_systems import build, facts, timed
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.cosyvoice import LEFT_CHUNKS
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
from photophone.generators.cosyvoice.spoken_text import SpokenText
from photophone.generators.cosyvoice.stream import stream_mel
from photophone.pipelines.token_to_speech import TokenToSpeechPipeline

VOICE_SECONDS, SHORT_SECONDS, LONG_SECONDS = 3, 6, 30
FIRST_HOP, LAST_HOP, KEPT_FRAMES = 25, 100, 8
"""Of the authors: tokens of the first and of later pieces, and frames that the vocoder hears again."""
TEXT_IDS, TIMED_TOKENS = 40, 30
ASKED = 5.0
"""How many times less work a stream of half a minute is to cost."""
STEPS = 10
"""Of the solver, as published."""
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
                 lambda query, key, value, *rest, out_shape=None, **options: sdpa_flop_count(query, key, value)}
"""What torch's counter leaves out."""
PUBLISHED, CHEAP = ({"num_inference_steps": steps, "guidance_scale": 1.7} for steps in (STEPS, 1))


@dataclass
class Costs:
    """Of each chunk: processor seconds, those of them in the flow, tokens that it needed, seconds of its speech."""

    seconds: list[float] = field(default_factory=list)
    flow: list[float] = field(default_factory=list)
    needed: list[int] = field(default_factory=list)
    speech: list[float] = field(default_factory=list)

    @property
    def factor(self) -> float:
        """Seconds of the processor for a second of speech."""
        return sum(self.seconds) / sum(self.speech)

    def all_steps(self, first: int = 0, last: int | None = None) -> float:
        """The same for some chunks of a run with one step, as if with all."""
        part = slice(first, last)
        return (sum(self.seconds[part]) + (STEPS - 1) * sum(self.flow[part])) / sum(self.speech[part])


class Chain:
    """Flow and vocoder of a release, and a voice of three seconds."""

    def __init__(self, name: str) -> None:
        self.sound = TokenToSpeechPipeline(build(f"{name}-flow"), build(f"{name}-hift"))
        self.flow, self.vocoder = self.sound.flow, self.sound.vocoder
        config, generator = self.flow.config, torch.Generator().manual_seed(2)
        self.rate, self.spent = config.token_rate, 0.0
        self.speaker = torch.randn(1, config.speaker_dim, generator=generator)
        self.prompt = torch.randint(config.vocab_size, (1, VOICE_SECONDS * self.rate), generator=generator)
        self.mel = torch.randn(1, self.flow.frames(self.prompt.shape[1]), config.mel_dim, generator=generator)

    def flow_timed(self, function: Callable[[], Any]) -> Any:
        """The result of a part of the flow, whose seconds are added up."""
        seconds, made = timed(function)
        self.spent += seconds
        return made

    def ours(self, tokens: Tensor, options: dict[str, Any]) -> Iterator[tuple[int, Tensor]]:
        """Tokens that were read and audio (T,) of each chunk."""
        read, sampler = 0, FlowSampler(chunked=True, left_chunks=LEFT_CHUNKS, **options)

        def pieces() -> Iterator[Tensor]:
            nonlocal read
            for piece in tokens.split(1, dim=1):
                read += 1
                yield piece

        frames = stream_mel(self.flow, pieces(), self.speaker, self.prompt, self.mel, noise=self.flow.own_noise(),
                            sampler=sampler)
        mel = iter(lambda: self.flow_timed(lambda: next(frames, None)), None)
        for audio in self.vocoder.stream(map(Tokens, mel)):
            yield read, audio[0, 0]

    @torch.no_grad()
    def theirs(self, tokens: Tensor, options: dict[str, Any]) -> Iterator[tuple[int, Tensor]]:
        """The same in the way of the authors."""
        ahead, total, hop, done = self.flow.token_encoder.ahead, tokens.shape[1], FIRST_HOP, 0
        sampler, kept = FlowSampler(chunked=True, **options), torch.zeros(1, 0, self.flow.config.mel_dim)
        while done < total:
            last = done + hop + ahead > total
            end = total if last else done + hop
            following = None if last else tokens[:, end:end + ahead]
            condition = SpeechTokens(tokens[:, :end], self.speaker, None, self.prompt, self.mel, following)
            frames = self.flow_timed(lambda given=condition: self.flow.generate(
                given, noise=self.flow.own_noise(), sampler=sampler).values)
            heard = torch.cat([kept, frames[:, self.flow.frames(done):]], dim=1)
            audio = self.vocoder.decode(Tokens(heard))[0, 0]
            kept = heard[:, -KEPT_FRAMES:]
            yield end + (0 if last else ahead), audio if last else audio[:-KEPT_FRAMES * self.vocoder.hop_length]
            done, hop = end, min(2 * hop, LAST_HOP)

    def costs(self, way: Any, seconds: int, options: dict[str, Any], most: int | None = None) -> Costs:
        """Of each chunk of some seconds of speech, or of the first ``most``."""
        tokens = torch.randint(self.flow.config.vocab_size, (1, seconds * self.rate),
                               generator=torch.Generator().manual_seed(3))
        chunks, made = way(tokens, options), Costs()
        while most is None or len(made.seconds) < most:
            before = self.spent
            spent, chunk = timed(lambda: next(chunks, None))
            if chunk is None:
                break
            made.seconds.append(spent)
            made.flow.append(self.spent - before)
            made.needed.append(chunk[0])
            made.speech.append(len(chunk[1]) / self.vocoder.output_sample_rate)
        return made

    def long(self, way: Any) -> tuple[Costs, float]:
        """Half a minute with one step of the solver, and its multiply-adds as if with all."""
        with FlopCounterMode(display=False, depth=3, custom_mapping=CPU_ATTENTION) as counter:
            made = self.costs(way, LONG_SECONDS, CHEAP)
        solver = sum(counter.get_flop_counts()[type(self.flow.velocity_net).__name__].values())
        return made, (counter.get_total_flops() + (STEPS - 1) * solver) / 2


@torch.no_grad()
def language_model(name: str) -> tuple[float, float, float, dict[str, float]]:
    """Processor seconds of the first token and of each further one, multiply-adds of one, and the size."""
    model = build(name)
    rows = torch.arange(TEXT_IDS).tolist()
    condition = SpokenText.of_rows([rows], [rows], [torch.arange(VOICE_SECONDS * 25)])
    sampler = model.Sampler(min_ratio=2.0, all_stops=True)
    steps = model.stream(condition, noise=SeededNoise.from_seeds([1]), sampler=sampler)
    first, _ = timed(lambda: next(steps))
    rest, _ = timed(lambda: [next(steps) for _ in range(TIMED_TOKENS)])
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        next(steps)
    return first, rest / TIMED_TOKENS, counter.get_total_flops() / 2, facts(model)


def measure(name: str) -> dict[str, Any]:
    """All numbers of a release."""
    first, each, token_work, size = language_model(name)
    chain = Chain(name)
    parameters = size["parameters"] + facts(chain.flow, chain.vocoder)["parameters"]
    result: dict[str, Any] = {"name": name, "parameters": parameters, "token": each}
    for way in ("ours", "theirs"):
        function = getattr(chain, way)
        short = chain.costs(function, SHORT_SECONDS, PUBLISHED, 1)
        long, work = chain.long(function)
        last = len(long.seconds) - 1
        result[way] = {
            "first": first + each * (short.needed[0] - 1) + short.seconds[0], "first_sound": short.seconds[0],
            "first_speech": short.speech[0], "factor": long.all_steps() + each * chain.rate,
            "sound_factor": long.all_steps(), "early": long.all_steps(2, 3), "late": long.all_steps(last - 1, last),
            "flow": sum(long.flow), "vocoder": sum(long.seconds) - sum(long.flow), "work": work / 1e12,
            "all_work": (work + token_work * chain.rate * LONG_SECONDS) / 1e12,
            "sound_seconds": long.all_steps() * sum(long.speech),
            "all_seconds": (long.all_steps() + each * chain.rate) * sum(long.speech)}
    return result


def show(made: dict[str, Any]) -> None:
    """A table of both ways."""
    ours, theirs = made["ours"], made["theirs"]
    print(f"{made['name']}: {made['parameters']:.0f} M parameters, {1000 * made['token']:.0f} ms a token of the "
          f"language model\n{'':58s} {'here':>10s} {'authors':>10s} {'times':>6s}")
    rows = [("first audio, all steps, s", "first"), ("of it flow and vocoder, s", "first_sound"),
            ("speech of it, s", "first_speech"), ("30 s: flow, one step, s", "flow"), ("30 s: vocoder, s", "vocoder"),
            ("real-time factor of 30 s, as with all steps", "factor"), ("of it flow and vocoder", "sound_factor"),
            ("of the third piece", "early"), ("of the last whole piece", "late"),
            ("30 s, all steps: flow and vocoder, s", "sound_seconds"),
            ("30 s, all steps: with the tokens, s", "all_seconds"),
            ("30 s, all steps: 10^12 multiply-adds of both", "work"),
            ("30 s, all steps: 10^12 multiply-adds with the tokens", "all_work")]
    for words, key in rows:
        print(f"{words:58s} {ours[key]:10.2f} {theirs[key]:10.2f} {theirs[key] / ours[key]:6.1f}")
    print(f"work at {LONG_SECONDS} s: {theirs['work'] / ours['work']:.1f} times less than the whole prefix again "
          f"({ASKED:g} times are asked for), {theirs['all_work'] / ours['all_work']:.1f} with the language model")


def main() -> None:
    """Measure one release."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", default="cosyvoice2-0.5b", choices=("cosyvoice2-0.5b", "cosyvoice3-0.5b"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the numbers alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    made = measure(arguments.name)
    if arguments.json:
        print(json.dumps(made))
    else:
        show(made)


if __name__ == "__main__":
    main()
