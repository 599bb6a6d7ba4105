"""Over 200 malformed uploads and inputs through the demo's API."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile import KINDS, damaged, inputs, paths, picture, sound, uploads
from visitors import IMAGE_DEFAULTS, Visitor, small_enhancer

from photophone.demo.app import Settings, serving
from photophone.demo.models import Choice

pytestmark = pytest.mark.slow  # minutes: hundreds of requests to a running demo

MODELS = {"image": "photophone/tiny-image", "audio": "photophone/tiny-speech"}
LONGEST = 5.0
"""Seconds that an answer may take."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    choice = Choice(enhance=small_enhancer(tmp_path_factory.mktemp("enhance") / "model"))
    with serving(choice, Settings(keep_seconds=6)) as address:
        folder = os.environ["GRADIO_TEMP_DIR"]
        yield address, folder
    assert not os.path.exists(folder)


@pytest.fixture
def visitor(served):
    """A visitor whose answers are searched for what must not be in them."""
    visitor = Visitor(served[0])
    yield visitor
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    for answer in visitor.heard:
        for secret in ("Traceback", "site-packages", ".py", served[1], root, "0x7f", "root:x:0"):
            assert secret not in answer
    assert visitor.slowest < LONGEST
    still_works(visitor)


def still_works(visitor):
    kind, made = visitor.call("image", ["a red apple", 1, 7, False, *IMAGE_DEFAULTS])
    assert kind == "complete" and visitor.fetch(made[0][0]["image"]).startswith(b"\x89PNG")


def files_in(folder):
    return {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}


def test_malformed_uploads_are_refused_with_a_sentence_and_leave_nothing(served, visitor):
    before, count = files_in(served[1]), 0
    for kind, name, data in uploads():
        count += 1
        handle = visitor.upload(name, data)
        state, answer = visitor.call(KINDS[kind], [handle, MODELS[kind]])
        assert state == "error" and answer and len(answer) < 300, (name, len(data), state, answer)
        assert not os.path.exists(handle["path"])
    assert count >= 95
    assert files_in(served[1]) <= before


def test_files_with_changed_bytes_end_in_a_result_or_a_sentence(visitor):
    ends = set()
    for kind, name, data in damaged(30):
        state, answer = visitor.call(KINDS[kind], [visitor.upload(name, data), MODELS[kind]])
        if state == "complete" and kind == "image":  # it could be read
            assert "PSNR" in answer[2], name
        elif state == "complete":
            assert visitor.fetch(answer[0]).startswith(b"RIFF"), name
        else:
            assert state == "error", (name, state)
            assert 0 < len(answer) < 300, name
        ends.add(state)
    assert ends == {"complete", "error"}


def test_paths_are_no_uploads(served, visitor):
    for path in paths(served[1]):
        for name in ("tokens_image", "tokens_audio"):
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            state, answer = visitor.call(name, [file, "photophone/tiny-image"])
            assert (state, answer) == ("refused", "files must be uploaded first"), path
    state, _ = visitor.call("enhance", ["/etc/passwd", 1.0])
    assert state == "error"


def test_no_route_reads_other_files(visitor):
    for path in ("/etc/passwd", "/proc/self/environ", os.path.abspath(__file__)):
        assert visitor.client.get(f"/gradio_api/file={path}").status_code in (403, 404)
    for route in ("/docs", "/openapi.json", "/monitoring", "/gradio_api/proxy=http://127.0.0.1/", "/login",
                  "/gradio_api/runs", "/gradio_api/token", "/assets/../../../../etc/passwd", "/static/../app.py"):
        assert visitor.client.get(route).status_code in (403, 404), route
    for route in ("/gradio_api/run/image", "/gradio_api/api/image", "/gradio_api/process_recording", "/login"):
        assert visitor.client.post(route, json={"data": []}).status_code == 404, route


def test_malformed_inputs_are_refused(visitor):
    count = 0
    for name, arguments in inputs():
        count += 1
        state, answer = visitor.call(name, arguments)
        assert state in ("error", "refused"), (name, str(arguments)[:80], answer)
    assert count >= 80


def test_uploads_have_a_limit_and_must_tell_their_size(visitor):
    assert visitor.upload("big.png", bytes(24_100_000)) == 413

    def of_unknown_length():
        yield from [bytes(100)] * 3

    answer = visitor.client.post("/gradio_api/upload", content=of_unknown_length(),
                                 headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 411


def test_equal_uploads_at_one_time_all_get_a_sentence(served, visitor):
    """gradio keeps equal uploads as one file, which the first refusal deletes under the others."""
    def upload_and_ask(_):
        one = Visitor(served[0])
        return [one.call("tokens_image", [one.upload("a.png", picture()[:60]), MODELS["image"]]) for _ in range(5)]

    with ThreadPoolExecutor(6) as pool:
        answers = [answer for some in pool.map(upload_and_ask, range(6)) for answer in some]
    assert {state for state, _ in answers} == {"error"}
    said = {words for _, words in answers}
    assert said <= {"cannot read the image: image file is truncated", "the upload is empty, or was deleted; upload it "
                    "again"}, said


def test_good_uploads_work_and_are_deleted_after_a_while(served, visitor):
    picture_state, made = visitor.call("tokens_image", [visitor.upload("a.png", picture()), MODELS["image"]])
    assert picture_state == "complete" and "PSNR" in made[2]
    state, made = visitor.call("tokens_audio", [visitor.upload("a.flac", sound("FLAC", channels=2)), MODELS["audio"]])
    assert state == "complete" and visitor.fetch(made[0]).startswith(b"RIFF")
    state, made = visitor.call("enhance", [visitor.upload("a.ogg", sound("OGG", "VORBIS")), 1.0])
    assert state == "complete" and visitor.fetch(made[0]).startswith(b"RIFF")
    assert files_in(served[1])
    limit = time.monotonic() + 25
    while files_in(served[1]) and time.monotonic() < limit:
        time.sleep(1)
    assert files_in(served[1]) == set()
