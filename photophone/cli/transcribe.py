"""The command that writes down what was said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from photophone.cli.common import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    app,
    check_dtype,
    load_pipeline,
)
from photophone.cli.enhance import find_inputs

NO_MODEL = ("no weights of speech to text come with photophone; give --model: a downloaded folder, such as that of "
            "kyutai/stt-1b-en_fr, a saved pipeline, or a registered name, such as kyutai-stt-1b-en-fr, which is "
            "downloaded")


@app.command()
def transcribe(audio: Annotated[list[Path], typer.Argument(metavar="AUDIO...", help="Audio files, or folders of "
                                                                                    "them.")],
               model: Annotated[str | None, typer.Option("--model", "-m", help="Folder of a published or saved model, "
                                                         "registered name, or hub id.")] = None,
               output: Annotated[str | None, typer.Option("--output", "-o", help="A folder, or for one recording a "
                                                          ".txt; a JSON with the times of words lies beside "
                                                          "each.")] = None,
               times: Annotated[bool, typer.Option("--times", help="Print each word with its times.")] = False,
               temperature: Annotated[float | None, typer.Option(help="Scale of the randomness; the published one, 0, "
                                                                      "when not given.")] = None,
               seed: Annotated[int, typer.Option(help="Of the first recording; the next take the next seeds.")] = 0,
               device: DeviceOption = "cpu", dtype: DtypeOption = "float32", quiet: QuietOption = False,
               overwrite: OverwriteOption = False, as_json: JsonOption = False) -> None:
    """Write down what is said in recordings of any length, with the times of words.

    All inputs are checked before a model is loaded.
    """
    from photophone.data.audio_stream import AudioReader
    from photophone.pipelines.output import target_files

    check_dtype(dtype)
    if not 0 <= seed < 2**62:
        raise ValueError(f"--seed must be 0 to {2**62 - 1}, got {seed}")
    if model is None:
        raise ValueError(NO_MODEL)
    files = [path for path, _ in find_inputs(audio)]
    for path in files:
        AudioReader(path)
    if output is not None:
        target_files(output, _names(files, seed), (".txt",), "recordings", overwrite=overwrite)
    pipeline = _load(model, device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    results = []
    import torch

    for index, path in enumerate(files):
        made = pipeline(path, generator=torch.Generator().manual_seed(seed + index), temperature=temperature)
        if output is not None:
            place = Path(output) / f"{_names(files, seed)[index]}.txt" if len(files) > 1 else output
            written = made.save(place, overwrite=overwrite)
        results.append({"input": str(path), **({"output": str(written[0])} if output is not None else {}),
                        **made.facts(0)})
        if not (quiet or as_json):
            _show(results[-1], times)
    if as_json:
        print(json.dumps({"recordings": results}, ensure_ascii=False))


def _names(files: list[Path], seed: int) -> list[str]:
    from photophone.pipelines.output import unique_names

    return unique_names([path.stem for path in files], list(range(seed, seed + len(files))), "recording")


def _show(result: dict, times: bool) -> None:
    """The text of a recording, or its words with their times."""
    if times:
        for word in result["words"]:
            print(f"{word['start']:9.2f} {word['end']:9.2f}  {word['text']}")
    else:
        print(result["text"])
    if "output" in result:
        print(f"{result['output']}  ({result['seconds']:.1f} s)", file=sys.stderr)


def _load(model: str, device: str, dtype: str):
    """The pipeline of a saved folder, a published one, a registered name or a hub id.

    Raises:
        ValueError: there is none, or it is no speech to text.
    """
    from photophone.loading.registry import REGISTRY
    from photophone.pipelines.speech_to_text import SpeechToTextPipeline
    from photophone.pipelines.stream_chains import is_release

    known = {entry.hub_id: entry.name for entry in REGISTRY.values()
             if entry.chain is not None and entry.chain.pipeline == "SpeechToTextPipeline"}
    folder = Path(model)
    if model.startswith("photophone/"):
        raise ValueError(f"{model} is no speech to text: {NO_MODEL}")
    if not folder.is_dir() and (model in known or model in known.values()):
        return load_pipeline(SpeechToTextPipeline, known.get(model, model), device, dtype, {})
    if folder.is_dir() and not (folder / "model_index.json").is_file() and (folder / "config.json").is_file():
        name = next((name for name in known.values() if is_release(folder, name)), None)
        pipeline = load_pipeline(SpeechToTextPipeline, name or next(iter(known.values())), device, dtype,
                                 {"folder": model})
        if name is None:  # of other sizes: it is none of the published ones
            pipeline.register_to_config(published=None)
        return pipeline
    return load_pipeline(SpeechToTextPipeline, model, device, dtype)
