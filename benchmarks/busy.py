"""The built-in pipelines on a busy machine: alone, beside spinning processes, within one core, four of them at once.

    python benchmarks/busy.py [--other FOLDER] [--pipeline NAME ...] [--calls N] [--json FILE]

``--other`` is another checkout of photophone, an older build, that runs in turns with this one. Times are medians and
worst of the calls after a first one, in milliseconds; then processor time of a call, and peak memory of the process.
The quota needs the right to make a control group (version 1 or 2); without it, its rows say so. The last column is the
median beside that of the same build alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SENTENCE = "Light carries sound over the water and back again."
PIPELINES = ("speech", "image", "images-16", "enhance", "encode", "decode", "vocoder")
SCENES = ("alone", "beside 1x", "beside 2x", "one core", "quota of one core", "four at once")
SECONDS = 10
"""Of the audio that is enhanced, encoded and decoded."""


def build(name: str) -> Callable[[], object]:
    """One call of a built-in pipeline, with the default settings."""
    import torch

    import photophone as pp

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    def load(family: str, model: str):
        pipeline = getattr(pp, family).from_pretrained(f"photophone/{model}")
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    if name == "speech":
        speak = load("TextToSpeechPipeline", "tiny-speech")
        return lambda: speak(SENTENCE, generator=seeded())
    if name in ("image", "images-16"):
        draw, count = load("TextToImagePipeline", "tiny-image"), 16 if name == "images-16" else 1
        return lambda: draw("a red apple, 3d emoji", num_images_per_prompt=count, generator=seeded())
    if name == "enhance":
        clean = load("SpeechEnhancementPipeline", "tiny-enhance")
        noisy = 0.1 * torch.randn(SECONDS * 16000, generator=seeded()).numpy()
        return lambda: clean(noisy, 16000)
    codec = load("TextToSpeechPipeline", "tiny-speech").codec
    if name == "vocoder":
        codec = pp.AutoCodec.from_pretrained("photophone/tiny-vocoder")
    audio = 0.1 * torch.randn(1, 1, SECONDS * codec.sample_rate, generator=seeded())
    if name == "encode":
        return lambda: codec.encode(audio)
    tokens = codec.encode(audio)
    return lambda: codec.decode(tokens)


def work(name: str) -> None:
    """A process of calls: for each number that it reads it makes so many, and prints what they took."""
    call = build(name)
    call()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        times, began = [], time.process_time()
        for _ in range(int(line)):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        print(json.dumps({"times": times, "processor": (time.process_time() - began) / len(times),
                          "peak": peak_bytes()}), flush=True)


def peak_bytes() -> int:
    """Of this process's memory."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Calls:
    """A process of :func:`work`.

    Args:
        name: of the pipeline.
        folder: of the checkout whose package it imports.
        limit: what the process keeps to, see :func:`keep_to`.
    """

    def __init__(self, name: str, folder: Path, limit: str = "") -> None:
        self.process = subprocess.Popen([sys.executable, __file__, "--work", name, "--limit", limit], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**os.environ, "PYTHONPATH": str(folder)})

    def read(self) -> dict:
        """The next line."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended: {self.process.wait()}")
        return json.loads(line)

    def ask(self, calls: int) -> None:
        """Begin so many calls; :meth:`read` waits for them."""
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def spinning(count: int) -> Iterator[None]:
    """So many processes that do nothing but spin."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        if count:
            time.sleep(0.5)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def keep_to(limit: str) -> None:
    """Let this process have one core ("core"), or what a control group allows (its folder)."""
    if limit == "core":
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    elif limit:
        (Path(limit) / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def quota_group() -> Iterator[str | None]:
    """Folder of a new control group of one core, or None where none can be made."""
    for top, limit, value in ((Path("/sys/fs/cgroup"), "cpu.max", "100000 100000"),
                              (Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", "100000")):
        folder = top / f"photophone-busy-{os.getpid()}"
        try:
            if not (top / "cgroup.procs").exists():
                continue
            folder.mkdir()
            (folder / limit).write_text(value)
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        try:
            yield str(folder)
        finally:
            folder.rmdir()
        return
    yield None


def row(answers: list[dict]) -> dict:
    """What a scene's calls of one build took."""
    times = [seconds for answer in answers for seconds in answer["times"]]
    return {"median": statistics.median(times), "worst": max(times),
            "processor": statistics.mean(answer["processor"] for answer in answers),
            "peak": max(answer["peak"] for answer in answers)}


def in_turns(builds: dict[str, list[Calls]], calls: int, rounds: int) -> dict[str, dict]:
    """Each build's processes at once, the builds one after the other, ``rounds`` times."""
    answers: dict[str, list[dict]] = {build: [] for build in builds}
    for _ in range(rounds):
        for build, processes in builds.items():
            for process in processes:
                process.ask(calls)
            answers[build] += [process.read() for process in processes]
    return {build: row(found) for build, found in answers.items()}


def start(name: str, folders: dict[str, Path], count: int = 1, limit: str = "") -> dict[str, list[Calls]]:
    """``count`` processes of each build, ready."""
    builds = {build: [Calls(name, folder, limit) for _ in range(count)] for build, folder in folders.items()}
    for processes in builds.values():
        for process in processes:
            process.read()
    return builds


def close(builds: dict[str, list[Calls]]) -> None:
    """End all processes."""
    for processes in builds.values():
        for process in processes:
            process.close()


def measure(name: str, folders: dict[str, Path], calls: int, rounds: int) -> dict[str, dict[str, dict] | None]:
    """Each scene's rows of the builds; None for a scene that cannot be made here."""
    cores, scenes = os.cpu_count() or 1, {}
    builds = start(name, folders)
    for scene, factor in (("alone", 0), ("beside 1x", 1), ("beside 2x", 2)):
        with spinning(factor * cores):
            scenes[scene] = in_turns(builds, calls, rounds)
    close(builds)
    builds = start(name, folders, 4)
    scenes["four at once"] = in_turns(builds, calls, 1)
    close(builds)
    with quota_group() as group:
        for scene, limit in (("one core", "core" if hasattr(os, "sched_setaffinity") else None),
                             ("quota of one core", group)):
            scenes[scene] = None
            if limit is not None:
                builds = start(name, folders, limit=limit)
                scenes[scene] = in_turns(builds, calls, rounds)
                close(builds)
    return scenes


def show(name: str, scenes: dict[str, dict[str, dict] | None]) -> None:
    """Print one pipeline's rows."""
    for scene in SCENES:
        if scenes[scene] is None:
            print(f"{name:10s} {scene:18s} cannot be made here")
            continue
        for build, found in scenes[scene].items():
            print(f"{name:10s} {scene:18s} {build:6s} median {1000 * found['median']:8.1f}  worst "
                  f"{1000 * found['worst']:8.1f}  processor {1000 * found['processor']:8.1f} ms  peak "
                  f"{found['peak'] / 2**20:6.0f} MiB  x{found['median'] / scenes['alone'][build]['median']:.2f}",
                  flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--limit", default="", help=argparse.SUPPRESS)
    parser.add_argument("--other", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--pipeline", choices=PIPELINES, action="append", help="by default all")
    parser.add_argument("--calls", type=int, default=5, help="in a row")
    parser.add_argument("--rounds", type=int, default=2, help="of calls of each build")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    if arguments.work:
        keep_to(arguments.limit)
        work(arguments.work)
        return
    folders = {"this": ROOT, **({"other": arguments.other.resolve()} if arguments.other else {})}
    results = {}
    for name in arguments.pipeline or PIPELINES:
        results[name] = measure(name, folders, arguments.calls, arguments.rounds)
        show(name, results[name])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
