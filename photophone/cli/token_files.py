"""What the commands between media and files of tokens share: `encode` and `decode` of audio, `tokenize` and
`detokenize` of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from photophone.core.tokens import Tokens

WeightsOption = Annotated[str | None, typer.Option(help="Official checkpoint, saved folder or hub id, where --model "
                                                        "is a registered name.")]
TokensArgument = Annotated[Path, typer.Argument(help="File of tokens.")]
TokensOption = Annotated[Path, typer.Option("--output", "-o", help="File of tokens.")]
TOKENS_FILE = Path("tokens.safetensors")


def maker_option(command: str) -> Any:
    """The option ``--model`` of the way back from the tokens that a command makes."""
    return typer.Option("--model", "-m", help=f"As for {command}; the model that the file names if left out.")


def save_tokens(tokens: Tokens, model: str, output: Path, codebook_size: int | None, *, overwrite: bool, quiet: bool,
                as_json: bool, **facts: Any) -> None:
    """Write tokens with the name of the model that made them, and say what they are.

    Args:
        tokens: on the CPU.
        model: as the user gave it; the path of a folder is not written, since it means nothing elsewhere.
        output: the file.
        codebook_size: None for continuous tokens.
        overwrite: whether it may replace a file.
        quiet, as_json: what to print.
        facts: further entries of the JSON; ``frame_rate`` is printed too.
    """
    from dataclasses import replace

    from photophone.core.tokens import holds_tokens
    from photophone.loading.registry import REGISTRY

    if model in REGISTRY:
        tokens = replace(tokens, model=model)
    tokens.save(output, overwrite=overwrite or holds_tokens(output))
    if as_json:
        print(json.dumps({"file": str(output), "shape": list(tokens.values.shape), "model": tokens.model,
                          "codebook_size": codebook_size, **facts}))
    elif not quiet:
        kind = f"codes of {codebook_size:,}" if codebook_size else "continuous"
        rate = f" at {facts['frame_rate']:g} Hz" if "frame_rate" in facts else ""
        print(f"{output}  {tuple(tokens.values.shape)} {kind}{rate}")


def load_tokens(file: Path, model: str | None) -> tuple[Tokens, str]:
    """Tokens, and the name of the model that reads them.

    Args:
        file: as :func:`save_tokens` writes it.
        model: as the user gave it, or None for the one that the file names.

    Raises:
        ValueError: nothing names a model, the file is of another one, or its batch is empty.
    """
    from photophone.core.tokens import Tokens
    from photophone.loading.registry import REGISTRY

    tokens = Tokens.load(file, model=model if model in REGISTRY else None)
    if not len(tokens):
        raise ValueError(f"{file} holds no tokens: its batch is empty; make it of at least one recording or picture")
    name = model or tokens.model
    if name is None:
        raise ValueError(f"{file} does not name the model that made it; give --model")
    return tokens, name


def check_tokens(output: Path, overwrite: bool) -> None:
    """Refuse a file for tokens that cannot be written, or is there and holds no tokens, before anything is computed.

    Raises:
        ValueError: another suffix.
        OSError: see :func:`photophone.core.files.check_target`.
    """
    from photophone.core.files import check_target
    from photophone.core.tokens import holds_tokens

    if output.suffix.lower() != ".safetensors":
        raise ValueError(f"--output must be a .safetensors file, got {output}")
    check_target(output, overwrite or holds_tokens(output))


def output_files(output: str, name: str, count: int, suffixes: tuple[str, ...], overwrite: bool) -> list[Path]:
    """A file for each of ``count`` rows: ``output`` itself for one, else ``NAME-1``, ``NAME-2``, ...

    Args:
        output: a file of one of these suffixes, or a folder, in which files are called ``name``.
        overwrite: whether files that are there may be replaced.

    Raises:
        ValueError: another suffix, or no rows at all.
        OSError: a file is there and ``overwrite`` is not set, or cannot be written there.
    """
    from photophone.core.files import check_targets
    from photophone.pipelines.output import check_suffix, names_folder

    if not count:
        raise ValueError("the file holds no tokens of anything: its batch is empty")
    first = Path(output) / f"{name}{suffixes[0]}" if names_folder(output) else check_suffix(output, suffixes)
    files = [first] if count == 1 else [first.with_stem(f"{first.stem}-{index + 1}") for index in range(count)]
    check_targets(files, overwrite)
    return files
