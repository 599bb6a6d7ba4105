"""Models as ONNX files, each compared with torch before it gets its name.

What is written is the network of a call and nothing around it: no resampling, no levels, no long recordings in pieces.
Needs the extra ``onnx``.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from photophone import __version__
from photophone.core.files import atomic_write, check_targets
from photophone.core.model import Model
from photophone.core.threads import threads_for
from photophone.data.audio import read_audio
from photophone.data.resampling import resample_audio
from photophone.export.graphs import Graph, ImageDecode, graphs_of
from photophone.loading.auto import load_part
from photophone.loading.registry import PRETRAINED, REGISTRY, find
from photophone.loading.saved import is_saved_model, open_saved

TOLERANCE = 1e-4
"""Largest difference from torch that a file may have, on outputs of about full scale."""
SIZES = ((1, 0.03), (1, 0.3107), (1, 1.0), (2, 2.37), (3, 0.8))
"""Rows and seconds of the inputs that files are compared on."""
RUNS = 5
"""Of each runtime for its speed, in turns."""
NOISE = 1e-4
"""Deviation of the noise in the inputs, full scale is 1."""
NOISY = PRETRAINED / "tiny-enhance" / "noisy.flac"


@dataclass(frozen=True)
class ExportedPart:
    """A file that was written and checked.

    Args:
        file: its path.
        part: the call it stands for: "encode", "decode", "enhance".
        input, output: names and shapes of the tensors; words are free sizes.
        error: the largest difference from torch in all comparisons.
        sizes: shapes of the inputs compared.
        torch_ms, onnx_ms: of the largest of these inputs, one thread each, medians of runs in turns.
    """

    file: str
    part: str
    input: dict[str, list[int | str]]
    output: dict[str, list[int | str]]
    error: float
    sizes: list[list[int]]
    torch_ms: float
    onnx_ms: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def export_onnx(name: str, folder: str | Path, *, overwrite: bool = False,
                tolerance: float = TOLERANCE) -> list[ExportedPart]:
    """Write the calls of a model as ONNX files and compare them with torch by onnxruntime.

    Args:
        name: built-in model, or the folder of a saved one, of a class of ``photophone.export.graphs.GRAPHS``.
        folder: that gets ``encode.onnx``, ``decode.onnx`` or ``enhance.onnx``; it is made. No file gets its name before
            all are written and compared.
        overwrite: whether files of these names may be replaced.
        tolerance: the largest difference from torch that is accepted.

    Returns:
        What was written, a part a file.

    Raises:
        ImportError: the extra ``onnx`` is missing.
        ValueError: an unknown model or one that is not exported, or a file that differs from torch by more than the
            tolerance.
        FileExistsError: a file is there, and ``overwrite`` is not set.
    """
    runtime = need_onnx()
    graphs = graphs_of(load_exportable(name), name)
    files = [Path(folder) / f"{graph.part}.onnx" for graph in graphs]
    check_targets(files, overwrite)
    made = []
    with ExitStack() as stack:
        for graph, file in zip(graphs, files):
            partial = stack.enter_context(atomic_write(file, overwrite=overwrite))
            write_graph(graph, name, partial)
            made.append(check_graph(graph, partial, file, runtime, tolerance))
    return made


def need_onnx() -> Any:
    """onnxruntime, where all that is needed for it and for writing is there.

    Raises:
        ImportError: names what is missing, and the extra.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            raise ImportError(f"exporting needs the package {package}: pip install photophone[onnx]") from error
    return module


def load_exportable(name: str) -> Model:
    """A built-in model or a saved one, in eval mode, whose class can be exported.

    Raises:
        ValueError: an unknown name, or a model whose weights are not here.
    """
    from photophone.pipelines.speech_enhancement import SpeechEnhancementPipeline

    folder = Path(name)
    if is_saved_model(folder):
        return open_saved(folder, Model)
    if name not in REGISTRY and (folder / "model_index.json").is_file():
        raise ValueError(f"{name} is a saved pipeline; give the folder of the part that is to be exported in it, such "
                         f"as {folder / 'codec'}")
    entry = find(name)
    if entry.folder is None:
        raise ValueError(f"{name} is not built in; exported are built-in models (photophone/tiny-enhance, "
                         "photophone/tiny-vocoder, photophone/tiny-speech, photophone/tiny-image) and folders that "
                         "such models were saved to")
    if entry.class_name == "SpeechEnhancementPipeline":
        return SpeechEnhancementPipeline.from_pretrained(name).enhancer
    return load_part("image_tokenizer" if entry.class_name == "TextToImagePipeline" else "codec", name)


def example_input(graph: Graph, rows: int, seconds: float, shift: float = 0.0) -> Tensor:
    """An input of ``rows`` different stretches of the bundled recording, or of random pictures.

    Faint noise fills the bands that a higher rate than that of the recording leaves empty: their logarithm would be
    that of rounding errors, which are others in each runtime.
    """
    rate = 16_000 if isinstance(graph, ImageDecode) else graph.model.sample_rate
    audio, own = read_audio(NOISY)
    audio = resample_audio(torch.from_numpy(audio), own, rate)
    audio = audio + NOISE * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    size = max(round(seconds * rate), 1)
    starts = [round((shift + 0.4 * row) * rate) % max(len(audio) - size, 1) for row in range(rows)]
    return graph.example(torch.stack([audio[start:start + size] for start in starts])[:, None])


def free_axes(graph: Graph, x: Tensor) -> dict[int, str]:
    """Names of the axes of an input that may have any size."""
    if graph.time_axis is None:
        return {0: "batch"}
    return {0: "batch", (graph.time_axis if x.is_floating_point() else x.dim() - 1): "length"}


def write_graph(graph: Graph, name: str, file: Path) -> None:
    """Write a graph with dynamic sizes; what a reader must know of the model lies in the metadata of the file.

    Raises:
        ValueError: the exporter cannot follow the model.
    """
    x = example_input(graph, 2, 1.0)
    lowest = {"batch": 1, "length": graph.shortest}
    shapes = {axis: torch.export.Dim(word, min=lowest[word]) for axis, word in free_axes(graph, x).items()}
    try:
        with torch.no_grad(), quiet_exporter():
            program = torch.onnx.export(graph, (x,), dynamo=True, dynamic_shapes=(shapes,), input_names=[graph.reads],
                                        output_names=[graph.makes], verbose=False)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(f"{graph.part} of {name} cannot be exported with these settings ({reason}); those of "
                         "the built-in models can") from error
    facts = {"model": name, "part": graph.part, "class": type(graph.model).__name__, "photophone": __version__,
             "sample_rate": getattr(graph.model, "sample_rate", None)}
    program.model.metadata_props.update({f"photophone.{key}": str(value) for key, value in facts.items()
                                         if value is not None})
    program.save(str(file), external_data=False)


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Within the block, the exporter's advice about its own passes is not printed."""
    import logging
    import warnings

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


def open_session(runtime: Any, file: str | Path) -> Any:
    """A session of onnxruntime on the processor with one thread."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def check_graph(graph: Graph, written: Path, file: Path, runtime: Any, tolerance: float) -> ExportedPart:
    """Compare a written graph with the model's own call on inputs of several sizes, and time both.

    Raises:
        ValueError: they differ by more than the tolerance.
    """
    session = open_session(runtime, written)
    inputs = [example_input(graph, rows, seconds, shift=0.7) for rows, seconds in SIZES]

    def run(x: Tensor) -> np.ndarray:
        return session.run([graph.makes], {graph.reads: x.numpy()})[0]

    errors = [difference(run(x), graph.reference(x).numpy()) for x in inputs]
    if not max(errors) <= tolerance:
        raise ValueError(f"{file.name} differs from torch by {max(errors):.3g}, the limit is {tolerance:g}; nothing "
                         "was written. Please report the versions of `photophone doctor`")
    largest = max(inputs, key=Tensor.numel)
    with threads_for(1):  # one thread
        slow, fast = in_turns(lambda: graph.reference(largest), lambda: run(largest))
    names = free_axes(graph, largest)
    shape = [names.get(axis, size) for axis, size in enumerate(largest.shape)]
    (made,) = session.get_outputs()
    return ExportedPart(str(file), graph.part, {graph.reads: shape}, {graph.makes: list(made.shape)}, max(errors),
                        [list(x.shape) for x in inputs], round(1000 * slow, 2), round(1000 * fast, 2))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two outputs; infinite for other shapes or NaN."""
    if a.shape != b.shape:
        return float("inf")
    worst = float(np.abs(a.astype(np.float64) - b).max())
    return worst if np.isfinite(worst) else float("inf")


def in_turns(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of two calls that are made in turns after one of each that does not count."""
    calls, seconds = (first, second), ([], [])
    for turn in range(RUNS + 1):
        for call, taken in zip(calls, seconds):
            start = time.perf_counter()
            call()
            if turn:
                taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
