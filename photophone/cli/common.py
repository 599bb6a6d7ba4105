"""What the commands share: the application, options, loading on a device."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Generative models of images, audio and speech on sequences of tokens.")

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Built-in name, folder or hub id.")]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps.")]
DtypeOption = Annotated[str, typer.Option(help="Of the computation: float32, bfloat16 or float16.")]


def hush(quiet: bool) -> bool:
    """With ``--quiet``, warnings of ours, such as what was found in a checkpoint, are not printed either."""
    logging.getLogger("photophone").setLevel(logging.ERROR if quiet else logging.WARNING)
    return quiet


QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", callback=hush)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


DTYPES = ("float32", "bfloat16", "float16")


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

    if dtype not in DTYPES:
        raise ValueError(f"--dtype must be {', '.join(DTYPES)}, got {dtype!r}")
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
