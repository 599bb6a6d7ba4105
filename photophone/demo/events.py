"""The events that every tab wires in the same way: start, cancel, wait, load an example."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gradio as gr

from photophone.demo.jobs import Emit
from photophone.demo.models import installed
from photophone.demo.parts import Demo, facts_line, for_visitors

HIDDEN = {"api_visibility": "private", "concurrency_limit": None}
"""Of events that compute nothing worth a queue and belong to the page alone."""


def wait(events: Iterator[tuple[str, Any]], progress: gr.Progress | None = None,
         words: str = "") -> Generator[dict, None, Any]:
    """Keep the page as it is until a job ends; ``yield from`` it in a handler gives what the job returned.

    Args:
        events: of :meth:`photophone.demo.jobs.Worker.run`.
        progress, words: shown at each step, where the job reports steps.
    """
    for kind, value in events:
        if kind == "result":
            return value
        if kind == "step" and progress is not None:
            progress(value, desc=words)
        yield gr.skip()
    raise RuntimeError("a job ended without a result")  # not reached: a worker's last event is the result


def connect(demo: Demo, start: gr.Button, stop: gr.Button, handler: Callable[..., Iterator[Any]],
            inputs: list[gr.components.Component], outputs: list[gr.components.Component], *, name: str, kind: str,
            shown: gr.components.Component, facts: gr.HTML,
            cleared: tuple[gr.components.Component, ...] = ()) -> gr.events.Dependency:
    """Let one button start a handler and the other one cancel it.

    Args:
        demo: says how many handlers of a kind run at a time.
        start, stop: the buttons.
        handler, inputs, outputs: of gradio.
        name: of the handler in the app's API.
        kind: handlers of one kind wait for each other.
        shown: the component on which progress is shown.
        facts: where an end before the result is told, by a cancelling or an error.
        cleared: are emptied then.

    Returns:
        the start's event, for what comes after it.
    """
    run = start.click(handler, inputs, outputs, api_name=name, concurrency_limit=demo.jobs, concurrency_id=kind,
                      show_progress_on=[shown])
    stop.click(None, cancels=[run], **HIDDEN)
    # The page ignores clicks on start until a cancelling has ended, so only what follows the run may tell of its end;
    # in the page itself, for an answer of the server could come after the next start.
    ended = json.dumps([*("" for _ in cleared), facts_line("Stopped.")])
    run.failure(None, None, [*cleared, facts], js=f"() => {ended}", **HIDDEN)
    return run


def example_button(demo: Demo, target: gr.components.Component, model: str | None, kind: str,
                   make: Callable[[], Any], elem_id: str) -> None:
    """A button that fills an input with what a built-in model makes; hidden where the model is not there.

    Args:
        demo: holds the model.
        target: the input.
        model: of ``demo.choice``, whose worker makes it.
        kind: see :func:`connect`.
        make: gives the value, in the worker's thread.
        elem_id: of the button.
    """
    button = gr.Button("Load an example", size="sm", elem_id=elem_id, visible=installed(model))

    @for_visitors
    def load() -> Iterator[Any]:
        def work(emit: Emit) -> Any:
            return make()

        for event, value in demo.shelf.worker(model).run(work):
            if event == "result":  # no gr.skip() before: gradio would build the input anew, without take_bytes
                yield value

    button.click(load, None, target, api_visibility="private", concurrency_limit=demo.jobs, concurrency_id=kind)
