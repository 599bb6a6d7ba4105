"""Speed of text to speech on this machine, beside hibari-tts and espeak-ng in the same run.

Real-time factor (seconds of work a second of speech), time to the first audio with everything loaded, and what a
chunk costs at the beginning and at the end of a long text. On a machine that is busy with other work, --cpu-time counts
seconds of the processor instead of those of the clock; with one thread they are what a free core would need.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch

from photophone.pipelines.text_to_speech import TextToSpeechPipeline

SHORT = "Light carries sound."
TEXT = ("The photophone carried speech on a beam of light. It was made in eighteen eighty, and it worked over two "
        "hundred meters. A mirror that trembled with the voice sent the light to a cell of selenium.")
LONG_SECONDS = 60
CHUNKS = 10
Clock = Callable[[], float]


def cpu_seconds() -> float:
    """Of this process and of the programs it has run."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def median(function: Callable[[], float], repeats: int) -> float:
    """Median of what ``function`` returns, after one warm-up."""
    function()
    return statistics.median(function() for _ in range(repeats))


def seeded() -> torch.Generator:
    """The same draws for every call."""
    return torch.Generator().manual_seed(0)


def measure_pipeline(pipeline: TextToSpeechPipeline, repeats: int, clock: Clock) -> None:
    """Print the three measures."""
    def factor() -> float:
        started = clock()
        (audio,) = pipeline(TEXT, generator=seeded()).audio
        return (clock() - started) / (len(audio) / pipeline.sample_rate)

    def streamed() -> float:
        started = clock()
        samples = sum(len(chunk.audio) for chunk in pipeline.stream(TEXT, generator=seeded()))
        return (clock() - started) / (samples / pipeline.sample_rate)

    def first() -> float:
        started = clock()
        stream = pipeline.stream(SHORT, generator=seeded())
        next(stream)
        elapsed = clock() - started
        stream.close()
        return elapsed

    print(f"photophone  real-time factor {median(factor, repeats):.3f} offline, {median(streamed, repeats):.3f} "
          f"streaming; first audio after {1000 * median(first, repeats):.0f} ms")
    costs, seconds = chunk_costs(pipeline, clock)
    head, tail = statistics.median(costs[:CHUNKS]), statistics.median(costs[-CHUNKS:])
    print(f"photophone  {len(costs)} chunks over {seconds:.0f} s: the first {CHUNKS} cost {1000 * head:.1f} ms each, "
          f"the last {CHUNKS} {1000 * tail:.1f} ms ({100 * (tail / head - 1):+.0f} %)")


def chunk_costs(pipeline: TextToSpeechPipeline, clock: Clock) -> tuple[list[float], float]:
    """Seconds of work of each chunk but the first over LONG_SECONDS of speech, and the seconds of speech."""
    costs, samples = [], 0
    stream = pipeline.stream(" ".join([TEXT] * 12), generator=seeded())
    next(stream)
    started = clock()
    for chunk in stream:
        costs.append(clock() - started)
        samples += len(chunk.audio)
        if samples > LONG_SECONDS * pipeline.sample_rate:
            break
        started = clock()
    stream.close()
    return costs, samples / pipeline.sample_rate


def measure_hibari(repeats: int, clock: Clock) -> None:
    """Print the measures of the package hibari-tts, which is a core dependency."""
    from hibari import Hibari

    voice = Hibari()

    def factor() -> float:
        started = clock()
        audio = voice(TEXT, seed=0)
        return (clock() - started) / (len(audio) / voice.sample_rate)

    def first() -> float:
        started = clock()
        next(voice.stream(SHORT, seed=0))
        return clock() - started

    print(f"hibari-tts  real-time factor {median(factor, repeats):.3f}; first audio, the whole sentence, after "
          f"{1000 * median(first, repeats):.0f} ms")


def measure_espeak(repeats: int, clock: Clock) -> None:
    """Print the measures of espeak-ng, if it is installed; its start is part of each call."""
    program = shutil.which("espeak-ng")
    if program is None:
        print("espeak-ng   not installed (apt install espeak-ng)")
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"

        def factor() -> float:
            started = clock()
            subprocess.run([program, "-w", str(file), TEXT], check=True)
            return (clock() - started) / soundfile.info(file).duration

        def whole() -> float:
            started = clock()
            subprocess.run([program, "-w", str(file), SHORT], check=True)
            return clock() - started

        print(f"espeak-ng   real-time factor {median(factor, repeats):.3f}; a short sentence after "
              f"{1000 * median(whole, repeats):.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photophone/tiny-speech")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, not of the clock")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = cpu_seconds if arguments.cpu_time else time.perf_counter
    started = clock()
    pipeline = TextToSpeechPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    print(f"load {clock() - started:.2f} s, {arguments.threads} threads, "
          f"{'seconds of the processor' if arguments.cpu_time else 'wall clock'}")
    measure_pipeline(pipeline, arguments.repeats, clock)
    measure_hibari(arguments.repeats, clock)
    measure_espeak(arguments.repeats, clock)


if __name__ == "__main__":
    main()
