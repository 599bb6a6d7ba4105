"""What `photophone evaluate codec` prints and writes: a table, JSON, and a picture of quality against rate."""

from __future__ import annotations

import json
import math
from pathlib import Path

from photophone.core.files import atomic_write

COLUMNS = (("bits/s", "bits_per_second", "{:.0f}"), ("numbers/s", "ids_per_second", "{:.1f}"),
           ("PESQ", "pesq", "{:.2f}"), ("STOI", "stoi", "{:.3f}"), ("mel", "mel_distance", "{:.3f}"),
           ("OVRL", "dnsmos_ovrl", "{:.2f}"), ("WER", "wer", "{:.3f}"), ("voice", "speaker_similarity", "{:.3f}"),
           ("used", "used_share", "{:.3f}"),
           ("perplexity", "perplexity", "{:.1f}"), ("enc RTF", "encode_rtf", "{:.3f}"),
           ("dec RTF", "decode_rtf", "{:.3f}"))
UNIT_COLUMNS = (("entropy", "normalized_entropy"), ("Huffman", "huffman_gain"), ("BPE", "byte_pair_gain"),
                ("dedup", "dedup_ratio"), ("context", "context_invariance"), ("speaker", "speaker_invariance"))
PICTURE = (("PESQ, wide band (high is good)", "pesq"), ("STOI (high)", "stoi"),
           ("DNSMOS overall (high)", "dnsmos_ovrl"),
           ("word error rate (low is good)", "wer"), ("speaker similarity (high)", "speaker_similarity"),
           ("mel distance (low)", "mel_distance"))
RANDOM = "random weights: a smoke test on few clips, the numbers mean nothing"
FLOATS = "hollow: continuous tokens, as 16-bit floats"
LINE = "dotted: the recordings themselves"
MARKERS = "osD^vP*"


def cell(row: dict, key: str, form: str = "{:.3f}") -> str:
    """A number, or a dash where there is none."""
    value = row.get(key, math.nan)
    return form.format(value) if math.isfinite(value) else "-"


def lay_out(rows: list[list[str]]) -> list[str]:
    """Lines with columns of equal width, the first to the left."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) if not index else text.rjust(width)
                      for index, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


def format_table(result: dict) -> str:
    """Quality of all codecs, then the figures of discrete units."""
    codecs = result["codecs"]
    marked = {name: name + (" *" if row["random_weights"] else "") for name, row in codecs.items()}
    rows = [["codec", *(title for title, _, _ in COLUMNS)],
            ["(original)", *(cell(result["original"], key, form) for _, key, form in COLUMNS)]]
    rows += [[marked[name], *(cell(row, key, form) for _, key, form in COLUMNS)] for name, row in codecs.items()]
    lines = [f"{result['clips']['count']} clips, {result['clips']['seconds']:.0f} s", *lay_out(rows)]
    discrete = {name: row for name, row in codecs.items() if "robustness" in row}
    if discrete:
        changes = list(next(iter(discrete.values()))["robustness"])
        rows = [["units", *(title for title, _ in UNIT_COLUMNS), *changes]]
        rows += [[marked[name], *(cell(row, key) for _, key in UNIT_COLUMNS),
                  *(cell(row["robustness"], change, "{:.2f}") for change in changes)] for name, row in discrete.items()]
        lines += ["", *lay_out(rows), "", "disturbances: unit edit distance over the deduplicated length; use and "
                  "perplexity need 50 frames a code to say much, here are "
                  + ", ".join(f"{row['frames']} ({name})" for name, row in discrete.items())]
    return "\n".join(lines + ([f"* {RANDOM}"] if any(row["random_weights"] for row in codecs.values()) else []))


def write_report(result: dict, folder: Path) -> list[Path]:
    """Write codecs.json, codecs.txt and codecs.png (package matplotlib of the extra ``eval``)."""
    files = [folder / f"codecs.{suffix}" for suffix in ("json", "txt", "png")]
    with atomic_write(files[0]) as partial:
        partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    with atomic_write(files[1]) as partial:
        partial.write_text(format_table(result) + "\n", encoding="utf-8")
    draw(result, files[2])
    return files


def draw(result: dict, path: Path) -> None:
    """Quality against rate, one panel a measure. Continuous codecs are hollow and stand at the rate of 16-bit floats;
    codecs with random weights are small crosses."""
    from photophone.evaluation.metrics.audio import optional_module
    figure_module = optional_module("matplotlib.figure", "matplotlib")
    figure = figure_module.Figure(figsize=(12, 7.5), layout="constrained")
    rows, panels = result["codecs"], list(figure.subplots(2, 3, sharex=True).flat)
    for axes, (title, key) in zip(panels, PICTURE):
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
