"""Short real trainings of every image recipe on one core: do losses fall, what do they cost, how do samples look.

Runs ``configs/recipes/NAME.yaml`` by the training scripts, each for about a minute of one core, on 2,235 images
of six styles, and writes ``runs/recipes/NAME``; then the table and the pictures of docs/training-recipes.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from photophone.core.files import atomic_write
from photophone.core.pictures import labelled_sheet, to_pil
from photophone.data.images import ImageDataset
from photophone.loading.saved import open_saved
from photophone.pipelines.class_to_image import ClassToImagePipeline
from photophone.tokenizers.base import ImageTokenizer

ROOT = Path(__file__).parents[1]
RUNS, CONFIGS, PICTURES = ROOT / "runs" / "recipes", ROOT / "configs" / "recipes", ROOT / "docs" / "pictures"
STYLES = ("blob emoji", "flat emoji", "pixel art character", "pixel art dungeon tile", "round flag", "silhouette icon")
PER_STYLE = 400
TOKENIZERS = ("llamagen_vq", "maskgit_vqgan", "kl_vae", "var_vq", "titok", "titok_stage1", "titok_stage2", "softvq",
              "unitok")
GENERATORS = ("llamagen", "mar", "xar", "var", "titok_bert", "sit")
COLUMNS = 8


def prepare(source: Path, target: Path, per_style: int) -> None:
    """A prepared file of the first images of each style, in the order of ``source``."""
    if target.exists():
        return
    data, taken = ImageDataset(source), dict.fromkeys(STYLES, 0)
    rows = []
    for row, fields in enumerate(data.fields):
        if taken.get(fields["style"], per_style) < per_style:
            taken[fields["style"]] += 1
            rows.append(row)
    with atomic_write(target.with_suffix(".jsonl")) as partial:
        partial.write_text("".join(json.dumps(data.fields[row]) + "\n" for row in rows), encoding="utf-8")
    with atomic_write(target) as partial:
        save_file({"images": data.images[rows].contiguous()}, partial)


def cpu_seconds() -> float:
    """Processor time of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def call(*arguments: str | Path) -> float:
    """Run a script on one thread; its processor time in seconds."""
    before = cpu_seconds()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *map(str, arguments)], check=True, cwd=ROOT, env=environment,
                   stderr=subprocess.DEVNULL)
    return cpu_seconds() - before


def train(name: str) -> dict:
    """Run one recipe and, for tokenizers that a generator needs, encode the images; what came out."""
    kind = "tokenizer" if name in TOKENIZERS else "generator"
    folder, data = RUNS / name, f"data={RUNS}/train.safetensors"
    seconds = call(f"scripts/train_image_{kind}.py", "--config", CONFIGS / f"{name}.yaml", "--output", folder, data,
                   f"validation={RUNS}/val.safetensors")
    if kind == "tokenizer" and any(f"/{name}/tokens" in (CONFIGS / f"{other}.yaml").read_text()
                                   for other in GENERATORS):
        call("scripts/tokenize_dataset.py", RUNS / "train.safetensors", "-t", folder / "export", "-o",
             folder / "tokens.safetensors", "--flip")
    result = {"recipe": name, "cpu_seconds": round(seconds, 1), **measure(folder)}
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    return result


def measure(folder: Path) -> dict:
    """First and last logged value of each loss, and the validation."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    names = [name for name in ("l2_loss", "l1_loss", "perceptual", "alignment", "contrastive", "kl", "right_codes",
                               "perplexity", "loss") if name in steps[0]]
    result = {"steps": steps[-1]["step"]} | {name: [steps[0][name], steps[-1][name]] for name in names}
    return result | {key: value for line in lines for key, value in line.items() if key.startswith("validation")}


@torch.no_grad()
def tokenizer_sheet() -> Image.Image:
    """Held-apart images above what each tokenizer makes of them."""
    data = ImageDataset(RUNS / "val.safetensors")
    chosen = [next(row for row, fields in enumerate(data.fields) if fields["style"] == style and row >= skip)
              for skip in (0, len(data) // 2) for style in STYLES
              if any(f["style"] == style for f in data.fields[skip:])][:COLUMNS]
    images = data.batch(np.asarray(chosen))
    rows = [("held-apart images", to_pil(images))]
    for name in TOKENIZERS:
        if (RUNS / name / "result.json").exists() and name != "titok_stage1":
            model = open_saved(RUNS / name / "export", ImageTokenizer)
            rows.append((name, to_pil(model.decode(model.encode(images)))))
    return labelled_sheet(rows, scale=1, label_width=130)


def generator_sheet() -> Image.Image:
    """Samples of each generator for each style."""
    rows = []
    for name in GENERATORS:
        if not (RUNS / name / "result.json").exists():
            continue
        options = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["task"]["preview_options"]
        pipeline = ClassToImagePipeline.from_pretrained(RUNS / name / "export")
        pipeline.set_progress_bar_config(disable=True)
        names = json.loads((RUNS / name / "export" / "classes.json").read_text())["names"]
        labels = [label for label in range(len(names)) for _ in range(2)]
        seeds = [torch.Generator().manual_seed(seed) for seed in range(len(labels))]
        rows.append((name, pipeline(labels, generator=seeds, **options).images))
    return labelled_sheet(rows, scale=1, label_width=100)


def curves(path: Path) -> None:
    """Loss curves of all recipes, each in a field of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in (*TOKENIZERS, *GENERATORS) if (RUNS / name / "result.json").exists()]
    figure, fields = pyplot.subplots(-(-len(names) // 5), 5, figsize=(12, 2.0 * -(-len(names) // 5)), squeeze=False)
    for axes in fields.flat[len(names):]:
        axes.axis("off")
    for axes, name in zip(fields.flat, names):
        lines = [json.loads(line) for line in (RUNS / name / "metrics.jsonl").read_text().splitlines()]
        key = "l2_loss" if "l2_loss" in lines[0] else "loss"
        points = [(line["step"], line[key]) for line in lines if key in line]
        axes.plot(*zip(*points), linewidth=1)
        axes.set_title(f"{name}: {key}", fontsize=8)
        axes.tick_params(labelsize=6)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=75)


def row(result: dict) -> str:
    """One line of the table in docs/training-recipes.md."""
    names = {"l2_loss": "L2", "alignment": "alignment", "contrastive": "contrastive", "kl": "KL",
             "right_codes": "right codes"}
    if "l2_loss" not in result:
        names["loss"] = "loss"
    losses = [f"{words} {result[key][0]:.3g} → {result[key][1]:.3g}" for key, words in names.items() if key in result]
    held = {"validation_psnr": "PSNR {:.1f} dB", "validation_loss": "loss {:.3f}",
            "validation_right_codes": "{:.0%} right codes"}
    apart = [words.format(result[key]) for key, words in held.items() if key in result]
    return (f"| `{result['recipe']}` | {result['steps']} | {result['cpu_seconds']:.0f} | {', '.join(losses)} | "
            f"{', '.join(apart)} |")


def report() -> None:
    """The table, and the pictures that can be drawn of the runs that are there."""
    print("| recipe | steps | seconds of one core | losses, first and last window | held apart |", "|---" * 5 + "|",
          sep="\n")
    for name in (*TOKENIZERS, *GENERATORS):
        if (RUNS / name / "result.json").exists():
            print(row(json.loads((RUNS / name / "result.json").read_text())))
    for name, draw in (("tokenizers", tokenizer_sheet), ("generators", generator_sheet)):
        with atomic_write(PICTURES / f"recipes-{name}.png") as partial:
            draw().quantize(128).save(partial, format="PNG", optimize=True)
    curves(PICTURES / "recipes-losses.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", help="names of configs/recipes; none runs all")
    parser.add_argument("--report", action="store_true", help="only table and pictures of the runs that are there")
    arguments = parser.parse_args()
    unknown = set(arguments.recipes) - {*TOKENIZERS, *GENERATORS}
    if unknown:
        parser.error(f"unknown recipes {sorted(unknown)}; known are {', '.join((*TOKENIZERS, *GENERATORS))}")
    prepare(ROOT / "data/images/train.safetensors", RUNS / "train.safetensors", PER_STYLE)
    prepare(ROOT / "data/images/val.safetensors", RUNS / "val.safetensors", 8)
    if not arguments.report:
        for name in arguments.recipes or (*TOKENIZERS, *GENERATORS):
            print(json.dumps(train(name)), flush=True)
    report()


if __name__ == "__main__":
    main()
