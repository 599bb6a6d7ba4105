"""Replicas under Ray Serve, on a real local cluster."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from served import served
from typer.testing import CliRunner

from photophone import TextToSpeechPipeline
from photophone.cli import app
from photophone.core.cores import usable_cores
from photophone.server.metrics import Metrics

TEXTS = ("Eight.", "Light carries sound.", "Who goes there, and why?", "The sun is warm.")
MODELS = ("--image-model", "none", "--enhance-model", "none")


def run(*arguments):
    return CliRunner().invoke(app, ["serve", *map(str, arguments)])


def test_what_engines_cannot_do_is_refused():
    done = run("--replicas", 2)
    assert isinstance(done.exception, ValueError) and "is for --engine ray" in str(done.exception)
    done = run("--engine", "ray", "--demo")
    assert isinstance(done.exception, ValueError) and "leave it out with --engine ray" in str(done.exception)
    assert run("--engine", "gunicorn").exit_code == 2


def test_a_missing_ray_is_named(monkeypatch):
    monkeypatch.setattr("photophone.cli.serve.find_spec", lambda name: None)
    done = run("--engine", "ray")
    assert isinstance(done.exception, ImportError) and "pip install 'photophone[ray]'" in str(done.exception)


def test_what_a_replica_counts_bears_its_name():
    alone, one = Metrics(), Metrics("r1")
    for metrics in (alone, one):
        metrics.requests.labels("/healthz", 200).inc()
    assert b'photophone_requests_total{route="/healthz",status="200"} 1.0' in alone.text()
    assert b'photophone_requests_total{replica="r1",route="/healthz",status="200"} 1.0' in one.text()
    assert one.text().count(b"# TYPE") == alone.text().count(b"# TYPE")


def replicas():
    """Process ids of all replicas on this computer."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:  # it ended
            continue
        if name.startswith(b"ray::ServeReplica"):
            found.add(int(folder.name))
    return found


async def ask(client, number):
    """Status and sound of one request."""
    content = {"model": "tts-1", "input": TEXTS[number % len(TEXTS)], "seed": number % len(TEXTS),
               "response_format": "wav", "stream": False}
    try:
        answer = await client.post("/v1/audio/speech", json=content)
    except httpx.TransportError as error:
        return repr(error), b""
    return answer.status_code, answer.content


async def load(address, clients, seconds, killed):
    """What became of all requests before and after a replica is killed, and the sounds by text."""
    outcomes, sounds, end = (Counter(), Counter()), [], time.monotonic() + seconds

    async def one(first):
        number = first
        async with httpx.AsyncClient(base_url=address, timeout=120) as client:
            while time.monotonic() < end:
                began = time.monotonic()
                status, data = await ask(client, number)
                outcomes[began > killed["recovered"]][status] += 1
                sounds.extend([(number % len(TEXTS), data)] if status == 200 else [])
                number += 1

    async def kill():
        await asyncio.sleep(seconds / 4)
        before = replicas() - killed["others"]
        os.kill(min(before), signal.SIGKILL)
        while len((replicas() - killed["others"]) - {min(before)}) < len(before):
            await asyncio.sleep(0.5)
        killed["recovered"] = time.monotonic() + 10  # until it is healthy

    await asyncio.gather(kill(), *(one(first) for first in range(clients)))
    return outcomes, sounds


@pytest.mark.slow
def test_a_killed_replica_is_replaced_under_load():
    pytest.importorskip("ray")
    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    truth = [pipeline(text, generator=torch.Generator().manual_seed(seed)).audio[0] for seed, text in enumerate(TEXTS)]
    count, killed = min(usable_cores().count, 2), {"others": replicas(), "recovered": float("inf")}
    with served("--engine", "ray", "--replicas", count, *MODELS) as server:
        (during, after), sounds = asyncio.run(load(server.address, 4, 120, killed))
        code, _ = server.end()
    print(f"until the replica is back {dict(during)}, then {dict(after)}")
    assert code == 128 + signal.SIGTERM and set(after) == {200} and after[200] > 20
    lost = sum(number for status, number in during.items() if status not in (200, 429))
    assert during[200] > 20 and lost <= 4 * count, "more than what ran on the killed replica"
    for number, data in sounds:
        heard = np.frombuffer(data[44:], "<i2") / 32768
        assert heard.shape == truth[number].shape and np.abs(heard - truth[number]).max() < 1e-3
    assert not replicas() - killed["others"]
