"""A server in a process of its own, with the client that people use, with many clients, and at its end."""

import asyncio
import base64
import io
import json
import signal
import socket

import httpx
import numpy as np
import openai
import pytest
import soundfile
import torch
from PIL import Image
from served import ROOT, check_watched, served, watched

from photophone import TextToSpeechPipeline

TEXTS = ["Eight.", "Light carries sound.", "Who goes there, and why?", "The sun is warm. That was the start."]


@pytest.fixture(scope="module")
def server():
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.address + "/v1", api_key="none", max_retries=0, timeout=300)


@pytest.fixture(scope="module")
def spoken():
    """What the pipeline says of each text with its number as seed."""
    pipeline = TextToSpeechPipeline.from_pretrained("photophone/tiny-speech")
    return [pipeline(text, generator=torch.Generator().manual_seed(seed)).audio[0] for seed, text in enumerate(TEXTS)]


def whole(data):
    """float (T,) of a WAV whose length its header need not know."""
    return np.frombuffer(data[44:], "<i2") / 32768


def test_the_client_of_openai_speaks_unchanged(client, tmp_path):
    with client.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input=TEXTS[1]) as answer:
        answer.stream_to_file(tmp_path / "speech.mp3")
    sound = soundfile.info(tmp_path / "speech.mp3")
    assert sound.format == "MP3" and 1 < sound.duration < 4
    plain = client.audio.speech.create(model="gpt-4o-mini-tts", voice="coral", input=TEXTS[1], response_format="opus")
    assert soundfile.info(io.BytesIO(plain.content)).format == "OGG"


def test_the_client_gets_speech_while_it_is_made(client, spoken):
    with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=TEXTS[3], response_format="wav", extra_body={"seed": 3}) as answer:
        parts = list(answer.iter_bytes())
    audio = whole(b"".join(parts))
    assert len(parts) > 2 and audio.shape == spoken[3].shape and np.abs(audio - spoken[3]).max() < 2e-4
    with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="alloy", input=TEXTS[3], response_format="wav", stream_format="sse",
            extra_body={"seed": 3}) as answer:
        events = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert events[-1]["type"] == "speech.audio.done" and events[-1]["usage"]["total_tokens"] > 100
    again = whole(b"".join(base64.b64decode(event["audio"]) for event in events[:-1]))
    assert np.abs(again - spoken[3]).max() < 2e-4


def test_the_client_of_openai_draws_unchanged(client):
    answer = client.images.generate(model="gpt-image-1", prompt="a red apple, 3d emoji", n=2, size="64x64",
                                    extra_body={"num_inference_steps": 2})
    for item in answer.data:
        assert Image.open(io.BytesIO(base64.b64decode(item.b64_json))).size == (64, 64)


def test_the_client_of_openai_edits_unchanged(client, tmp_path):
    drawn = client.images.generate(prompt="a red apple, 3d emoji", size="64x64", extra_body={"seed": 7})
    (tmp_path / "apple.png").write_bytes(base64.b64decode(drawn.data[0].b64_json))
    hole = Image.new("RGBA", (64, 64), "black")
    hole.paste((0, 0, 0, 0), (0, 0, 64, 30))
    hole.save(tmp_path / "mask.png")
    options = {"extra_body": {"seed": 3, "num_inference_steps": 2}}
    with open(tmp_path / "apple.png", "rb") as image, open(tmp_path / "mask.png", "rb") as mask:
        edited = client.images.edit(image=image, mask=mask, prompt="a green apple, 3d emoji", n=2, size="64x64",
                                    response_format="b64_json", **options)
        image.seek(0)
        like = client.images.create_variation(image=image, n=2, **options)
        image.seek(0)
        clear = client.images.edit(image=[image], prompt="a red apple, 3d emoji", background="transparent", **options)
    before = np.asarray(Image.open(tmp_path / "apple.png")).astype(int)
    for item in edited.data:
        after = np.asarray(Image.open(io.BytesIO(base64.b64decode(item.b64_json)))).astype(int)
        assert np.array_equal(after[30:], before[30:]) and np.abs(after[:30] - before[:30]).mean() > 3
    assert len({item.b64_json for item in like.data}) == 2 and clear.background == "transparent"
    assert Image.open(io.BytesIO(base64.b64decode(clear.data[0].b64_json))).mode == "RGBA"
    with pytest.raises(openai.BadRequestError, match="image: .*no image"):
        client.images.create_variation(image=b"no picture")
    with pytest.raises(openai.BadRequestError, match="64x64"):
        client.images.create_variation(image=b"no picture", size="256x256")


def test_the_client_knows_models_and_errors(client):
    assert {model.id for model in client.models.list()} >= {"photophone/tiny-speech", "photophone/tiny-image"}
    assert client.models.retrieve("photophone/tiny-image").owned_by == "photophone"
    with pytest.raises(openai.BadRequestError, match="cyrillic"):
        client.audio.speech.create(model="tts-1", voice="alloy", input="Свет")
    with pytest.raises(openai.NotFoundError):
        client.audio.speech.create(model="nobody", voice="alloy", input="Hi.")


async def speak(client, seed, **fields):
    content = {"model": "tts-1", "input": TEXTS[seed], "seed": seed, "response_format": "wav", **fields}
    return await client.post("/v1/audio/speech", json=content)


def test_many_clients_get_their_own_results(server, spoken):
    async def one_client(number):
        async with httpx.AsyncClient(base_url=server.address, timeout=300) as client:
            return [(seed, await speak(client, seed, stream=bool(number % 2)))
                    for seed in (number % 4, (number + 1) % 4)]

    async def all_clients():
        return await asyncio.gather(*(one_client(number) for number in range(8)))

    answers = [answer for client in asyncio.run(all_clients()) for answer in client]
    assert [answer.status_code for _, answer in answers] == [200] * 16
    for seed, answer in answers:
        audio = whole(answer.content)
        assert audio.shape == spoken[seed].shape and np.abs(audio - spoken[seed]).max() < 4e-4


def test_files_and_odd_requests_leave_it_well(server):
    answers = []
    with httpx.Client(base_url=server.address, timeout=60) as client:
        for options in ({"headers": {"x-much": "y" * 200_000}}, {"headers": {"content-type": "multipart/form-data"}},
                        {"files": {"file": b"RIFF" * 1000}}, {"content": b"\0" * 1000},
                        {"headers": {"content-type": "multipart/form-data; boundary=" + "x" * 300}, "content": b"--"}):
            try:
                answers.append(client.post("/v1/audio/enhance", **options))
            except httpx.TransportError:
                assert "x-much" in options["headers"]  # that much is not read to its end
        assert client.get("/healthz").status_code == 200
    assert len(answers) >= 4 and all(400 <= answer.status_code < 500 for answer in answers)
    with socket.create_connection(server.address.removeprefix("http://").split(":")) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 300_000 + b"\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_loses_no_accepted_request(number, spoken, tmp_path):
    """Clients ask without a pause; at the signal those that were accepted get whole answers, the others a refusal. No
    file is left, and nobody was called."""
    async def clients(server):
        outcomes, going = [], asyncio.Event()

        async def one_client(first):
            async with httpx.AsyncClient(base_url=server.address, timeout=300) as client:
                for turn in range(50):
                    seed = (first + turn) % 4
                    try:
                        answer = await speak(client, seed)
                    except httpx.ConnectError:
                        return  # it has ended: nobody listens
                    except httpx.TransportError as error:
                        outcomes.append((seed, error))
                        return
                    outcomes.append((seed, answer))
                    going.set()
                    if answer.status_code == 503:
                        return

        tasks = [asyncio.create_task(one_client(first)) for first in range(6)]
        await going.wait()
        server.process.send_signal(number)
        await asyncio.gather(*tasks)
        return outcomes

    with served("--image-model", "none", **watched(tmp_path)) as server:
        noisy = (ROOT / "photophone" / "pretrained" / "tiny-enhance" / "noisy.flac").read_bytes()
        upload = {"file": noisy + bytes(2_000_000)}  # so much is kept on the disk while it comes in
        assert httpx.post(server.address + "/v1/audio/enhance", files=upload, timeout=300).status_code in (200, 400)
        outcomes = asyncio.run(clients(server))
        code = server.process.wait(timeout=60)
        errors = server.errors()
    assert code == 128 + number and "Traceback" not in errors
    check_watched(tmp_path)
    done = [(seed, answer) for seed, answer in outcomes if not isinstance(answer, Exception)]
    assert {answer.status_code for _, answer in done} <= {200, 503}
    assert all("incomplete" not in str(answer) for _, answer in outcomes)  # no answer broke off
    complete = [(seed, whole(answer.content)) for seed, answer in done if answer.status_code == 200]
    assert len(complete) >= 6
    assert all(audio.shape == spoken[seed].shape and np.abs(audio - spoken[seed]).max() < 4e-4
               for seed, audio in complete)


@pytest.mark.parametrize("arguments, words", [
    (["--port", "TAKEN"], "cannot listen"), (["--host", "999.1.1.1"], "cannot listen"),
    (["--token-file", "bad"], "visible ASCII"), (["--token-file", "none"], "check the path"),
    (["--port", 0, "--speech-model", "photophone/none"], "photophone/none"),
    (["--port", 0, "--device", "abacus"], "abacus"),
    (["--port", 0, "--speech-model", "none", "--image-model", "none", "--enhance-model", "none"], "nothing to serve")])
def test_wrong_options_take_one_line(arguments, words, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").write_text("two words")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, output, errors = run("serve", *(port if argument == "TAKEN" else argument for argument in arguments))
    assert code == 2 and words in errors and len(errors.splitlines()) == 1 and not output
