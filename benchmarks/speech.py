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
from tables import add_json_option, forget_peak, peak_megabytes, publish

from photophone.pipelines.text_to_speech import TextToSpeechPipeline

SHORT = "Light carries sound."
TEXT = ("The photophone carried speech on a beam of light. It was made in eighteen eighty, and it worked over two "
        "hundred meters. A mirror that trembled with the voice sent the light to a cell of selenium.")
LONG_SECONDS = 60
CHUNKS = 10
COLUMNS = ("voice", "real-time factor", "of hibari-tts", "streamed", "ms to the first audio",
           f"ms of a chunk, first {CHUNKS}", f"last {CHUNKS} of a minute", "peak MB")
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


def measure_pipeline(pipeline: TextToSpeechPipeline, repeats: int, clock: Clock) -> list[float | None]:
    """Real-time factors of a call and of a stream, ms to the first audio, ms of early and late chunks, peak memory."""
    forget_peak()

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

    costs = chunk_costs(pipeline, clock)
    head, tail = statistics.median(costs[:CHUNKS]), statistics.median(costs[-CHUNKS:])
    return [median(factor, repeats), median(streamed, repeats), 1000 * median(first, repeats), 1000 * head,
            1000 * tail, peak_megabytes()]


def chunk_costs(pipeline: TextToSpeechPipeline, clock: Clock) -> list[float]:
    """Seconds of work of each chunk but the first over LONG_SECONDS of speech."""
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
    return costs


def measure_hibari(repeats: int, clock: Clock) -> list[float | None]:
    """The same of the package hibari-tts, a core dependency; its first audio is the whole sentence."""
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

    return [median(factor, repeats), None, 1000 * median(first, repeats), None, None, None]


def measure_espeak(program: str, repeats: int, clock: Clock) -> list[float | None]:
    """The same of espeak-ng, whose start is part of each call."""
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

        return [median(factor, repeats), None, 1000 * median(whole, repeats), None, None, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="photophone/tiny-speech")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor, not of the clock")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = cpu_seconds if arguments.cpu_time else time.perf_counter
    pipeline = TextToSpeechPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    measured = {arguments.model: measure_pipeline(pipeline, arguments.repeats, clock),
                "hibari-tts": measure_hibari(arguments.repeats, clock)}
    if program := shutil.which("espeak-ng"):  # apt install espeak-ng
        measured["espeak-ng"] = measure_espeak(program, arguments.repeats, clock)
    peer = measured["hibari-tts"][0]
    rows = [[name, numbers[0], numbers[0] / peer, *numbers[1:]] for name, numbers in measured.items()]
    publish({"speech": (COLUMNS, rows)}, arguments.json, threads=arguments.threads,
            clock="processor" if arguments.cpu_time else "wall")


if __name__ == "__main__":
    main()
