"""The command that shows the demo in a browser."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

import typer

from photophone.cli.common import DeviceOption, QuietOption, app

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@app.command()
def demo(host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other computers in.")] = (
             LOOPBACK[0]),
         port: Annotated[int | None, typer.Option(help="Port; a free one from 7860 on when not given.")] = None,
         share: Annotated[bool, typer.Option(help="Make a public link through gradio's servers.")] = False,
         image_model: Annotated[str, typer.Option(help="Pipeline of the image tab, or `none`.")] = (
             "photophone/tiny-image"),
         speech_model: Annotated[str, typer.Option(help="Pipeline of the speech tab, or `none`.")] = (
             "photophone/tiny-speech"),
         enhance_model: Annotated[str, typer.Option(help="Pipeline of the enhancement tab, or `none`.")] = (
             "photophone/tiny-enhance"),
         live_model: Annotated[str, typer.Option(help="Pipeline of the microphone tab, or `none`.")] = (
             "photophone/tiny-enhance-live"),
         tokenizer: Annotated[list[str] | None, typer.Option(help="Further tokenizer or codec of the tokens tab: NAME, "
                                                                  "NAME=WEIGHTS or a saved folder; may be repeated."
                                                             )] = None,
         jobs: Annotated[int, typer.Option(min=1, max=8, help="Requests of one tab taken up at a time.")] = 1,
         device: DeviceOption = "cpu", quiet: QuietOption = False) -> None:
    """Show the models in a browser. Listens on this computer only unless --host or --share say otherwise.

    On INT (Ctrl-C) and TERM it takes up nothing new, finishes or refuses what runs, and removes all files of visitors.
    """
    try:
        from photophone.demo.app import Settings, serving
    except ModuleNotFoundError as error:
        raise ImportError(f"the demo needs {error.name}: pip install 'photophone[demo]'") from error
    from photophone.demo.models import Choice

    names = [None if name == "none" else name for name in (image_model, speech_model, enhance_model, live_model)]
    choice = Choice(*names[:3], tuple(tokenizer or ()), device, names[3])
    with serving(choice, Settings(host, port, share, jobs)) as address:
        if host not in LOOPBACK and not quiet:
            print(f"everyone who can reach {host} can use this demo", file=sys.stderr)
        if not quiet:
            print(f"photophone demo: {address}  (Ctrl-C ends it)", flush=True)
        threading.Event().wait()  # until a signal ends it
