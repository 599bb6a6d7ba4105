"""Attack a running server: malformed requests made of its own schema by schemathesis, and files that lie.

``python benchmarks/serve_attack.py --requests 2000`` starts ``photophone serve``, asks, and prints what came back. It
fails where an answer is 5xx, takes over five seconds, tells of files or code, or where a file is left.

Long speech is bounded by a deadline of four seconds: that answer, 504, is the one 5xx that is right.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import schemathesis
import soundfile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as fixed
from hypothesis.errors import Unsatisfiable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from served import check_watched, served, watched

SLOWEST = 5.0
DEADLINE = 4.0
TELLING = re.compile(rb"Traceback|File \"|\.py\b|/home/|/usr/|/tmp/|/root/|site-packages|photophone/server|"
                     rb"0x[0-9a-f]{8}")


@dataclass
class Findings:
    """What came back."""

    statuses: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def ask(self, client: httpx.Client, method: str, path: str, **options) -> None:
        """Make a request and look at its answer."""
        began = time.monotonic()
        what = f"{method} {path} {str(options)[:200]}"
        try:
            answer = client.request(method, path, **options)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
            self.statuses[type(error).__name__] += 1
            if client.get("/healthz").status_code != 200:
                self.faults.append(f"{what}: the server is gone")
            return
        except (httpx.InvalidURL, httpx.LocalProtocolError, ValueError, TypeError):  # the client cannot write it
            return
        seconds = time.monotonic() - began
        self.slowest = max(self.slowest, seconds)
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code != 504:
            self.faults.append(f"{what}: {answer.status_code}")
        if seconds > SLOWEST:
            self.faults.append(f"{what}: {seconds:.1f} s")
        is_text = "json" in answer.headers.get("content-type", "") or "text" in answer.headers.get("content-type", "")
        if is_text and path != "/openapi.json" and TELLING.search(answer.content):
            self.faults.append(f"{what}: tells {TELLING.search(answer.content)[0]!r}")

    @property
    def count(self) -> int:
        """Requests that were made."""
        return sum(self.statuses.values())


def attack_schema(client: httpx.Client, findings: Findings, examples: int, seed: int) -> None:
    """Valid and invalid requests of every route, as the schema describes them."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    for operation in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            @fixed(seed)
            @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))
            @given(case=operation.ok().as_strategy(generation_mode=mode))
            def attack(case) -> None:
                sent = case.as_transport_kwargs(base_url=str(client.base_url))
                method, url = sent.pop("method"), sent.pop("url")
                sent.pop("cookies", None)
                findings.ask(client, method, url, **{key: value for key, value in sent.items() if value is not None})
            try:
                attack()
            except Unsatisfiable:
                continue  # a route without anything that could be wrong


def sound(form: str = "WAV", subtype: str = "PCM_16", seconds: float = 0.3) -> bytes:
    """A short recording of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(16000 * seconds)).astype(np.float32)
    soundfile.write(file, noise, 16000, format=form, subtype=subtype)
    return file.getvalue()


def lying_files(draws: random.Random, count: int) -> list[tuple[str, bytes]]:
    """Recordings cut short, renamed, with headers that lie, with NaN, and what is none."""
    whole = [sound(), sound("FLAC"), sound("OGG", "VORBIS"), sound("MP3", "MPEG_LAYER_III"), sound("WAV", "FLOAT")]
    nan = bytearray(sound("WAV", "FLOAT"))
    nan[-400:-396] = struct.pack("<f", float("nan"))
    huge = sound()[:40] + b"\xff\xff\xff\x7f" + sound()[44:]
    fixed_ones = [("nan.wav", bytes(nan)), ("huge.wav", huge), ("empty.wav", b""), ("../../etc/passwd", whole[0]),
                  ("picture.wav", b"\x89PNG\r\n\x1a\n" + bytes(500)), ("zip.flac", b"PK\x03\x04" + bytes(500)),
                  ("long" * 60 + ".wav", whole[0]), ("big.wav", whole[0] + bytes(3_000_000)), ("nul\0.wav", whole[1])]
    made = []
    while len(made) < count - len(fixed_ones):
        data = bytearray(draws.choice(whole))
        if draws.random() < 0.5:
            data = data[:draws.randrange(len(data))]
        for _ in range(draws.choice((0, 1, 5, 50))):
            if data:
                data[draws.randrange(min(len(data), draws.choice((64, len(data)))))] = draws.randrange(256)
        made.append((f"file{draws.choice(('.wav', '.mp3', '.flac', '.exe', ''))}", bytes(data)))
    return [*fixed_ones, *made][:count]


def odd_requests() -> list[tuple[str, str, dict]]:
    """Bodies and headers that are wrong in ways that no schema describes."""
    json_type, speech = {"content-type": "application/json"}, "/v1/audio/speech"
    bodies = [b"[" * 100_000, b'{"a":' * 30_000, b"nul", b"\xff\xfe\x00", b'{"input": NaN}', b"1e999",
              b'"' + b"x" * 190_000,
              b'{"model": "tts-1", "input": "Hi.", "speed": Infinity}', b"{" + b'"a": 1,' * 20_000 + b'"b": 2}',
              b'{"model": "tts-1", "input": "\\ud800\\udc00\\ud800"}', b" " * 250_000, b"9" * 100_000, b"\0" * 100,
              json.dumps({"model": "tts-1", "input": "\u202e\u0000\ufffe" * 500}).encode(),
              json.dumps({"model": "tts-1", "input": "\u0301" * 4000}).encode(),
              json.dumps({"model": "tts-1", "input": "1234567890" * 400}).encode()]
    odd = [("POST", path, {"content": body, "headers": json_type}) for body in bodies
           for path in (speech, "/v1/images/generations", "/v1/audio/enhance")]
    headers = [{"x-much": "y" * 60_000}, {f"x-{number}": "y" * 50 for number in range(400)}, {"content-length": "-1"},
               {"content-type": "application/json; charset=utf-7"}, {"authorization": "Bearer " + "x" * 20_000},
               {"content-type": "multipart/form-data"}, {"content-type": "multipart/form-data; boundary=" + "-" * 500},
               {"content-encoding": "gzip"}, {"transfer-encoding": "gzip"}, {"expect": "200-maybe"}, {"host": "a/../b"}]
    odd += [("POST", path, {"content": b"{}", "headers": own}) for own in headers
            for path in (speech, "/v1/audio/enhance")]
    paths = ["/v1/models/" + "x" * 30_000, "/v1/models/../../etc/passwd", "/v1/models/%00", "/v1/models/%ff%fe",
             "//", "/.env", "/v1/audio/speech/", "/v1/models/" + "%2e%2e%2f" * 30, "/openapi.json?" + "a=b&" * 5000]
    return odd + [(method, path, {}) for path in paths for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS")]


def run_attack(address: str, requests: int, seed: int) -> Findings:
    """Make at least so many requests, a third of them with files."""
    findings, draws = Findings(), random.Random(seed)
    with httpx.Client(base_url=address, timeout=60) as client:
        odd = odd_requests()
        for method, path, options in odd[:max(20, requests // 8)] if requests < len(odd) else odd:
            findings.ask(client, method, path, **options)
        for name, data in lying_files(draws, requests // 3):
            form = {"mix": draws.choice(("1", "0.5", "nan", "-1", "x", "")), "response_format": draws.choice(
                ("wav", "flac", "mp3", "opus", "exe"))}
            findings.ask(client, "POST", "/v1/audio/enhance", files={"file": (name, data)}, data=form)
        turn = 0
        while findings.count < requests:
            before = findings.count
            attack_schema(client, findings, max(2, (requests - before) // 16), seed + turn)
            turn += 1
            if findings.count == before:
                break
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
    print(json.dumps({"requests": findings.count, "statuses": {str(key): count for key, count in sorted(
        findings.statuses.items(), key=str)}, "slowest": round(findings.slowest, 2), "faults": findings.faults[:20]},
        indent=1))
    if findings.faults or "Traceback" in errors:
        print(errors[-3000:], file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
