"""Attack a running server: malformed requests made of its own schema by schemathesis, and files that lie.

``python benchmarks/serve_attack.py --requests 2000`` starts ``photophone serve``, asks, and prints what came back. It
fails where an answer is 5xx, takes over five seconds, tells of files or code, or where a file is left.

Several requests are made at the same time, so an answer that was slow among others is asked for again alone: it is a
fault if it is slow three times. Long work is bounded by a deadline: that answer, 504, is the one 5xx that is right.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as fixed
from hypothesis.errors import Unsatisfiable

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from serve_lies import file_requests, odd_requests
from served import check_watched, served, watched

SLOWEST = 5.0
DEADLINE = 3.0
CLIENTS = 3
TRIES = 3
TELLING = re.compile(rb"Traceback|File \"|\.py\b|/home/|/usr/|/tmp/|/root/|site-packages|photophone/server|"
                     rb"0x[0-9a-f]{8}")
LONGEST = 20_000
"""Characters that schemathesis is asked for; longer ones it makes by throwing away nearly all that it draws."""
ATTACKED = {"tts-1": "/v1/audio/speech", "dall-e-2": "/v1/images"}
"""Models that half of the valid requests are for; names that are drawn are those of no model."""
Request = tuple[str, str, dict[str, Any]]


@dataclass
class Findings:
    """What came back.

    Attributes:
        slow: requests whose answer took too long, and how long.
        parts: seconds and requests of each part of the attack.
    """

    statuses: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slow: list[tuple[Request, float]] = field(default_factory=list)
    slowest: float = 0.0
    parts: dict[str, tuple[float, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, status: Any, *faults: str) -> None:
        """Count an answer."""
        with self.lock:
            self.statuses[status] += 1
            self.faults += faults

    @property
    def count(self) -> int:
        """Requests that were made."""
        return sum(self.statuses.values())

    def report(self) -> dict[str, Any]:
        """What is printed at the end."""
        return {"requests": self.count,
                "statuses": {str(key): self.statuses[key] for key in sorted(self.statuses, key=str)},
                "slowest": round(self.slowest, 2),
                "slow_among_others": [f"{told(request)}: {seconds:.1f} s" for request, seconds in self.slow[:20]],
                "parts": {part: f"{count} in {seconds:.0f} s" for part, (seconds, count) in self.parts.items()},
                "faults": self.faults[:20]}


def told(request: Request) -> str:
    """A request in a line."""
    method, path, options = request
    return f"{method} {path[:100]} {str(options)[:200]}"


class Attacker:
    """Makes requests from several threads and looks at the answers.

    Args:
        address: of the server.
    """

    def __init__(self, address: str) -> None:
        self.findings = Findings()
        self.client = httpx.Client(base_url=address, timeout=60)
        self.pool, self.room = ThreadPoolExecutor(CLIENTS), threading.Semaphore(2 * CLIENTS)
        self.asked: list[Future] = []

    def send(self, request: Request) -> None:
        """Make a request when a thread is free."""
        self.room.acquire()
        self.asked.append(self.pool.submit(self._in_thread, request))

    def finish(self, name: str, began: float, before: int) -> None:
        """Wait for all answers of a part of the attack, and note how long it took.

        Raises:
            Exception: what broke in a thread.
        """
        wait(self.asked)
        for one in self.asked:
            one.result()
        self.asked.clear()
        seconds, count = self.findings.parts.get(name, (0.0, 0))
        self.findings.parts[name] = seconds + time.monotonic() - began, count + self.findings.count - before

    def _in_thread(self, request: Request) -> None:
        try:
            seconds = self.ask(request)
            if seconds > SLOWEST:
                self.findings.slow.append((request, seconds))
        finally:
            self.room.release()

    def ask(self, request: Request) -> float:
        """Make a request and look at its answer.

        Returns:
            The seconds that it took; 0 for one that no client can write.
        """
        method, path, options = request
        began = time.monotonic()
        what = told(request)
        try:
            made = self.client.build_request(method, path, **options)
            made.read()
        except (httpx.InvalidURL, ValueError, TypeError, AttributeError):  # the client cannot write it
            return 0.0
        try:
            answer = self.client.send(made)
        except httpx.TimeoutException as error:
            self.findings.note(type(error).__name__, f"{what}: no answer")
            return time.monotonic() - began
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            is_there = self.client.get("/healthz").status_code == 200
            self.findings.note(type(error).__name__, *(() if is_there else (f"{what}: the server is gone",)))
            return time.monotonic() - began
        except httpx.LocalProtocolError:  # such as a header that no client can send
            return 0.0
        seconds = time.monotonic() - began
        self.findings.slowest = max(self.findings.slowest, seconds)
        status, kind = answer.status_code, answer.headers.get("content-type", "")
        faults = [f"{what}: {status}"] if status >= 500 and status != 504 else []
        secret = TELLING.search(answer.content) if ("json" in kind or "text" in kind) else None
        if secret and path != "/openapi.json":
            faults.append(f"{what}: tells {secret[0]!r}")
        self.findings.note(status, *faults)
        return seconds

    def judge_slow(self) -> None:
        """Ask again, alone, for what was slow among others."""
        for request, seconds in self.findings.slow:
            times = [seconds]
            while len(times) < TRIES and times[-1] > SLOWEST:
                times.append(self.ask(request))
            if times[-1] > SLOWEST:
                self.findings.note("slow", f"{told(request)}: {', '.join(f'{one:.1f}' for one in times)} s")

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()
        self.client.close()


def shortened(schema: Any) -> Any:
    """A schema whose longest texts are of ``LONGEST`` characters; longer ones are among the odd requests."""
    if isinstance(schema, list):
        return [shortened(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: min(value, LONGEST) if key == "maxLength" and isinstance(value, int) else shortened(value)
            for key, value in schema.items()}


def writable(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose parts of forms can be written: numbers and objects, which schemathesis draws, as their JSON."""
    files = options.get("files")
    if not files:
        return options
    parts = [(name, (None, json.dumps(value)) if isinstance(value, int | float | dict | list | None) else value)
             for name, value in (files.items() if isinstance(files, dict) else files)]
    return {**options, "files": parts}


def for_a_model(request: Request, turn: int) -> Request:
    """Every second request for the model that there is, whatever model it is for."""
    _, path, options = request
    for name, start in ATTACKED.items():
        for kind in ("json", "data"):
            content = options.get(kind)
            if turn % 2 and path.startswith(start) and isinstance(content, dict) and "model" in content:
                return request[0], path, {**options, kind: {**content, "model": name}}
    return request


def schema_requests(attacker: Attacker, examples: int, seed: int, without: set[tuple[str, Any]]) -> None:
    """Send valid and invalid requests of every route, as the schema describes them.

    Args:
        attacker: that sends them.
        examples: of each route and mode; a quarter of it for routes without a body, whose addresses are drawn slowly.
        seed: of what is drawn.
        without: routes and modes with nothing to send; more are added.
    """
    address = str(attacker.client.base_url)
    schema = schemathesis.openapi.from_dict(shortened(attacker.client.get("/openapi.json").json()))
    turns: Iterator[int] = iter(range(10**9))
    for operation in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            route = operation.ok().label
            if (route, mode) in without:
                continue
            number = examples if route.startswith("POST") else max(1, examples // 4)

            @fixed(seed)
            @settings(max_examples=number, deadline=None, database=None, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))
            @given(case=operation.ok().as_strategy(generation_mode=mode))
            def attack(case) -> None:
                sent = case.as_transport_kwargs(base_url=address)
                method, url = sent.pop("method"), sent.pop("url").removeprefix(address.rstrip("/"))
                sent.pop("cookies", None)
                options = writable({key: value for key, value in sent.items() if value is not None})
                attacker.send(for_a_model((method, url, options), next(turns)))
            try:
                attack()
            except Unsatisfiable:
                without.add((route, mode))


def run_attack(address: str, requests: int, seed: int) -> Findings:
    """Make at least so many requests, a third of them with files."""
    attacker, draws = Attacker(address), random.Random(seed)
    findings = attacker.findings
    odd = odd_requests()
    parts = {"odd": odd[::max(1, len(odd) // max(20, requests // 8))], "files": file_requests(draws, requests // 3)}
    for name, made in parts.items():
        began, before = time.monotonic(), findings.count
        for request in made:
            attacker.send(request)
        attacker.finish(name, began, before)
    turn, without = 0, set()
    while findings.count < requests:
        began, before = time.monotonic(), findings.count
        schema_requests(attacker, max(2, (requests - before) // 20), seed + turn, without)
        attacker.finish("schema", began, before)
        turn += 1
        if findings.count == before:
            break
    attacker.judge_slow()
    attacker.close()
    return findings


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served("--deadline", DEADLINE, **watched(folder)) as server:
            findings = run_attack(server.address, arguments.requests, arguments.seed)
            _, errors = server.end()
        check_watched(folder)
    print(json.dumps(findings.report(), indent=1))
    if findings.faults or "Traceback" in errors:
        print(errors[-3000:], file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
