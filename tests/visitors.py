"""Visitors of the demo's API for tests: what gradio's page does, by plain HTTP."""

import json
import time
from functools import cache

import httpx
import torch
from tiny import shake

from photophone import SpeechEnhancementPipeline, SpeechEnhancer

SMALL_ENHANCER = {"channels": [8, 12, 16], "squeeze": 4, "width": 32, "hidden": 48, "depth": 2, "token_depth": 1,
                  "token_dim": 4, "dilations": [1, 2]}
IMAGE_DEFAULTS = [20, 3.0, 1.0, "", False, 64]
SPEECH_DEFAULTS = [1, 2.0, 1.0, "heart"]


@cache
def small_enhancer(folder):
    """A saved enhancement pipeline with random weights."""
    torch.manual_seed(0)
    SpeechEnhancementPipeline(shake(SpeechEnhancer(**SMALL_ENHANCER), scale=0.03)).save_pretrained(folder)
    return str(folder)


class Visitor:
    """One visitor.

    Attributes:
        heard: the text of every answer, for the search of what must not be in one.
        slowest: seconds of the slowest call.
    """

    def __init__(self, address):
        self.client = httpx.Client(base_url=address, timeout=60, trust_env=False)
        self.heard, self.slowest = [], 0.0

    def upload(self, name, data):
        """The handle of an upload, or the HTTP status that refused it."""
        answer = self.client.post("/gradio_api/upload", files={"files": (name, data)})
        if answer.status_code != 200:
            self.heard.append(answer.text)
            return answer.status_code
        return {"path": answer.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def call(self, name, data):
        """("complete", outputs), ("error", message or None), or ("refused", detail)."""
        began = time.perf_counter()
        body = data if isinstance(data, bytes) else json.dumps({"data": data}).encode()
        answer = self.client.post(f"/gradio_api/call/{name}", content=body,
                                  headers={"content-type": "application/json"})
        if answer.status_code != 200:
            self.heard.append(answer.text)
            self.slowest = max(self.slowest, time.perf_counter() - began)
            return "refused", answer.json()["detail"]
        stream = self.client.get(f"/gradio_api/call/{name}/{answer.json()['event_id']}").text
        self.slowest = max(self.slowest, time.perf_counter() - began)
        kind, _, rest = stream.strip().rpartition("event: ")[2].partition("\n")
        payload = json.loads(rest.partition("data: ")[2].strip())
        if kind == "error":
            self.heard.append(stream)
            return kind, payload.get("error") if isinstance(payload, dict) else payload
        return kind, payload

    def fetch(self, file):
        """The bytes of a file that an answer names."""
        answer = self.client.get("/gradio_api/file=" + file["path"])
        assert answer.status_code == 200, answer.text
        return answer.content
