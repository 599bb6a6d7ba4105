"""The picture of `photophone evaluate codec`: quality against rate."""

from __future__ import annotations

import math
from pathlib import Path

from photophone.core.files import atomic_write
from photophone.evaluation.metrics.audio import optional_module
from photophone.evaluation.report import RANDOM

PANELS = (("PESQ, wide band (high is good)", "pesq"), ("STOI (high)", "stoi"),
          ("DNSMOS overall (high)", "dnsmos_ovrl"),
          ("word error rate (low is good)", "wer"), ("speaker similarity (high)", "speaker_similarity"),
          ("mel distance (low)", "mel_distance"))
FLOATS = "hollow: continuous tokens, as 16-bit floats"
LINE = "dotted: the recordings themselves"
MARKERS = "osD^vP*"


def draw_codecs(result: dict, path: Path) -> None:
    """Write a PNG of the result of :func:`photophone.evaluation.tasks.codec.evaluate_codecs`, one panel a measure.

    Continuous codecs are hollow and stand at the rate of 16-bit floats; codecs with random weights are small crosses.

    Raises:
        ImportError: the package matplotlib of the extra ``eval`` is missing.
    """
    figure_module = optional_module("matplotlib.figure", "matplotlib")
    figure = figure_module.Figure(figsize=(12, 7.5), layout="constrained")
    rows, panels = result["codecs"], list(figure.subplots(2, 3, sharex=True).flat)
    for axes, (title, key) in zip(panels, PANELS):
        for index, (name, row) in enumerate(rows.items()):
            continuous = "float_bits_per_second" in row
            style: dict = {"marker": MARKERS[index % len(MARKERS)], "markersize": 9, "color": f"C{index % 10}"}
            style |= {"markerfacecolor": "none"} if continuous else {}
            style |= {"marker": "x", "markersize": 6} if row["random_weights"] else {}
            bits = row["float_bits_per_second" if continuous else "bits_per_second"]
            axes.plot(bits, row.get(key, math.nan), linestyle="none", label=name, **style)
        axes.set(title=title, xscale="log")
        axes.grid(alpha=0.3)
        original = result["original"].get(key, math.nan)
        if math.isfinite(original):
            axes.axhline(original, color="grey", linestyle=":", linewidth=1)
    for axes in panels[3:]:
        axes.set(xlabel="bits per second")
    notes = [f"x: {RANDOM}"] * any(row["random_weights"] for row in rows.values())
    notes += [FLOATS] * any("float_bits_per_second" in row for row in rows.values())
    figure.suptitle("; ".join([*notes, LINE]), fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
