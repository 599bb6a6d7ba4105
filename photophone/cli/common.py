"""What the commands share: the application, options, loading on a device."""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from photophone import __version__
from photophone.core.files import check_target

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False)

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Built-in name, folder or hub id.")]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps.")]
DtypeOption = Annotated[str, typer.Option(help="Of the computation: float32, bfloat16 or float16.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SettingsOption = Annotated[list[str] | None, typer.Option(
    "--option", metavar="NAME=VALUE", help="Further setting of the generator's sampler, such as top_k=100. May be "
                                           "repeated.")]


SHARED_SETTINGS = ("num_inference_steps", "guidance_scale", "guidance_schedule", "temperature")
"""Settings of samplers that pipelines take by name."""

DTYPES = ("float32", "bfloat16", "float16")


def print_version(asked: bool) -> None:
    """Print the version and exit, where ``--version`` is given."""
    if asked:
        print(f"photophone {__version__}")
        raise typer.Exit()


@app.callback()
def program(version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True,
                                                  help="Print the version and exit.")] = False) -> None:
    """Generative models of images, audio and speech on sequences of tokens."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Let nothing but Python write to standard error: C libraries such as libmpg123 print there on their own.

    They write to the file descriptor 2, which leads nowhere while the block runs. Where ``sys.stderr`` has that number
    it gets another one, for good: loggers may keep it.
    """
    try:
        is_ours = sys.stderr.fileno() == 2
        kept = os.dup(2)
    except (OSError, ValueError):  # no standard error, or one in memory
        yield
        return
    if is_ours:
        sys.stderr.flush()
        sys.stderr = open(kept, "w", encoding=sys.stderr.encoding, errors="backslashreplace",  # noqa: SIM115
                          buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        if not is_ours:
            os.dup2(kept, 2)
            os.close(kept)


def be_quiet(context: typer.Context, quiet: bool) -> bool:
    """Where ``--quiet`` is given, silence C libraries until the command ends, and our own warnings, such as of what was
    found in a checkpoint."""
    logging.getLogger("photophone").setLevel(logging.ERROR if quiet else logging.WARNING)
    if quiet and not context.resilient_parsing:
        context.with_resource(quiet_libraries())
    return quiet


QuietOption = Annotated[bool, typer.Option("--quiet", "-q", callback=be_quiet, help="Print nothing but errors.")]


def check_dtype(dtype: str) -> None:
    """Refuse a precision that there is none of.

    Raises:
        ValueError: names the known ones.
    """
    if dtype not in DTYPES:
        raise ValueError(f"--dtype must be {', '.join(DTYPES)}, got {dtype!r}")


def check_json(output: Path | None, overwrite: bool) -> None:
    """Refuse a JSON file that cannot be written, or is there, before anything is computed for it.

    Raises:
        ValueError: another suffix.
        OSError: see :func:`photophone.core.files.check_target`.
    """
    if output is None:
        return
    if output.suffix.lower() != ".json":
        raise ValueError(f"--output must be a .json file, got {output}")
    check_target(output, overwrite)


def load_pipeline(pipeline_class: type, model: str, device: str, dtype: str = "float32",
                  files: dict[str, str] | None = None):
    """Load a pipeline on a device.

    Args:
        pipeline_class: of :mod:`photophone.pipelines`.
        model: built-in name, folder or hub id; with ``files`` the registered name of a published generator.
        device, dtype: where and in what precision to compute.
        files: official checkpoints by the names that the generator's chain gives them; those that are missing come from
            the hub.

    Raises:
        ValueError: a device or dtype that cannot be used, or a model that cannot be loaded.
    """
    import torch

    from photophone.loading.auto import check_device

    check_dtype(dtype)
    check_device(device)
    if files is None:
        return pipeline_class.from_pretrained(model, dtype=getattr(torch, dtype)).to(device)
    return pipeline_class.from_original(model, **files).to(device, getattr(torch, dtype))


def named_values(option: str, given: list[str] | None) -> dict[str, str]:
    """What a repeated option NAME=VALUE says.

    Raises:
        ValueError: one without a name or a value.
    """
    values = {}
    for text in given or []:
        name, _, value = text.partition("=")
        if not name or not value:
            raise ValueError(f"{option} must be of the form NAME=VALUE, got {text!r}")
        values[name] = value
    return values


def read_settings(given: list[str] | None, call: Callable) -> dict[str, Any]:
    """What ``--option`` says: numbers, true and false as JSON has them, words as they stand.

    Args:
        given: NAME=VALUE of each.
        call: of the pipeline; what it names itself is no setting of the sampler, but for ``SHARED_SETTINGS``.

    Raises:
        ValueError: not of this form, or a name that is not for the sampler.
    """
    settings = {}
    for name, value in named_values("--option", given).items():
        if name in inspect.signature(call).parameters and name not in SHARED_SETTINGS:
            raise ValueError(f"--option is for further settings of the sampler, and {name} is none; see --help for the "
                             "command's own options")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings
