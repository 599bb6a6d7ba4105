"""What ordinary people type, measured: is the object there, and are named colours right?

**Objects.** A hundred prompts that people might type lie in ``photophone/evaluation/prompts/ordinary.csv``, each with
the label of the images that show it. A generated image is compared with all real images of all hundred labels; the
label whose images are nearest wins. Chance is 1 %.

**Colours.** Captions of tinted silhouettes name a colour. The dominant colour of a generated image is that of its
most saturated half (or darkest, for grey and black), and the nearest of the colours that the real ones have must be
the one that was named.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.data.images import ImageDataset
from photophone.evaluation.metrics.features import EfficientNetLite0Features
from photophone.pipelines.text_to_image import TextToImagePipeline

SILHOUETTE = "silhouette icon"
MOST_SILHOUETTES = 110
"""Captions of silhouettes that are drawn."""
CHUNK = 64


def ordinary_prompts() -> list[tuple[str, tuple[str, ...]]]:
    """The prompts, and the labels of training images that show what each asks for."""
    text = files("photophone.evaluation").joinpath("prompts/ordinary.csv").read_text(encoding="utf-8")
    return [(row["prompt"], tuple(row["label"].split("|"))) for row in csv.DictReader(text.splitlines())]


def evaluate_prompts(pipeline: TextToImagePipeline, sets: dict[str, ImageDataset], network: EfficientNetLite0Features,
                     *, seed: int = 0, batch_size: int = 32, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Objects of ordinary prompts, with the pipeline's own reading of them and as they stand.

    Args:
        pipeline: what is measured.
        sets: real images by the name of their set, all of which are compared with.
        network: makes the features.
        seed: of the first image.
        options: of the pipeline's call.

    Returns:
        ``top1`` and ``top5`` by the mean similarity to the images of a label, ``top1_nearest`` by the one
        nearest image, for ``read`` (as the pipeline reads them) and ``as_written``; ``ceiling``, the same of each
        real image against the others; ``labels``, ``images``. None where fewer than two labels have images.
    """
    prompts = ordinary_prompts()
    owner = {label: number for number, (_, labels) in enumerate(prompts) for label in labels}
    places = [(data, index, owner[fields["label"]]) for data in sets.values()
              for index, fields in enumerate(data.fields) if fields["label"] in owner]
    there = sorted(number for number in {number for _, _, number in places} if reads(pipeline, prompts[number][0]))
    places = [place for place in places if place[2] in there]
    if len(there) < 2:
        return {}
    parts = [places[start:start + CHUNK] for start in range(0, len(places), CHUNK)]
    real = torch.cat([network(torch.cat([data.batch(np.asarray([index])) for data, index, _ in part]))
                      for part in parts])
    labels = torch.tensor([there.index(number) for _, _, number in places])
    gallery = Gallery(real, labels, len(there))
    wanted = torch.arange(len(there))
    result: dict[str, Any] = {"labels": len(there), "images": len(places), "ceiling": gallery.score(real, labels, True)}
    for name, as_written in (("read", False), ("as_written", True)):
        made = draw(pipeline, [prompts[number][0] for number in there], seed, batch_size,
                    {**(options or {}), "as_written": as_written})
        result[name] = gallery.score(network(made), wanted)
    return result


def reads(pipeline: TextToImagePipeline, prompt: str) -> bool:
    """Whether a prompt is written in characters that the pipeline's vocabulary has, and is not too long for it."""
    try:
        pipeline.encode_prompts([prompt])
        pipeline.encode_prompts([pipeline.read_prompt(prompt)])
    except ValueError:
        return False
    return True


def draw(pipeline: TextToImagePipeline, prompts: list[str], seed: int, batch_size: int,
         options: dict[str, Any]) -> Tensor:
    """Images (M, 3, H, W) in [-1, 1], each with a seed of its own."""
    made = []
    for start in range(0, len(prompts), batch_size):
        rows = prompts[start:start + batch_size]
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + start + row) for row in range(len(rows))]
        made.append(pipeline(rows, generator=generators, output_type="pt", **options).images.cpu())
    return torch.cat(made)


class Gallery:
    """Real images by their labels.

    Args:
        features: float (M, F).
        labels: Long (M,), numbers below ``count``.
        count: of labels.
    """

    def __init__(self, features: Tensor, labels: Tensor, count: int) -> None:
        self.features, self.labels, self.count = F.normalize(features.double(), dim=1), labels, count

    def score(self, queries: Tensor, wanted: Tensor, own: bool = False) -> dict[str, float]:
        """Shares of queries (Q, F) whose nearest label is the wanted one, Long (Q,).

        Args:
            own: the queries are the gallery itself; each is compared with the others alone.
        """
        similarity = F.normalize(queries.double(), dim=1) @ self.features.T  # (Q, M)
        if own:
            similarity.fill_diagonal_(torch.nan)
        mean, nearest = (torch.stack([take(similarity[:, self.labels == label]) for label in range(self.count)], dim=1)
                         for take in (lambda part: part.nanmean(dim=1),
                                      lambda part: part.nan_to_num(-2.0).amax(dim=1)))
        mean = mean.nan_to_num(-2.0)  # of a label whose only image is the query
        five = mean.topk(min(5, self.count), dim=1).indices
        return {"top1": share(mean.argmax(dim=1) == wanted), "top5": share((five == wanted[:, None]).any(dim=1)),
                "top1_nearest": share(nearest.argmax(dim=1) == wanted)}


def share(hits: Tensor) -> float:
    """Of True in a bool tensor."""
    return float(hits.double().mean())


def dominant_colours(images: Tensor) -> Tensor:
    """The colour (B, 3) in 0..1 of the drawing in images (B, 3, H, W) in [-1, 1]: the median of those pixels that
    differ from white by more than half as much as the pixels that differ most."""
    pixels = ((images + 1) / 2).clamp(0, 1).flatten(2).transpose(1, 2)  # (B, HW, 3)
    distance = (1 - pixels).norm(dim=2)
    limit = distance.quantile(0.98, dim=1, keepdim=True) / 2
    return torch.stack([row[far].median(dim=0).values if far.any() else row.new_ones(3)
                        for row, far in zip(pixels, distance > limit)])


def evaluate_colours(pipeline: TextToImagePipeline, sets: dict[str, ImageDataset], *, seed: int = 0,
                     batch_size: int = 32, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Share of silhouettes in the colour that their caption names; arguments as of :func:`evaluate_prompts`.

    The captions are those of tests where there are any, else of ``val``. The ceiling is what the tokenizer gives back
    of the real images.

    Returns:
        ``right``, ``ceiling``, ``count`` and ``by_colour``; nothing where no silhouettes are there.
    """
    known = [(name, data, index, fields["caption"].split()[0], fields["caption"]) for name, data in sets.items()
             for index, fields in enumerate(data.fields) if fields["style"] == SILHOUETTE]
    names = sorted({colour for *_, colour, _ in known})
    chosen = [row for row in known if row[0].startswith("test")] or [row for row in known if row[0] == "val"]
    chosen = chosen[:MOST_SILHOUETTES]
    if len(names) < 2 or not chosen:
        return {}
    real = {colour: torch.cat([data.batch(np.asarray([index])) for _, data, index, other, _ in known if other == colour
                               ][:CHUNK]) for colour in names}
    palette = torch.stack([dominant_colours(real[colour]).median(dim=0).values for colour in names])
    wanted = torch.tensor([names.index(colour) for *_, colour, _ in chosen])
    images = torch.cat([data.batch(np.asarray([index])) for _, data, index, *_ in chosen])
    tokenizer = pipeline.image_tokenizer
    with torch.no_grad():
        back = torch.cat([tokenizer.decode(tokenizer.encode(part.to(tokenizer.device))).cpu()
                          for part in images.split(batch_size)])
    made = draw(pipeline, [caption for *_, caption in chosen], seed, batch_size, options or {})
    hits, most = ((torch.cdist(dominant_colours(part), palette).argmin(dim=1) == wanted) for part in (made, back))
    by_colour = {name: share(hits[wanted == place]) for place, name in enumerate(names) if (wanted == place).any()}
    return {"right": share(hits), "ceiling": share(most), "count": len(chosen), "by_colour": by_colour}
