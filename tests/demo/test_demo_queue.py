"""The demo's queue: one job at a time, some wait, the others are told that it is full."""

import time
from concurrent.futures import ThreadPoolExecutor

from visitors import IMAGE_DEFAULTS, Visitor

from photophone.demo.app import Settings, serving
from photophone.demo.models import Choice


def test_requests_beyond_the_queue_are_told_that_it_is_full():
    def visit(index):
        time.sleep(0.05 * index)
        return Visitor(address).call("image", ["a red apple", 8, 7, False, *IMAGE_DEFAULTS])

    with serving(Choice(speech=None, enhance=None), Settings(queue=2)) as address, ThreadPoolExecutor(8) as pool:
        assert Visitor(address).call("image", ["a red apple", 1, 7, False, *IMAGE_DEFAULTS])[0] == "complete"
        answers = list(pool.map(visit, range(8)))
        assert Visitor(address).call("image", ["a red apple", 1, 7, False, *IMAGE_DEFAULTS])[0] == "complete"
    made = [answer for state, answer in answers if state == "complete"]
    refused = [answer for state, answer in answers if state == "refused"]
    assert len(made) + len(refused) == 8 and len(made) >= 3 and refused
    assert all(words.startswith("Queue is full") for words in refused)
