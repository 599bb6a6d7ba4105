"""What a run leaves to look at: metrics as JSONL and tensorboard, a loss curve, preview pictures."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from photophone.core.files import atomic_write


class Reporter:
    """Writes metrics and pictures of one run into its folder.

    Args:
        folder: the run's folder.
        resume_step: lines of a metrics file from this step on (of a run that was killed after its last checkpoint)
            are dropped, so that no step is there twice.

    Attributes:
        notes: sentences on lines of the metrics file that could not be read.
    """

    def __init__(self, folder: Path, resume_step: int = 0) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        self.history: list[dict] = []
        self.notes: list[str] = []
        if self.path.exists():
            self.history = [line for line in self._read() if line["step"] <= resume_step]
            with atomic_write(self.path) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in self.history), encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step)
        except ImportError:  # the extra photophone[train] is not installed
            self.board = None

    def _read(self) -> list[dict]:
        """The lines that can be read; a run that was killed may have torn the last one, and ``notes`` says so."""
        lines = []
        for number, text in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                line = json.loads(text)
                if not isinstance(line["step"], int):
                    raise TypeError(f"step is {line['step']!r}")
                lines.append(line)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                self.notes.append(f"{self.path}: line {number} cannot be read and is dropped ({error})")
        return lines

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Append one line and the same scalars to tensorboard."""
        line = {"step": step, **{name: float(f"{value:.6g}") for name, value in values.items()}}
        self.history.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def picture(self, name: str, image: Image.Image) -> None:
        """Write ``pictures/NAME.png`` atomically."""
        with atomic_write(self.folder / "pictures" / f"{name}.png") as partial:
            image.save(partial, format="PNG")

    def curve(self) -> None:
        """Draw ``loss.png``: every loss of the history over the steps, on logarithmic axes."""
        losses = {name: [(line["step"], line[name]) for line in self.history if line.get(name, 0) > 0]
                  for name in sorted({key for line in self.history for key in line if key.endswith("loss")})}
        try:
            import matplotlib
        except ImportError:
            return
        matplotlib.use("Agg")
        from matplotlib import pyplot
        figure, axes = pyplot.subplots(figsize=(7, 4))
        for name, points in losses.items():
            if len(points) > 1:
                axes.plot(*zip(*points), label=name, linewidth=1)
        axes.set(xlabel="step", ylabel="loss", yscale="log")
        if axes.lines:
            axes.legend()
        axes.grid(alpha=0.3)
        with atomic_write(self.folder / "loss.png") as partial:
            figure.savefig(partial, format="png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
