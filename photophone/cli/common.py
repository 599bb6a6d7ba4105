"""What the commands share: the application, options, loading on a device."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Generative models of images, audio and speech on sequences of tokens.")

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Built-in name, folder or hub id.")]
DeviceOption = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps.")]
DtypeOption = Annotated[str, typer.Option(help="Of the computation: float32, bfloat16 or float16.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


DTYPES = ("float32", "bfloat16", "float16")


def load_pipeline(pipeline_class: type, model: str, device: str, dtype: str = "float32"):
    """Load a pipeline on a device.

    Raises:
        ValueError: a device or dtype that cannot be used, or a model that cannot be loaded.
    """
    import torch

    from photophone.loading.auto import check_device

    if dtype not in DTYPES:
        raise ValueError(f"--dtype must be {', '.join(DTYPES)}, got {dtype!r}")
    check_device(device)
    return pipeline_class.from_pretrained(model, dtype=getattr(torch, dtype)).to(device)
