"""`photophone evaluate image`: reconstruction by the tokenizer, caption retrieval and Frechet distance of the whole."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from photophone.core.files import atomic_write
from photophone.core.privacy import cache_folder
from photophone.data.images import ImageDataset, prepare_images
from photophone.evaluation.metrics.features import EfficientNetLite0Features
from photophone.evaluation.metrics.image import frechet_distance, psnr, ssim
from photophone.evaluation.metrics.retrieval import caption_retrieval, draw_distractors
from photophone.evaluation.tasks.image_prompts import evaluate_colours, evaluate_prompts
from photophone.pipelines.text_to_image import TextToImagePipeline

POOL_PER_STYLE = 300
DISTRACTORS = 99
REFINE_STEPS = 10
SPLITS = ("test_combo", "test_label")


def evaluate_images(pipeline: TextToImagePipeline, data: Path, *, seed: int = 0, num_inference_steps: int | None = None,
                    guidance_scale: float | None = None, temperature: float | None = None, batch_size: int = 32,
                    limit: int | None = None, splits: Sequence[str] | None = None,
                    cache: Path | None = None, progress: bool = True) -> dict:
    """Measure a text-to-image pipeline.

    Args:
        pipeline: what to measure.
        data: images with captions, see :func:`read_sets`; real images to compare with come from all of them.
        num_inference_steps, guidance_scale, temperature: of the pipeline's call; None is its default.
        seed: of noise and distractors; each image has its own generator.
        limit: only the first so many images of each split.
        splits: which prepared files of a folder to generate for; choose settings on ``val``, report on the tests. None:
            the tests, or ``val`` where there are none.
        cache: folder for the features of real images; None: one below ``~/.cache/photophone``.
        progress: show bars.

    Returns:
        Nested dict: ``tokenizer``, ``prompts`` and ``colours`` (see :mod:`photophone.evaluation.tasks.image_prompts`),
        each split, ``settings``; distances are on EfficientNet-Lite0 features.

    Raises:
        ValueError: data that cannot be read, that is of another size than the pipeline's images, or without captions.
    """
    sets = read_sets(data, pipeline.image_tokenizer.image_size, splits or ())
    splits = splits or [name for name in SPLITS if name in sets] or ["val"]
    features = EfficientNetLite0Features()
    chosen = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "temperature": temperature}
    known = pipeline.sampler(chosen).settings()
    options = {name: known[name] for name in chosen}
    pool = RealPool(sets, features, cache or cache_folder() / "features", progress)
    result = {"tokenizer": evaluate_tokenizer(pipeline, sets["val"], features, batch_size, limit),
              "settings": {"model": pipeline.source["model"], "revision": pipeline.source["revision"], "seed": seed,
                           **options, "limit": limit, "distractors": pool.distractors,
                           "features": "EfficientNet-Lite0"}}
    asked = {"seed": seed, "batch_size": batch_size, "options": options}
    further = {"prompts": evaluate_prompts(pipeline, sets, features, **asked),
               "colours": evaluate_colours(pipeline, sets, **asked)}
    result |= {name: found for name, found in further.items() if found}  # none of data of another kind
    for name in splits:
        result[name] = _evaluate_split(pipeline, sets[name], features, pool, seed, batch_size, limit, progress, options)
    return result


def read_sets(data: Path, size: int, wanted: Sequence[str] = ()) -> dict[str, ImageDataset]:
    """Sets of captioned images by name; ``val`` is always there.

    Args:
        data: a folder with prepared files (``scripts/prepare_images.py``), of which ``val`` and those of ``train``,
            ``test_combo`` and ``test_label`` that are there are read; or images of any other kind that the script
            takes, or one prepared file, which become ``val``.
        size: pixels per side that the pipeline makes.
        wanted: names of further prepared files.

    Raises:
        ValueError: files that are missing or cannot be read, another size, or images without a caption.
    """
    if data.is_dir() and any(data.glob("*.safetensors")):
        there = [name for name in ("train", "val", *SPLITS) if (data / f"{name}.safetensors").exists()]
        names = dict.fromkeys([*there, "val", *wanted])  # in this order, on which the pool of real images depends
        sets = {name: ImageDataset(data / f"{name}.safetensors") for name in names}
    else:
        if other := sorted(set(wanted) - {"val"}):
            raise ValueError(f"{data} is no folder of prepared files; it has no split {', '.join(other)}")
        with tempfile.TemporaryDirectory() as folder:
            file = data
            if data.suffix != ".safetensors":
                file = Path(folder) / "val.safetensors"
                prepare_images([data], file, size)
            sets = {"val": ImageDataset(file)}
    for name, part in sets.items():
        if part.images.shape[1] != size:
            raise ValueError(f"{name} of {data} has images of {part.images.shape[1]} pixels, the model makes {size}; "
                             f"prepare the data with --size {size}")
        if not all(fields["caption"].strip() for fields in part.fields):
            raise ValueError(f"{name} of {data} has images without a caption")
    return sets


def evaluate_tokenizer(pipeline: TextToImagePipeline, data: ImageDataset, features: EfficientNetLite0Features,
                       batch_size: int, limit: int | None) -> dict[str, float]:
    """PSNR (dB), SSIM and Frechet distance of reconstructions."""
    images = all_images(data, limit)
    made = reconstruct(pipeline, images, batch_size)
    decibels = psnr(made, images)
    refined = {}
    if pipeline.image_tokenizer.codebook_size is None:
        again = reconstruct(pipeline, images, batch_size, refine_steps=REFINE_STEPS)
        refined = {"psnr_refined": float(psnr(again, images).mean()), "refine_steps": REFINE_STEPS}
    return {"psnr": float(decibels.mean()), **refined, "psnr_median": float(decibels.median()),
            "psnr_of_mean_error": float(-10 * (10 ** (-decibels / 10)).mean().log10()),
            "ssim": float(ssim(made, images).mean()),
            "frechet_efficientnet_lite0": frechet_distance(features(made), features(images)), "count": len(images)}


def _evaluate_split(pipeline: TextToImagePipeline, data: ImageDataset, features: EfficientNetLite0Features,
                    pool: RealPool, seed: int, batch_size: int, limit: int | None, progress: bool,
                    options: dict) -> dict:
    images = all_images(data, limit)
    fields = data.fields[: len(images)]
    captions, styles = [f["caption"] for f in fields], [f["style"] for f in fields]
    made = []
    for start in tqdm(range(0, len(captions), batch_size), unit="batch", disable=not progress):
        rows = captions[start:start + batch_size]
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + start + i) for i in range(len(rows))]
        made.append(pipeline(rows, generator=generators, output_type="pt", **options).images.cpu())
    distractors = draw_distractors(captions, styles, pool.captions, pool.styles, pool.distractors, seed)
    own = features(images)
    rows = {"generated": features(torch.cat(made)), "ceiling": features(reconstruct(pipeline, images, batch_size)),
            "floor": features(torch.ones_like(images[:1])).expand(len(images), -1)}
    result = {name: asdict(caption_retrieval(row, own, pool.features, distractors, styles))
              for name, row in rows.items()}
    result["frechet_efficientnet_lite0"] = frechet_distance(rows["generated"], own)
    return result


class RealPool:
    """Features of up to ``POOL_PER_STYLE`` random real images of each style, cached on disk.

    Attributes:
        features: float (P, 1280).
        captions, styles: of the P images.
        distractors: real images that each query is compared with beside its own: ``DISTRACTORS``, or as many as there
            are for the caption that most images have.

    Raises:
        ValueError: all images have the same caption.
    """

    def __init__(self, sets: dict[str, ImageDataset], network: EfficientNetLite0Features, cache: Path,
                 progress: bool) -> None:
        places = [(name, i, f["style"]) for name, data in sets.items() for i, f in enumerate(data.fields)]
        rng = np.random.default_rng(0)
        by_style: dict[str, list] = {}
        for index in rng.permutation(len(places)):
            by_style.setdefault(places[index][2], []).append(places[index])
        chosen = [place for style in sorted(by_style) for place in by_style[style][:POOL_PER_STYLE]]
        self.captions = [sets[name].fields[i]["caption"] for name, i, _ in chosen]
        self.styles = [style for _, _, style in chosen]
        most_equal = max(Counter(self.captions).values())
        self.distractors = min(DISTRACTORS, len(chosen) - most_equal)
        if not self.distractors:
            raise ValueError("all images have the same caption; retrieval needs others to compare with")
        key = hashlib.sha256(repr((network.version, chosen, self.captions)).encode()).hexdigest()[:16]
        file = cache / f"features-{key}.safetensors"
        if not file.exists():
            parts = []
            for start in tqdm(range(0, len(chosen), 64), unit="batch", desc="real images", disable=not progress):
                rows = [sets[name].batch(np.asarray([i])) for name, i, _ in chosen[start:start + 64]]
                parts.append(network(torch.cat(rows)))
            with atomic_write(file) as partial:
                save_file({"features": torch.cat(parts)}, partial)
        self.features: Tensor = load_file(file)["features"]


def all_images(data: ImageDataset, limit: int | None) -> Tensor:
    """The first ``limit`` images, or all, float (B, 3, H, W) in [-1, 1]."""
    return data.batch(np.arange(len(data) if limit is None else min(limit, len(data))))


@torch.no_grad()
def reconstruct(pipeline: TextToImagePipeline, images: Tensor, batch_size: int, **options) -> Tensor:
    """Images through the tokenizer and back, rounded to 8 bits as a saved picture is; options of ``encode``."""
    tokenizer = pipeline.image_tokenizer
    made = [tokenizer.decode(tokenizer.encode(part.to(tokenizer.device), **options)).cpu()
            for part in images.split(batch_size)]
    return ((torch.cat(made) + 1) * 127.5).round() / 127.5 - 1
