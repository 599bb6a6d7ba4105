"""What `photophone evaluate` prints and writes: one table for people and one JSON file a task."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from photophone.core.files import atomic_write
from photophone.evaluation.scores import unscored_lines

CODEC_COLUMNS = (("bits/s", "bits_per_second", "{:.0f}"), ("numbers/s", "ids_per_second", "{:.1f}"),
                 ("PESQ", "pesq", "{:.2f}"), ("STOI", "stoi", "{:.3f}"), ("mel", "mel_distance", "{:.3f}"),
                 ("OVRL", "dnsmos_ovrl", "{:.2f}"), ("WER", "wer", "{:.3f}"), ("voice", "speaker_similarity", "{:.3f}"),
                 ("used", "used_share", "{:.3f}"),
                 ("perplexity", "perplexity", "{:.1f}"), ("enc RTF", "encode_rtf", "{:.3f}"),
                 ("dec RTF", "decode_rtf", "{:.3f}"))
UNIT_COLUMNS = (("entropy", "normalized_entropy"), ("Huffman", "huffman_gain"), ("BPE", "byte_pair_gain"),
                ("dedup", "dedup_ratio"), ("context", "context_invariance"), ("speaker", "speaker_invariance"))
ENHANCE_COLUMNS = (("SIG", "sig", "{:.2f}"), ("BAK", "bak", "{:.2f}"), ("OVRL", "ovrl", "{:.2f}"),
                   ("PLC", "plcmos", "{:.2f}"), ("PESQ", "pesq", "{:.2f}"), ("STOI", "stoi", "{:.3f}"),
                   ("SI-SDR", "si_sdr", "{:.2f}"), ("WER", "wer", "{:.2f}"), ("voice", "similarity", "{:.2f}"),
                   ("lost", "destroyed", "{:.0f}"), ("RTF", "rtf", "{:.2f}"))
SPEECH_COLUMNS = (("WER %", "wer", "{:.1f}", 100), ("skip %", "skip", "{:.1f}", 100),
                  ("repeat %", "repeat", "{:.1f}", 100), ("late %", "missed_stop", "{:.1f}", 100),
                  ("any %", "defects", "{:.1f}", 100), ("OVRL", "ovrl", "{:.2f}", 1), ("SIG", "sig", "{:.2f}", 1),
                  ("BAK", "bak", "{:.2f}", 1), ("P808", "p808", "{:.2f}", 1), ("distill", "distill", "{:.2f}", 1),
                  ("voice", "similarity", "{:.3f}", 1),
                  ("s", "seconds", "{:.1f}", 1), ("RTF", "rtf", "{:.3f}", 1))
RANDOM = "random weights: a smoke test on few clips, the numbers mean nothing"


def format_report(task: str, result: dict) -> str:
    """The result of a task as a table for people.

    Args:
        task: a key of ``TABLES``.
        result: what the task's function returned.
    """
    return "\n".join(TABLES[task](result))


def write_report(task: str, result: dict, folder: Path, name: str) -> list[Path]:
    """Write ``NAME.json`` and ``NAME.txt`` into a folder, each whole or not at all.

    Args:
        task, result: as in :func:`format_report`.
        folder: made where it is missing.
        name: of the files.

    Returns:
        Both files.
    """
    table = folder / f"{name}.txt"
    with atomic_write(table) as partial:
        partial.write_text(format_report(task, result) + "\n", encoding="utf-8")
    return [write_json(result, folder / f"{name}.json"), table]


def write_json(result: dict, path: Path) -> Path:
    """Write the result alone, whole or not at all; folders are made where they are missing."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return path


def cell(row: dict, key: str, form: str = "{:.3f}") -> str:
    """A number, or a dash where there is none."""
    value = row.get(key, math.nan)
    return form.format(value) if math.isfinite(value) else "-"


def lay_out(rows: list[list[str]]) -> list[str]:
    """Lines with columns as wide as their widest text, the first to the left."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) if not index else text.rjust(width)
                      for index, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


def fixed_line(name: str, cells: list[str], first: int, width: int) -> str:
    """A line whose columns have the same width in every table of a kind, so that runs can be read beside each other."""
    return name.ljust(first) + "".join(text.rjust(width) for text in cells)


def codec_table(result: dict) -> list[str]:
    """Quality of all codecs, then the figures of discrete units."""
    codecs = result["codecs"]
    marked = {name: name + (" *" if row["random_weights"] else "") for name, row in codecs.items()}
    rows = [["codec", *(title for title, _, _ in CODEC_COLUMNS)],
            ["(original)", *(cell(result["original"], key, form) for _, key, form in CODEC_COLUMNS)]]
    rows += [[marked[name], *(cell(row, key, form) for _, key, form in CODEC_COLUMNS)] for name, row in codecs.items()]
    lines = [f"{result['clips']['count']} clips, {result['clips']['seconds']:.0f} s", *lay_out(rows)]
    lines += unscored_lines("(original)", result["original"], result["clips"]["count"])
    lines += [line for name, row in codecs.items() for line in unscored_lines(name, row, row["clips"])]
    discrete = {name: row for name, row in codecs.items() if "robustness" in row}
    if discrete:
        changes = list(next(iter(discrete.values()))["robustness"])
        rows = [["units", *(title for title, _ in UNIT_COLUMNS), *changes]]
        rows += [[marked[name], *(cell(row, key) for _, key in UNIT_COLUMNS),
                  *(cell(row["robustness"], change, "{:.2f}") for change in changes)] for name, row in discrete.items()]
        frames = ", ".join(f"{row['frames']} ({name})" for name, row in discrete.items())
        lines += ["", *lay_out(rows), "", "disturbances: unit edit distance over the deduplicated length; use and "
                  f"perplexity need 50 frames a code to say much, here are {frames}"]
    if any(row["random_weights"] for row in codecs.values()):
        lines.append(f"* {RANDOM}")
    return lines


def enhance_table(result: dict) -> list[str]:
    """A table for each set of pairs."""
    lines = []
    for name, systems in result.items():
        clips = next(iter(systems.values()))["clips"]
        lines += [f"{name} ({clips} clips)", fixed_line("", [title for title, _, _ in ENHANCE_COLUMNS], 16, 8)]
        for system, means in systems.items():
            lines.append(fixed_line(system, [cell(means, key, form) for _, key, form in ENHANCE_COLUMNS], 16, 8))
        lines += [line for system, means in systems.items() for line in unscored_lines(system, means, clips)]
        lines.append("")
    return lines


def speech_table(result: dict) -> list[str]:
    """A line for each voice."""
    count, words = result["sentences"]["count"], result["sentences"]["words"]
    lines = [f"{count} sentences, {words} words", fixed_line("", [column[0] for column in SPEECH_COLUMNS], 22, 9)]
    for name, means in result["voices"].items():
        scaled = {key: scale * means.get(key, math.nan) for _, key, _, scale in SPEECH_COLUMNS}
        cells = [cell(scaled, key, form) for _, key, form, _ in SPEECH_COLUMNS]
        lines.append(fixed_line(name, cells, 22, 9))
    lines += [line for name, means in result["voices"].items() for line in unscored_lines(name, means, count)]
    return lines


def times_table(result: dict) -> list[str]:
    """How far the times of words lie from those that Whisper hears."""
    lines = [f"{result['sentences']} sentences, {result['compared']} of {result['words']} words heard",
             fixed_line("ms from Whisper's", ["median", "90 %", "shift"], 20, 9)]
    for name, title in (("start", "start of a word"), ("end", "end of a word"), ("both", "both")):
        found = {key: 1000 * value for key, value in result[name].items()}
        lines.append(fixed_line(title, [cell(found, key, "{:.0f}") for key in ("median", "p90", "shift")], 20, 9))
    return lines


def image_table(result: dict) -> list[str]:
    """The tokenizer in words, then a line for each set of images."""
    tokenizer, settings = result["tokenizer"], result["settings"]
    refined = ""
    if "psnr_refined" in tokenizer:
        refined = f"{tokenizer['psnr_refined']:.2f} dB after {tokenizer['refine_steps']} refining steps, "
    lines = [f"{settings['model']} revision {settings['revision']}, seed {settings['seed']}, "
             f"{settings['num_inference_steps']} steps, guidance {settings['guidance_scale']:g}, temperature "
             f"{settings['temperature']:g}", "",
             f"tokenizer on val ({tokenizer['count']} images): PSNR {tokenizer['psnr']:.2f} dB "
             f"in one pass (median {tokenizer['psnr_median']:.2f}, of the mean error "
             f"{tokenizer['psnr_of_mean_error']:.2f}), {refined}"
             f"SSIM {tokenizer['ssim']:.3f}, Frechet distance (EfficientNet-Lite0 features) "
             f"{tokenizer['frechet_efficientnet_lite0']:.2f}", "",
             f"caption retrieval among {settings['distractors'] + 1} real images of the same style, "
             "EfficientNet-Lite0 features",
             f"{'split':12s} {'images':>7s} {'generated':>10s} {'ceiling':>8s} {'floor':>6s} {'top 5':>6s} "
             f"{'rank':>6s} {'Frechet':>8s}"]
    for name in (key for key in result if key not in ("tokenizer", "settings", "prompts", "colours")):
        split = result[name]
        lines.append(f"{name:12s} {split['generated']['count']:7d} {split['generated']['top1']:10.1%} "
                     f"{split['ceiling']['top1']:8.1%} {split['floor']['top1']:6.1%} {split['generated']['top5']:6.1%} "
                     f"{split['generated']['mean_rank']:6.1f} {split['frechet_efficientnet_lite0']:8.2f}")
    return lines + prompt_lines(result.get("prompts")) + colour_lines(result.get("colours"))


def prompt_lines(found: dict | None) -> list[str]:
    """Objects of ordinary prompts; nothing where none were measured."""
    if not found:
        return []
    rows = [f"{name.replace('_', ' '):12s} {found[name]['top1']:10.1%} {found[name]['top5']:8.1%} "
            f"{found[name]['top1_nearest']:14.1%}" for name in ("read", "as_written", "ceiling")]
    return ["", f"prompts of ordinary people: the label whose {found['images']} real images are nearest, among "
            f"{found['labels']}", f"{'':12s} {'top 1':>10s} {'top 5':>8s} {'nearest image':>14s}", *rows]


def colour_lines(found: dict | None) -> list[str]:
    """Colours of silhouettes; nothing where none were measured."""
    if not found:
        return []
    each = ", ".join(f"{name} {value:.0%}" for name, value in found["by_colour"].items())
    return ["", f"colour that the caption names, in {found['count']} silhouettes: {found['right']:.1%} (ceiling "
            f"{found['ceiling']:.1%}): {each}"]


TABLES: dict[str, Callable[[dict], list[str]]] = {"codec": codec_table, "enhance": enhance_table,
                                                  "image": image_table, "speech": speech_table,
                                                 "times": times_table}
