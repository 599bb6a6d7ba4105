"""Memory and speed of the official audio systems at their published sizes, with random weights, on this machine.

Every system runs in a process of its own, so its peak memory is its own. Seconds are those of the processor, all
threads together: with one thread on an idle machine they are those of the clock, and on a busy one they stay what they
are. Peers in the same run: the built-in photophone/tiny-speech for speed, and for CosyVoice's chunks the authors' way,
which computes all of the past again for each of them. Random weights cost what trained ones cost; what they say means
nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.loading.registry import create_model, find

TEXT_IDS, PATCHES, CODEC_SECONDS = 30, 6, 2.0
LONG_SECONDS, SHORT_SECONDS, SOLVER_STEPS = 60, 3, 10
FRAMES, CUT_FRAMES = 8, 2
MILLION, GIB = 1e6, 1024**3


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New weights are made in ``dtype``: a copy in float32 would need twice the memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    """A registered model at its published size."""
    torch.manual_seed(0)
    with default_dtype(dtype):
        return create_model(name, **options).eval()


def facts(*models: nn.Module) -> dict[str, float]:
    """Parameters in millions and gigabytes of weights."""
    weights = [weight for model in models for weight in model.parameters()]
    return {"parameters": sum(weight.numel() for weight in weights) / MILLION,
            "weights": sum(weight.numel() * weight.element_size() for weight in weights) / GIB}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the processor, and the result."""
    started = time.process_time()
    made = function()
    return time.process_time() - started, made


def noise_speech(rate: int, seconds: float) -> Tensor:
    """Noise (1, 1, T) as loud as speech."""
    return 0.1 * torch.randn(1, 1, round(rate * seconds), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def voxcpm(name: str) -> dict[str, Any]:
    """Text to speech in bfloat16 with a float32 codec, as the authors run it, patch by patch."""
    chain = find(name).chain
    model, codec = build(name, torch.bfloat16), build(chain.tokenizer[1])
    sequence = model.prepare([list(range(200, 200 + TEXT_IDS))])
    sampler = model.Sampler.from_settings({**chain.sampler, "max_patches": PATCHES, "min_patches": PATCHES})
    costs = []
    with codec.streaming(1):
        stream = model.stream(sequence, noise=SeededNoise.from_seeds([1]), sampler=sampler)
        for _ in range(PATCHES):
            seconds, audio = timed(lambda: codec.decode(next(stream)))
            costs.append(seconds)
    length = audio.shape[-1] / codec.output_sample_rate
    return {**facts(model, codec), "rtf": statistics.median(costs[1:]) / length, "first": costs[0],
            "note": f"{length:.2f} s a patch, {chain.sampler['num_inference_steps']} solver steps"}


@torch.no_grad()
def cosyvoice(name: str) -> dict[str, Any]:
    """Speech tokens to speech, chunk by chunk over a minute, and the stream beside the whole."""
    from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
    from photophone.pipelines.token_to_speech import TokenToSpeechPipeline

    pipeline = TokenToSpeechPipeline(build(f"{name}-flow"), build(f"{name}-hift"))
    pipeline.set_progress_bar_config(disable=True)
    flow, rate = pipeline.flow, pipeline.flow.config.token_rate
    tokens = torch.randint(0, flow.config.vocab_size, (1, LONG_SECONDS * rate),
                           generator=torch.Generator().manual_seed(2))
    speaker = torch.randn(1, flow.config.speaker_dim, generator=torch.Generator().manual_seed(3))

    def stream(seconds: int, **options: Any) -> tuple[list[float], Tensor]:
        size = flow.step_tokens if flow.has_chunks else 2 * rate
        pieces, costs, parts = tokens[:, :seconds * rate].split(size, dim=1), [], []
        chunks = pipeline.stream(pieces, speaker, generator=torch.Generator().manual_seed(1), **options)
        while True:
            cost, part = timed(lambda: next(chunks, None))
            if part is None:
                return costs, torch.cat(parts)
            costs.append(cost)
            parts.append(torch.from_numpy(part.audio))

    costs, streamed = stream(SHORT_SECONDS, num_inference_steps=SOLVER_STEPS)
    made = {**facts(flow, pipeline.vocoder), "first": costs[0], "rtf": sum(costs) / SHORT_SECONDS}
    cheap = {"num_inference_steps": 1, "guidance_scale": 1.0}
    long, _ = stream(LONG_SECONDS, **cheap)
    sixth = max(2, len(long) // 6)
    first, last = (statistics.median(part) for part in (long[1:sixth + 1], long[-sixth - 1:-1]))
    made["note"] = (f"chunks over {LONG_SECONDS} s, 1 step: {1000 * first:.0f} ms in the first sixth, "
                    f"{1000 * last:.0f} ms in the last")
    if flow.has_chunks:
        (whole,) = pipeline(tokens[:, :SHORT_SECONDS * rate], speaker, generator=torch.Generator().manual_seed(1),
                            num_inference_steps=SOLVER_STEPS, chunked=True, left_chunks=2).audio
        whole, sampler = torch.from_numpy(whole), FlowSampler(chunked=True, **cheap)
        again, _ = timed(lambda: flow.generate(SpeechTokens(tokens, speaker), noise=SeededNoise.from_seeds([1]),
                                               sampler=sampler))
        made["note"] += (f" ({1000 * again:.0f} ms with all of the past again); stream and whole differ by "
                         f"{float((streamed - whole).abs().max()):.1e} of {float(whole.abs().max()):.2f}")
    return made


@torch.no_grad()
def llase(name: str) -> dict[str, Any]:
    """Enhancement of a clip by the three networks."""
    from photophone.generators.llase_g1.enhancer import LLaSEEnhancer

    chain = find(name).chain
    parts = {key: build(model, **(chain.tokenizer_config if model == chain.tokenizer[1] else {}))
             for key, model in chain.files.items()}
    enhancer = LLaSEEnhancer.from_parts(**parts)
    audio = noise_speech(16000, CODEC_SECONDS)
    seconds, _ = timed(lambda: enhancer.enhance(audio))
    return {**facts(enhancer), "rtf": seconds / CODEC_SECONDS, "note": f"{CODEC_SECONDS:.0f} s, whole, float32"}


@torch.no_grad()
def codec(name: str) -> dict[str, Any]:
    """Encoding and decoding of a clip."""
    model = build(name)
    audio = noise_speech(model.sample_rate, CODEC_SECONDS)
    encoding, tokens = timed(lambda: model.encode(audio))
    decoding, _ = timed(lambda: model.decode(tokens))
    return {**facts(model), "rtf": (encoding + decoding) / CODEC_SECONDS,
            "note": f"encoding {encoding / CODEC_SECONDS:.3f}, decoding {decoding / CODEC_SECONDS:.3f}"}


def pass_time(model: nn.Module, count: int) -> None:
    """What the windows of a stream look like after ``count`` further positions."""
    from photophone.layers.window_attention import WindowAttention

    for layer in model.modules():
        if isinstance(layer, WindowAttention):
            keys, values, place = layer.stream_state
            kept = place + count if layer.window is None else min(layer.window - 1, place + count)
            shape = *keys.shape[:2], kept, keys.shape[3]
            layer.stream_state = torch.randn(shape).to(keys), torch.randn(shape).to(values), place + count


@torch.no_grad()
def delayed_streams(name: str) -> dict[str, Any]:
    """Frames of 80 ms of Kyutai's speech or of what it hears through Mimi: at the begin, behind one minute and two.

    Between them its windows are filled by noise, and its positions moved, as if so much had gone by.
    """
    from photophone.generators.delayed_streams.session import StreamSession
    from photophone.layers.decode_linear import prepare_for_decoding

    model, codec = build(name, torch.bfloat16), build(find(name).chain.tokenizer[1])
    own, speaks = facts(model, codec), bool(model.spoken_books)
    conditions = None
    if speaks:
        conditions = model.conditioners.conditions(model.attributes(model.example_condition(1), 2.0))
    wave, count = noise_speech(codec.sample_rate, 1.0), round(LONG_SECONDS * codec.frame_rate)
    silence = torch.full((1, model.spoken_books), -1)
    costs: dict[str, list[float]] = {"silent": [], "early": [], "late": [], "later": [], "int8": []}
    session = StreamSession(model, 1, conditions, noise=SeededNoise.from_seeds([1]))

    def frame(kind: str, index: int) -> None:
        """What a stream computes for one chunk of 80 ms."""
        audio = wave[..., :codec.hop_length].roll(index, -1)
        heard = torch.zeros(1, 0, dtype=torch.long) if speaks else codec.encode(audio).values[..., 0]
        made = session.step(heard, silence if kind == "silent" else None)
        if speaks and kind != "silent" and made is not None:
            codec.decode(Tokens(made[:, 1:, None].clamp(min=0)))

    with codec.streaming(1), session.open():
        for kind, seconds in costs.items():
            if kind.startswith("late"):
                pass_time(model, count)
            if kind == "int8":
                prepare_for_decoding(model, kind)
            for index in range(FRAMES):
                seconds.append(timed(lambda: frame(kind, index))[0])  # noqa: B023
    silent, early, late, later, small = map(statistics.median, costs.values())
    seconds = 1 / codec.frame_rate
    waits = max(model.delays) + CUT_FRAMES + 1  # frames behind the delay until sound comes out
    first = (model.config.speech_delay * silent + waits * early) if speaks else model.config.text_delay
    return {**own, "rtf": late / seconds, "first": first,
            "note": f"{1000 * early:.0f} ms for each {1000 * seconds:.0f} ms at the begin, {1000 * late:.0f} behind "
                    f"{LONG_SECONDS} s, {1000 * later:.0f} behind {2 * LONG_SECONDS} s; there {1000 * small:.0f} with "
                    "int8 weights"}


def built_in(name: str) -> dict[str, Any]:
    """The yardstick: a sentence by the built-in voice."""
    from photophone import TextToSpeechPipeline

    pipeline = TextToSpeechPipeline.from_pretrained(name)
    pipeline.set_progress_bar_config(disable=True)
    text = "The photophone carried speech on a beam of light."
    pipeline(text)
    seconds, result = timed(lambda: pipeline(text, generator=torch.Generator().manual_seed(0)))
    return {**facts(pipeline.speech_generator, pipeline.codec),
            "rtf": seconds / (len(result.audio[0]) / pipeline.sample_rate), "note": "text to speech, trained weights"}


SYSTEMS = {"photophone/tiny-speech": built_in, "voxcpm-0.5b": voxcpm, "voxcpm-1.5": voxcpm, "voxcpm-2": voxcpm,
           "cosyvoice-300m": cosyvoice, "cosyvoice2-0.5b": cosyvoice, "cosyvoice3-0.5b": cosyvoice, "llase-g1": llase,
           **dict.fromkeys(("kyutai-tts-1.6b-en-fr", "kyutai-stt-1b-en-fr", "kyutai-stt-2.6b-en"), delayed_streams),
           **dict.fromkeys(("vocos-mel-24khz", "wavtokenizer-large-unify-40", "focalcodec-offline-50hz",
                            "focalcodec-causal-2k", "bicodec-spark-tts-0.5b", "xcodec2", "dmel-16k-25ms",
                            "encodec-24khz-6kbps", "dac-16khz", "mimi-8"), codec)}


def main() -> None:
    """Run the systems that were asked for, one process each, and print a line for each as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("systems", nargs="*", metavar="NAME", help=f"of {', '.join(SYSTEMS)}; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        made = SYSTEMS[arguments.child](arguments.child)
        made["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
        print(json.dumps(made))
        return
    unknown = sorted(set(arguments.systems) - set(SYSTEMS))
    if unknown:
        parser.error(f"unknown systems {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    print(f"{arguments.threads} threads\n{'system':28s} {'params M':>8s} {'weights':>8s} {'peak GiB':>8s} {'RTF':>8s} "
          f"{'first s':>8s}")
    for name in arguments.systems or SYSTEMS:
        done = subprocess.run([sys.executable, __file__, "--child", name, "--threads", str(arguments.threads)],
                              check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:28s} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        first = f"{row['first']:8.2f}" if "first" in row else f"{'-':>8s}"
        print(f"{name:28s} {row['parameters']:8.1f} {row['weights']:8.2f} {row['memory']:8.2f} {row['rtf']:8.3f} "
              f"{first}  {row['note']}", flush=True)


if __name__ == "__main__":
    main()
