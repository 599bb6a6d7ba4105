"""No request makes the demo's server connect to an address or read a file that a visitor names."""

import asyncio
import json
import socket
import threading
from contextlib import closing, suppress

import pytest
from hostile import picture
from visitors import IMAGE_DEFAULTS, Visitor

from photophone.demo.app import Settings, serving
from photophone.demo.guard import Guard
from photophone.demo.models import Choice

JOIN, CALL = "/gradio_api/queue/join", "/gradio_api/call/tokens_image"
META = {"_type": "gradio.FileData"}


class Witness:
    """A server on this computer that answers with a mark, and counts who comes."""

    MARK = b"the witness was asked"

    def __init__(self):
        self.socket, self.visits = socket.create_server(("127.0.0.1", 0)), 0
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        with suppress(OSError):
            while True:
                visitor, _ = self.socket.accept()
                self.visits += 1
                with visitor:
                    visitor.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                                    % (len(self.MARK), self.MARK))


@pytest.fixture(scope="module")
def served():
    with serving(Choice(enhance=None), Settings()) as address:
        yield address


@pytest.fixture
def witness():
    witness = Witness()
    with closing(witness.socket):
        yield witness
        assert witness.visits == 0


def addresses(host):
    """Ways to write an address in a path."""
    plain = f"http://{host}/x.png"
    return [plain, plain.upper(), f"https://{host}/x.png", f"//{host}/x.png", f"/{plain}", f"ftp://{host}/x.png",
            f"file://{host}/etc/hostname", "file:///etc/hostname", f"gopher://{host}/x", f"http:/{host}/x.png",
            f"http:\\\\{host}\\x.png", f"http%3A%2F%2F{host}%2Fx.png", f"http%3a//{host}/x.png",
            f"http%253A%252F%252F{host}%252Fx.png", f"%68%74%74%70://{host}/x.png", f"%20http://{host}/x.png",
            f"http://user@{host}/x.png", f"http%00://{host}/x.png", f"data:,{host}", f"javascript:{host}"]


def routes(host):
    """Every route of gradio that could take an address, with every way to write it."""
    for address in addresses(host):
        for route in ("file=", "file/", "proxy=", "stream/", "run/", "custom_component/", "deep_link?link=",
                      "runs?from=", "info/", "theme.css/", "call/", "heartbeat/http://", "upload_progress/"):
            yield f"/gradio_api/{route}{address}"
        for route in ("/file=", "/proxy=", "/static/", "/assets/", "/svelte/", "/", "/config/", "/pwa_icon/",
                      "/?deep_link=", "/config?deep_link="):
            yield route + address
    yield "/gradio_api/file="
    yield "/gradio_api/file=relative.png"


def test_routes_that_take_an_address_are_refused_by_the_guard(served, witness):
    """Its own words show that gradio, which would look the address up, saw nothing."""
    visitor = Visitor(served)
    for method in ("GET", "HEAD"):
        for route in routes(f"127.0.0.1:{witness.port}"):
            answer = raw_request(visitor.client, method, route)
            assert answer.status_code in (403, 404), (method, route)
            assert Witness.MARK not in answer.content
            if method == "GET":
                assert answer.json() == {"detail": "not found"}, route


def raw_request(client, method, route):
    """A request whose path is sent as it stands: httpx would mend it."""
    request = client.build_request(method, "/")
    request.url = request.url.copy_with(raw_path=route.encode())
    return client.send(request)


def forged_files(host, stored):
    """What a visitor may give instead of an upload."""
    for address in addresses(host):
        yield {"path": address, "meta": META}
        yield {"path": address, "url": address, "meta": META}
        yield {"url": address, "meta": META}
        yield {"path": None, "url": address, "meta": META}
        yield {"path": address, "is_stream": True, "meta": META}
    yield {"path": stored + "/../../../../etc/hostname", "meta": META}


def test_payloads_that_name_an_address_are_refused(served, witness):
    visitor = Visitor(served)
    stored = visitor.upload("a.png", picture())["path"]
    for file in forged_files(f"127.0.0.1:{witness.port}", stored):
        plain = {"data": [file, "photophone/tiny-image"], "fn_index": 0, "session_hash": "s"}
        deep = {"data": [[{"image": file}], "x"], "fn_index": 0, "session_hash": "s"}
        event = {"data": [], "event_data": {"value": file}, "fn_index": 0, "session_hash": "s"}
        for route, body in ((JOIN, plain), (JOIN, deep), (JOIN, event), (CALL, plain), (CALL, deep)):
            answer = visitor.client.post(route, json=body)
            assert answer.status_code == 400, (route, file)
            assert answer.json() == {"detail": "files must be uploaded first"}


def test_a_file_of_the_demo_with_an_address_beside_it_is_read_from_the_disk(served, witness):
    visitor = Visitor(served)
    file = visitor.upload("a.png", picture())
    file |= {"url": f"http://127.0.0.1:{witness.port}/a.png", "is_stream": True}
    state, made = visitor.call("tokens_image", [file, "photophone/tiny-image"])
    assert state == "complete" and "PSNR" in made[2]
    assert str(witness.port) not in json.dumps(made)


def test_only_functions_of_the_page_itself_are_called_by_name(served):
    visitor = Visitor(served)
    for name in ("ls", "accept_blobs", "format", "preprocess", "__init__", None, ["read"]):
        answer = visitor.client.post("/gradio_api/component_server", json={
            "session_hash": "s", "component_id": 1, "fn_name": name, "data": []})
        assert (answer.status_code, answer.json()) == (404, {"detail": "not found"})
    parts = visitor.client.get("/config").json()["components"]
    (player,) = [part["id"] for part in parts if part["props"].get("elem_id") == "speech-live"]
    for route in ("/gradio_api/component_server", "/gradio_api/component_server/"):
        answer = visitor.client.post(route, json={"session_hash": "s", "component_id": player, "fn_name": "read",
                                                  "data": ["no such stream", 0]})
        assert (answer.status_code, answer.json()) == (200, ["", True])
    for route in ("/gradio_api/upload_progress", "/gradio_api/upload//", "/gradio_api/queue/join/x", CALL + "/../x"):
        assert raw_request(visitor.client, "POST", route).status_code == 404, route


def test_results_and_the_page_still_load(served):
    visitor = Visitor(served)
    kind, made = visitor.call("image", ["a red apple", 1, 7, False, *IMAGE_DEFAULTS])
    assert kind == "complete" and visitor.fetch(made[0][0]["image"]).startswith(b"\x89PNG")
    assert visitor.client.get(made[0][0]["image"]["url"]).content.startswith(b"\x89PNG")
    page = visitor.client.get("/")
    assert page.status_code == 200
    parts = [part.split('"')[0] for part in page.text.split('="./')[1:]]
    assert parts and all(visitor.client.get(f"/{part}").status_code == 200 for part in parts)


def ask(guard, scope):
    """What a guard sends, without a server."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"} if scope["type"] == "websocket" else {"type": "http.disconnect"}

    asyncio.run(guard(scope, receive, send))
    return sent


def test_nothing_but_requests_and_the_life_of_the_server_reaches_gradio(tmp_path):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    guard = Guard(app, tmp_path, {})
    assert ask(guard, {"type": "websocket", "path": "/queue/join", "headers": []}) == [
        {"type": "websocket.close", "code": 1008}]
    assert seen == []
    ask(guard, {"type": "lifespan"})
    assert seen == ["lifespan"]
