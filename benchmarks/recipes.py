"""Short real trainings of every image recipe on one core: do losses fall, what do they cost, how do samples look.

Runs ``configs/recipes/NAME.yaml`` by the training scripts, each for about a minute of one core, on 2,235 images
of six styles, and writes ``runs/recipes/NAME``; then the tables and the pictures of docs/training-recipes.md.

Held-apart numbers are also those of the model before training. Samples are judged by an ImageNet network: how far their
features are from the mean of the style that was asked for, and how often that style is the nearest.
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
from photophone.generators.base import Generator
from photophone.loading.saved import open_saved
from photophone.pipelines.class_to_image import ClassToImagePipeline
from photophone.pipelines.text_to_image import TextToImagePipeline
from photophone.tokenizers.alit.model import ALIT
from photophone.tokenizers.base import ImageTokenizer
from photophone.training.loop.config import load_config
from photophone.training.losses.feature_networks import build_feature_network
from photophone.training.tasks.image_conditions import load_captions
from photophone.training.tasks.image_generator import ImageGeneratorTask
from photophone.training.tasks.image_recipes import image_generator_task, image_tokenizer_task
from photophone.training.tasks.text_encoder import text_encoder_task

ROOT = Path(__file__).parents[1]
RUNS, CONFIGS, PICTURES = ROOT / "runs" / "recipes", ROOT / "configs" / "recipes", ROOT / "docs" / "pictures"
STYLES = ("blob emoji", "flat emoji", "pixel art character", "pixel art dungeon tile", "round flag", "silhouette icon")
PER_STYLE = 400
TEXT_ENCODERS = ("text_clip", "text_qwen2")
TOKENIZERS = ("llamagen_vq", "maskgit_vqgan", "kl_vae", "var_vq", "titok", "titok_stage1", "titok_stage2", "softvq",
              "unitok", "tatitok", "alit_stage1", "alit_stage2", "hart_vq", "bitdance_vq")
GENERATORS = ("llamagen", "mar", "xar", "var", "titok_bert", "sit", "nar", "maskgen", "hart", "bitdance")
NEWER = ("text_clip", "text_qwen2", "tatitok", "alit_stage1", "alit_stage2", "hart_vq", "bitdance_vq", "nar", "maskgen",
         "hart", "bitdance")
"""Recipes with a table and pictures of their own."""
NO_PICTURES = ("titok_stage1", *TEXT_ENCODERS)
THRESHOLD = 0.07
"""Mean error of pixels in [0, 1] at which ALIT stops, as published."""
COLUMNS = 8
SUBJECTS = ("red apple, {style}", "human woman, {style}")
"""Captions of the samples."""


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
    kind = "image_tokenizer" if name in TOKENIZERS else "image_generator" if name in GENERATORS else "text_encoder"
    folder, data = RUNS / name, f"data={RUNS}/train.safetensors"
    seconds = call(f"scripts/train_{kind}.py", "--config", CONFIGS / f"{name}.yaml", "--output", folder, data,
                   f"validation={RUNS}/val.safetensors")
    if name in TOKENIZERS and any(f"/{name}/tokens" in (CONFIGS / f"{other}.yaml").read_text()
                                   for other in GENERATORS):
        call("scripts/tokenize_dataset.py", RUNS / "train.safetensors", "-t", folder / "export", "-o",
             folder / "tokens.safetensors", "--flip")
    result = {"recipe": name, "cpu_seconds": round(seconds, 1), **measure(folder), **compare(name)}
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    return result


def measure(folder: Path) -> dict:
    """First and last logged value of each loss, and the validation."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    names = [name for name in steps[0] if name not in ("step", "learning_rate", "examples_per_second")]
    result = {"steps": steps[-1]["step"]} | {name: [steps[0][name], steps[-1][name]] for name in names}
    return result | {key: value for line in lines for key, value in line.items() if key.startswith("validation")}


@torch.no_grad()
def compare(name: str) -> dict:
    """Numbers of the model before training and, for generators, what :class:`StyleJudge` says of samples before and
    after, and of real images; for ALIT also the tokens of images that stop at THRESHOLD."""
    config = load_config(CONFIGS / f"{name}.yaml", [f"data={RUNS}/train.safetensors",
                                                    f"validation={RUNS}/val.safetensors"])
    torch.manual_seed(config.seed)
    if name in TEXT_ENCODERS:
        task = text_encoder_task(config)
        return {"before": task.validate(task.model.eval())}
    if name in TOKENIZERS:
        task = image_tokenizer_task(config)
        found: dict = {"before": task.validate(task.model.eval())}
        if isinstance(task.tokenizer, ALIT):
            model = open_saved(RUNS / name / "export", ALIT)
            images = task.validation.batch(np.arange(len(task.validation)))
            found["tokens_at_threshold"] = model.encode(images, threshold=THRESHOLD).lengths.float().mean().item()
        return found
    task = image_generator_task(config)
    judge = StyleJudge(task.data)
    found = {"before": task.validate(task.model.eval()), "samples_before": judge.samples(task, task.model)}
    trained = open_saved(RUNS / name / "export" / "token_generator", type(task.model))
    trained.connect(task.image_tokenizer)
    real = task.validation.batch(np.asarray(task.held_apart))
    return {**found, "samples_after": judge.samples(task, trained),
            "samples_real": judge.tell(real, [task.validation.fields[i]["style"] for i in task.held_apart])}


class StyleJudge:
    """Compares images with the mean features of training images of each style.

    Args:
        data: of the training.
    """

    EACH = 60

    def __init__(self, data: ImageDataset) -> None:
        self.network = build_feature_network("efficientnet_lite0")
        styles = [fields["style"] for fields in data.fields]
        self.means = []
        for style in STYLES:
            rows = [row for row, found in enumerate(styles) if found == style][:self.EACH]
            self.means.append(self.features(data.batch(np.asarray(rows))).mean(dim=0))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Of all maps, (B, F): logarithms of means, which are alike in size."""
        return torch.cat([found.abs().mean(dim=(2, 3)).log1p() for found in self.network(images)], dim=1)

    def tell(self, images: torch.Tensor, styles: list[str]) -> tuple[float, float]:
        """Mean distance of images (B, 3, H, W) from their styles, and the share whose own style is the nearest."""
        distances = torch.cdist(self.features(images), torch.stack(self.means))  # (B, styles)
        own = torch.tensor([STYLES.index(style) for style in styles])
        return (distances.gather(1, own[:, None]).mean().item(),
                (distances.argmin(dim=1) == own).float().mean().item())

    def samples(self, task: ImageGeneratorTask, model: Generator) -> tuple[float, float]:
        """:meth:`tell` of samples for all held-apart conditions."""
        rows = [task.validation.fields[i] for i in task.held_apart]
        return self.tell(task.generate(model, rows).clamp(-1, 1), [fields["style"] for fields in rows])


@torch.no_grad()
def tokenizer_sheet(names: tuple[str, ...]) -> Image.Image:
    """Held-apart images above what each tokenizer makes of them."""
    data = ImageDataset(RUNS / "val.safetensors")
    chosen = [next(row for row, fields in enumerate(data.fields) if fields["style"] == style and row >= skip)
              for skip in (0, len(data) // 2) for style in STYLES
              if any(f["style"] == style for f in data.fields[skip:])][:COLUMNS]
    images = data.batch(np.asarray(chosen))
    rows = [("held-apart images", to_pil(images))]
    for name in names:
        config = load_config(CONFIGS / f"{name}.yaml", [f"data={RUNS}/val.safetensors"])
        model, read = open_saved(RUNS / name / "export", ImageTokenizer), {}
        if "condition" in config.task:
            read["text_states"] = load_captions(config.task["condition"]).plain(
                [data.fields[row] for row in chosen]).text_states
        for count in model.token_counts if name.startswith("alit") else model.token_counts[-1:]:
            options = {"num_tokens": count} if len(model.token_counts) > 1 else {}
            rows.append((f"{name}, {count} tokens" if options else name,
                         to_pil(model.decode(model.encode(images, **options), **read))))
    return labelled_sheet(rows, scale=1, label_width=150)


def generator_sheet(names: tuple[str, ...]) -> Image.Image:
    """Samples of each generator for each style, two of a class or one of each of two captions."""
    rows, captions = [], [SUBJECTS[place % len(SUBJECTS)].format(style=style)
                          for style in STYLES for place in range(2)]
    for name in names:
        options = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["task"]["preview_options"]
        seeds = [torch.Generator().manual_seed(seed) for seed in range(2 * len(STYLES))]
        if (RUNS / name / "export" / "classes.json").exists():
            pipeline = ClassToImagePipeline.from_pretrained(RUNS / name / "export")
            asked = [label for label in range(len(STYLES)) for _ in range(2)]
        else:
            pipeline, asked = TextToImagePipeline.from_pretrained(RUNS / name / "export"), captions
        pipeline.set_progress_bar_config(disable=True)
        rows.append((name, pipeline(asked, generator=seeds, **options).images))
    return labelled_sheet(rows, scale=1, label_width=100)


def curves(path: Path, names: tuple[str, ...]) -> None:
    """Loss curves of all recipes, each in a field of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

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


def newer_row(result: dict) -> str:
    """One line of the second table: the number that counts, before training and after."""
    names = {"l2_loss": "L2", "l1_loss": "L1", "nll_8_tokens": "NLL of 8 tokens", "nll_32_tokens": "of 32",
             "cross_entropy": "cross-entropy", "rest": "of the rest"}
    found = {key: words for key, words in names.items() if key in result} or {"loss": "loss"}
    losses = ", ".join(f"{words} {result[key][0]:.3g} → {result[key][1]:.3g}" for key, words in found.items())
    if "validation_psnr" in result:
        apart = f"PSNR {result['before']['validation_psnr']:.1f} → {result['validation_psnr']:.1f} dB"
    else:
        apart = f"loss {result['before']['validation_loss']:.3g} → {result['validation_loss']:.3g}"
    if "validation_found" in result:
        apart += f", found {result['before']['validation_found']:.0%} → {result['validation_found']:.0%}"
    styles = ""
    if "samples_after" in result:
        before, after, real = (result[f"samples_{when}"] for when in ("before", "after", "real"))
        styles = (f"{before[0]:.2f} → {after[0]:.2f} (real {real[0]:.2f}), {before[1]:.0%} → {after[1]:.0%} "
                  f"(real {real[1]:.0%})")
    return f"| `{result['recipe']}` | {result['steps']} | {losses} | {apart} | {styles} |"


def report() -> None:
    """The tables, and the pictures of those groups of runs that are all there."""
    there = [name for name in (*TEXT_ENCODERS, *TOKENIZERS, *GENERATORS) if (RUNS / name / "result.json").exists()]
    results = {name: json.loads((RUNS / name / "result.json").read_text()) for name in there}
    print("| recipe | steps | seconds of one core | losses, first and last window | held apart |", "|---" * 5 + "|",
          *(row(results[name]) for name in there if name not in NEWER), sep="\n")
    print("| recipe | steps | losses, first and last window | held apart, before and after | samples: distance from "
          "their style, nearest to it |", "|---" * 5 + "|",
          *(newer_row(results[name]) for name in there if name in NEWER), sep="\n")
    for ending, chosen in (("", lambda name: name not in NEWER), ("-2", lambda name: name in NEWER)):
        groups = [tuple(filter(chosen, group)) for group in (TOKENIZERS, GENERATORS)]
        if not set(groups[0] + groups[1]) <= set(there):
            continue
        for names, word, draw in zip(groups, ("tokenizers", "generators"), (tokenizer_sheet, generator_sheet)):
            with atomic_write(PICTURES / f"recipes-{word}{ending}.png") as partial:
                sheet = draw(tuple(name for name in names if name not in NO_PICTURES))
                sheet.quantize(128).save(partial, format="PNG", optimize=True)
        curves(PICTURES / f"recipes-losses{ending}.png", groups[0] + groups[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", help="names of configs/recipes; none runs all")
    parser.add_argument("--per-style", type=int, default=PER_STYLE, help=f"training images of each style, for a new "
                        f"runs/recipes (default {PER_STYLE}); fewer are tokenized sooner")
    parser.add_argument("--report", action="store_true", help="only table and pictures of the runs that are there")
    arguments = parser.parse_args()
    known = (*TEXT_ENCODERS, *TOKENIZERS, *GENERATORS)  # in an order in which each finds what it is made from
    if unknown := set(arguments.recipes) - set(known):
        parser.error(f"unknown recipes {sorted(unknown)}; known are {', '.join(known)}")
    prepare(ROOT / "data/images/train.safetensors", RUNS / "train.safetensors", arguments.per_style)
    prepare(ROOT / "data/images/val.safetensors", RUNS / "val.safetensors", 8)
    if not arguments.report:
        for name in arguments.recipes or known:
            print(json.dumps(train(name)), flush=True)
    report()


if __name__ == "__main__":
    main()
