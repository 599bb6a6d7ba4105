"""The demo on the server: under /demo, behind the same token, with its own guard."""

import httpx
import pytest
from served import served, watched
from visitors import SPEECH_DEFAULTS, Visitor

TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with served("--demo", "--image-model", "none", "--enhance-model", "none", PHOTOPHONE_TOKEN=TOKEN,
                **watched(folder)) as running:
        yield running
        code, errors = running.end()
        assert code == 143 and "Traceback" not in errors
        assert not [path for path in (folder / "tmp").rglob("*") if path.is_file()]
        assert not (folder / "hosts.log").exists()


def test_visitors_speak_on_the_demo_of_a_server(server):
    visitor = Visitor(server.address + "/demo/")
    visitor.client.auth = ("anybody", TOKEN)  # as browsers ask for it
    state, answer = visitor.call("speech", ["Light carries sound.", 1.0, 7, False, *SPEECH_DEFAULTS])
    assert state == "complete", answer
    assert "photophone" in visitor.client.get("").text
    data = visitor.client.get("gradio_api/file=" + answer[1]["path"]).content
    assert data[:4] == b"RIFF"


def test_the_demo_asks_for_the_token_and_keeps_its_guard(server):
    with httpx.Client(base_url=server.address, timeout=60) as client:
        refused = client.get("/demo/")
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
        client.auth = ("", TOKEN)
        page = client.get("/demo/")
        assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
        assert client.get("/demo/gradio_api/file=/etc/passwd").status_code == 404
        assert client.get("/demo/monitoring").status_code == 404
        assert client.post("/demo/gradio_api/queue/join", json={"data": [{"path": "/etc/passwd"}]}).status_code == 400
        assert client.get("/v1/models", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
