"""What a server refuses, gives up and survives: full lines, deadlines, clients that leave, tokens, its own end."""

import asyncio
import json
import time

import httpx
import pytest

from photophone.pipelines.text_to_speech import TextToSpeechPipeline
from photophone.server import guard
from photophone.server.app import Settings, build_app, load_pipelines

SPEECH = "/v1/audio/speech"
LONG = "The sun is warm, and that was the start of it all. " * 40


@pytest.fixture(scope="module")
def speak():
    return {"speech": TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")}


@pytest.fixture
def serve(speak):
    """``serve(**settings)`` gives an app that speaks; all of them end with the test."""
    apps = []

    def build(**settings):
        apps.append(build_app(Settings(**settings), speak))
        return apps[-1]

    yield build
    for app in apps:
        app.state.models.close()


def fields(text, **others):
    return {"model": "tts-1", "input": text, "seed": 1, "response_format": "pcm", **others}


def client_of(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
                             base_url="http://localhost", timeout=300)


def ask(app, method, path, **options):
    async def one():
        async with client_of(app) as client:
            return await client.request(method, path, **options)
    return asyncio.run(one())


def value(app, name, **labels):
    return app.state.metrics.registry.get_sample_value(name, labels)


async def until(true, seconds=60):
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        await asyncio.sleep(0.01)


def test_a_full_line_is_told_with_a_time(serve):
    app = serve(queue=1, batch=1)
    line = app.state.models.workers["speech"].line

    async def scenario():
        async with client_of(app) as client:
            first = asyncio.create_task(client.post(SPEECH, json=fields(LONG)))
            await until(lambda: value(app, "photophone_running", kind="speech") == 1)
            second = asyncio.create_task(client.post(SPEECH, json=fields("Eight.")))
            await until(lambda: len(line) == 1)
            third = await client.post(SPEECH, json=fields("Nine."))
            second.cancel()
            await until(lambda: len(line) == 0)  # who left makes room
            fourth = asyncio.create_task(client.post(SPEECH, json=fields("Ten.")))
            await until(lambda: len(line) == 1)
            first.cancel()  # and ends the work at once
            return third, await fourth

    third, fourth = asyncio.run(scenario())
    assert third.status_code == 429 and 1 <= int(third.headers["retry-after"]) <= 60
    assert third.json()["error"]["type"] == "rate_limit_error"
    assert fourth.status_code == 200 and len(fourth.content) > 1000


@pytest.mark.parametrize("stream", [True, False])
def test_a_deadline_ends_the_work(serve, stream):
    app = serve(seconds=0.001, batch=1)  # no part is made within
    answer = ask(app, "POST", SPEECH, json=fields(LONG, stream=stream))
    assert answer.status_code == 504 and answer.json()["error"]["type"] == "timeout_error"

    async def idle():
        await until(lambda: value(app, "photophone_running", kind="speech") == 0)
    asyncio.run(idle())
    assert value(app, "photophone_audio_seconds_total", kind="speech") < 60  # the whole text takes two minutes


class Wire:
    """A client by hand: one request, whose answer is noted and which may leave at any time."""

    def __init__(self, content, path=SPEECH):
        self.messages = asyncio.Queue()
        self.messages.put_nowait({"type": "http.request", "body": json.dumps(content).encode(), "more_body": False})
        self.sent = []
        self.scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
                      "method": "POST", "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "http",
                      "query_string": b"", "headers": [(b"content-type", b"application/json")],
                      "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}

    async def send(self, message):
        self.sent.append(message)

    def start(self, app):
        return asyncio.create_task(app(self.scope, self.messages.get, self.send))

    def leave(self):
        self.messages.put_nowait({"type": "http.disconnect"})


@pytest.mark.parametrize("stream", [True, False])
def test_work_ends_when_its_client_leaves(serve, stream):
    app = serve()

    async def scenario():
        wire = Wire(fields(LONG, stream=stream))
        task = wire.start(app)
        await until(lambda: value(app, "photophone_running", kind="speech") == 1)
        if stream:
            await until(lambda: len(wire.sent) > 1)
        began = time.monotonic()
        wire.leave()
        await task
        left = time.monotonic() - began
        await until(lambda: value(app, "photophone_running", kind="speech") == 0)
        return wire.sent, left

    sent, left = asyncio.run(scenario())
    assert left < 1
    assert value(app, "photophone_cancelled_total", kind="speech") == 1
    assert value(app, "photophone_audio_seconds_total", kind="speech") < 60  # the whole text takes two minutes
    if stream:
        assert sent[0]["status"] == 200 and sent[-1].get("more_body")


def test_a_token_is_asked_for(serve):
    app = serve(token="right")
    given = {None: 401, "Bearer right": 200, "bearer  right": 200, "Bearer wrong": 401, "Bearer ": 401, "right": 401,
             "Basic Og==": 401, "Basic YTpyaWdodA==": 200, "Basic !": 401, "Bearer " + "x" * 20_000: 401}
    for header, status in given.items():
        headers = {} if header is None else {"authorization": header}
        answer = ask(app, "GET", "/v1/models", headers=headers)
        assert answer.status_code == status, header
        assert (status == 200) or answer.json()["error"]["code"] == "invalid_api_key"
    assert ask(app, "GET", "/metrics").status_code == ask(app, "POST", SPEECH, json=fields("Hi.")).status_code == 401
    assert ask(app, "GET", "/healthz").status_code == ask(app, "GET", "/readyz").status_code == 200


def test_tokens_are_compared_in_constant_time(serve, monkeypatch):
    """By the one function that is made for it, over digests of one length."""
    seen = []
    compare = guard.hmac.compare_digest
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda *pair: seen.append(pair) or compare(*pair))
    app = serve(token="right")
    for header in ("Bearer right", "Bearer wrong", "Bearer " + "r" * 1000, "nothing"):
        ask(app, "GET", "/v1/models", headers={"authorization": header})
    assert len(seen) == 4 and all(len(one) == len(other) == 32 for one, other in seen)


def test_an_ending_server_takes_nothing_new_and_finishes(serve):
    app = serve()

    async def scenario():
        async with client_of(app) as client:
            first = asyncio.create_task(client.post(SPEECH, json=fields(LONG[:400])))
            await until(lambda: value(app, "photophone_running", kind="speech") == 1)
            app.state.requests.is_ending = True
            refused, ready = await client.post(SPEECH, json=fields("Hi.")), await client.get("/readyz")
            return refused, ready, await first

    refused, ready, first = asyncio.run(scenario())
    assert refused.status_code == ready.status_code == 503 and int(refused.headers["retry-after"]) > 0
    assert first.status_code == 200 and len(first.content) > 48_000
    assert ask(app, "GET", "/healthz").status_code == 200


def test_what_breaks_tells_nothing_and_breaks_nothing_else(serve, monkeypatch, capfd):
    app = serve()
    worker = app.state.models.workers["speech"]
    with monkeypatch.context() as patched:
        patched.setattr(worker.rounds, "step", lambda: 1 / 0)
        answer = ask(app, "POST", SPEECH, json=fields("Hi."))
    assert answer.status_code == 500 and "ZeroDivision" not in answer.text and "line" not in answer.text
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert ask(app, "POST", SPEECH, json=fields("Hi.")).status_code == 200


def test_models_of_folders_are_known_by_their_name_only(speak, tmp_path):
    folder = tmp_path / "a-voice"
    speak["speech"].save_pretrained(folder)
    settings = Settings(speech=str(folder), image=None, enhance=None)
    app = build_app(settings, load_pipelines(settings))
    try:
        answers = [ask(app, "GET", "/v1/models"), ask(app, "POST", SPEECH, json=fields("Hi.", model="a-voice")),
                   ask(app, "POST", SPEECH, json=fields("Hi.", model="other")),
                   ask(app, "POST", "/v1/images/generations", json={"prompt": "a cat"})]
    finally:
        app.state.models.close()
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404]
    assert answers[0].json()["data"][0]["id"] == "a-voice"
    assert not any(str(tmp_path) in answer.text for answer in (answers[0], *answers[2:]))


def test_sizes_and_times_of_requests_are_bounded(serve, monkeypatch):
    app = serve()

    async def many_parts():
        for _ in range(30):
            yield b" " * 10_000

    json_type = {"content-type": "application/json"}
    images = "/v1/images/generations"
    assert ask(app, "POST", images, content=b" " * 300_000, headers=json_type).status_code == 413
    assert ask(app, "POST", images, content=many_parts(), headers=json_type).status_code == 413
    assert ask(app, "POST", SPEECH, content=b" " * 4_300_000, headers=json_type).status_code == 413
    assert ask(app, "POST", "/v1/audio/enhance", content=b"", headers={"content-length": "99999999999"}
               ).status_code == 413
    assert ask(app, "GET", "/v1/models", headers={"x-much": "y" * 40_000}).status_code == 431

    monkeypatch.setattr(guard, "SERVER_BODY_SECONDS", 0.05)

    async def slow():
        wire = Wire({})
        wire.messages.get_nowait()
        wire.messages.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
        await wire.start(app)
        return wire.sent
    assert asyncio.run(slow())[0]["status"] == 408


def test_nothing_to_serve_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        load_pipelines(Settings(None, None, None))
