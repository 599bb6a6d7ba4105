"""A server under load, and what batches bring: ``python benchmarks/serve.py --part load|batches|end``.

``load``: 32 clients for two minutes; every answer is compared with what the pipeline alone says for its text and seed.
``batches``: 16 requests one after the other and at the same time, with one process that batches, and with one process a
core that does not. ``end``: TERM while 16 clients ask; no answer may break off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from served import Served, served

from photophone import TextToSpeechPipeline

TEXTS = ("Light carries sound.", "Eight small boats crossed the wide river before noon.", "Who goes there?",
         "The sun is warm, and that was the start.", "A book is read aloud. Nobody listens.", "It rained all day.",
         "The first telephone without wires was a beam of light.", "Please close the door when you leave.")
NEAR = 1e-3
"""Largest difference of a sample from what the pipeline alone says."""
ALONE = ("--image-model", "none", "--enhance-model", "none")


class Truth:
    """What the pipeline alone says for each of ``TEXTS`` with its number as seed."""

    def __init__(self) -> None:
        pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
        pipeline.set_progress_bar_config(disable=True)
        self.audio = [pipeline(text, generator=torch.Generator().manual_seed(number)).audio[0]
                      for number, text in enumerate(TEXTS)]

    def is_right(self, number: int, data: bytes) -> bool:
        """Whether a streamed WAV is the speech of a text."""
        heard = np.frombuffer(data[44:], "<i2") / 32768
        return heard.shape == self.audio[number].shape and bool(np.abs(heard - self.audio[number]).max() < NEAR)


async def speak(client: httpx.AsyncClient, number: int) -> httpx.Response:
    """One request for speech."""
    number %= len(TEXTS)
    content = {"model": "tts-1", "input": TEXTS[number], "seed": number, "response_format": "wav"}
    return await client.post("/v1/audio/speech", json=content)


async def ask_until(address: str, first: int, end: float, truth: Truth, found: dict[str, Any]) -> None:
    """One client, which asks again and again."""
    number = first
    async with httpx.AsyncClient(base_url=address, timeout=300) as client:
        while time.monotonic() < end:
            began = time.monotonic()
            answer = await speak(client, number)
            found["statuses"][answer.status_code] += 1
            if answer.status_code == 200:
                found["times"].append(time.monotonic() - began)
                found["wrong"] += not truth.is_right(number % len(TEXTS), answer.content)
            else:
                await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
            number += 1


async def watch_memory(server: Served, end: float, seen: list[int]) -> None:
    """The server's memory, each second."""
    while time.monotonic() < end:
        seen.append(server.memory())
        await asyncio.sleep(1)


def measure_load(clients: int, seconds: float) -> dict[str, Any]:
    """Many clients at once; memory counts from a quarter of the time on."""
    truth = Truth()
    found: dict[str, Any] = {"statuses": Counter(), "times": [], "wrong": 0}
    memory: list[int] = []

    async def all_clients(server: Served) -> None:
        end = time.monotonic() + seconds
        await asyncio.gather(watch_memory(server, end, memory), *(ask_until(server.address, first, end, truth, found)
                                                                  for first in range(clients)))

    with served(*ALONE) as server:
        asyncio.run(all_clients(server))
        memory.append(server.memory())
    times = sorted(found["times"])
    warm = memory[len(memory) // 4:]
    return {"clients": clients, "seconds": seconds, "statuses": dict(found["statuses"]), "wrong": found["wrong"],
            "p50": round(statistics.median(times), 2), "p95": round(times[int(0.95 * len(times))], 2),
            "requests a second": round(len(times) / seconds, 1),
            "memory growth in MB": round((max(warm) - warm[0]) / 1e6, 1), "memory in MB": round(memory[-1] / 1e6)}


async def many(addresses: list[str], count: int, at_once: bool) -> float:
    """Seconds that so many requests take, spread over servers."""
    clients = [httpx.AsyncClient(base_url=address, timeout=300) for address in addresses]
    try:
        work = [speak(clients[number % len(clients)], number) for number in range(count)]
        began = time.monotonic()
        answers = await asyncio.gather(*work) if at_once else [await one for one in work]
        taken = time.monotonic() - began
    finally:
        for client in clients:
            await client.aclose()
    if any(answer.status_code != 200 for answer in answers):
        raise RuntimeError(f"answers {[answer.status_code for answer in answers]}")
    return taken


def measure_batches(count: int, rounds: int) -> dict[str, Any]:
    """One process with batches beside one process a core without; the median of alternating rounds."""
    times: dict[str, list[float]] = {}
    with ExitStack() as stack:
        batching = stack.enter_context(served(*ALONE)).address
        others = [stack.enter_context(served(*ALONE, "--batch", 1, OMP_NUM_THREADS="1")).address for _ in range(2)]
        plans = {"one after the other": ([batching], False), "at once, one process with batches": ([batching], True),
                 "at once, a process a core without batches": (others, True)}
        for turn in range(rounds + 1):
            for name, (addresses, at_once) in plans.items():
                taken = asyncio.run(many(addresses, count, at_once))
                if turn:  # the first one warms up
                    times.setdefault(name, []).append(taken)
    seconds = {name: round(statistics.median(values), 2) for name, values in times.items()}
    one = seconds["one after the other"]
    return {"requests": count, "seconds": seconds, "times as fast": {name: round(one / value, 2)
                                                                    for name, value in seconds.items()}}


def measure_end(clients: int) -> dict[str, Any]:
    """TERM in the middle: what came of every request."""
    truth = Truth()
    outcomes: Counter = Counter()

    async def one_client(address: str, first: int) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=300) as client:
            for number in range(first, first + 1000):
                try:
                    answer = await speak(client, number)
                except httpx.ConnectError:
                    outcomes["not accepted: nobody listens"] += 1
                    return
                except httpx.TransportError as error:
                    outcomes[f"lost: {error!r}"] += 1
                    return
                if answer.status_code != 200:
                    outcomes[f"not accepted: {answer.status_code}"] += 1
                    return
                right = truth.is_right(number % len(TEXTS), answer.content)
                outcomes["answered" if right else "wrong"] += 1

    async def scenario(server: Served) -> None:
        tasks = [asyncio.create_task(one_client(server.address, first)) for first in range(clients)]
        await asyncio.sleep(5)
        server.process.terminate()
        await asyncio.gather(*tasks)

    with served(*ALONE) as server:
        asyncio.run(scenario(server))
        code = server.process.wait(60)
    return {"clients": clients, "outcomes": dict(outcomes), "exit code": code}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=("load", "batches", "end"), required=True)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.part == "load":
        result = measure_load(arguments.clients, arguments.seconds)
    elif arguments.part == "batches":
        result = measure_batches(arguments.requests, arguments.rounds)
    else:
        result = measure_end(arguments.clients)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
