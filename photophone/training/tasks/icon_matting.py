"""Training of the network that finds the opacity of icons on white, from drawings that have an alpha channel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from photophone.core.pictures import grid, to_pil
from photophone.data.images import ImageDataset
from photophone.loading.saved import open_saved
from photophone.tokenizers.base import ImageTokenizer
from photophone.tokenizers.icon_matting import IconMatting
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.task import Task

HELD_APART = 20
"""One label in so many is for validation."""
SHOWN = 12


class AlphaIcons:
    """Prepared icons with their opacity.

    Args:
        files: of ``scripts/fetch_icons.py --alpha``.
        every: only one icon in so many of each file.

    Attributes:
        images: uint8 (N, 3, H, W), on white.
        alphas: uint8 (N, 1, H, W).
        labels: of each icon.

    Raises:
        ValueError: a file without opacities.
    """

    def __init__(self, files: list[str | Path], every: int = 1) -> None:
        images, alphas, self.labels = [], [], []
        for file in files:
            data, tensors = ImageDataset(file), load_file(file)
            if "alphas" not in tensors:
                raise ValueError(f"{file} holds no opacities; make it with scripts/fetch_icons.py --alpha")
            images.append(data.images[::every].permute(0, 3, 1, 2))
            alphas.append(tensors["alphas"][::every, None])
            self.labels += [fields["label"] for fields in data.fields[::every]]
        self.images, self.alphas = torch.cat(images), torch.cat(alphas)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, H, W) in [-1, 1] and their opacity (B, 1, H, W) in 0..1."""
        rows = torch.from_numpy(np.asarray(indices))
        return self.images[rows].float() / 127.5 - 1, self.alphas[rows].float() / 255


@torch.no_grad()
def through_tokens(images: Tensor, tokenizer: ImageTokenizer, size: int = 64) -> Tensor:
    """uint8 (N, 3, H, W) as an image tokenizer gives them back: what a generator's pictures look like."""
    parts: Iterator[Tensor] = (part.float() / 127.5 - 1 for part in images.split(size))
    made = [tokenizer.decode(tokenizer.encode(part)) for part in parts]
    return ((torch.cat(made).clamp(-1, 1) + 1) * 127.5).round().byte()


def labels_apart(labels: list[str]) -> set[str]:
    """One label in :data:`HELD_APART`, the same each time: for validation."""
    known = sorted(set(labels))
    order = np.random.default_rng(0).permutation(len(known))
    return {known[place] for place in order[: len(known) // HELD_APART]}


class IconMattingTask(Task):
    """Opacity from pictures, half of which went through the tokens of a tokenizer.

    Args:
        model: the network.
        icons: training material; one label in ``HELD_APART``, of all sets, is kept for validation.
        tokenizer: of the generator whose pictures are cut out.
        own_share: share of pictures that did not go through tokens.
    """

    def __init__(self, model: IconMatting, icons: AlphaIcons, tokenizer: ImageTokenizer,
                 own_share: float = 0.5) -> None:
        self.model, self.icons, self.own_share = model, icons, own_share
        self.made = through_tokens(icons.images, tokenizer)
        apart = labels_apart(icons.labels)
        self.own, self.held = (np.asarray([row for row, label in enumerate(icons.labels) if (label in apart) == wanted],
                                          dtype=np.int64) for wanted in (False, True))
        self.num_examples = len(self.own)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        """Pictures with mirrored sides and exchanged colours, so that no hue means anything."""
        rows = self.own[indices]
        images, alphas = self.icons.batch(rows)
        made = self.made[torch.from_numpy(rows)].float() / 127.5 - 1
        own = torch.from_numpy(rng.random(len(rows)) < self.own_share)[:, None, None, None]
        images = torch.where(own, images, made)[:, torch.from_numpy(rng.permutation(3))]
        if rng.random() < 0.5:
            images, alphas = images.flip(3), alphas.flip(3)
        return {"images": images, "alphas": alphas}

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Absolute and squared error of the opacity."""
        error = self.model.alpha(batch["images"]) - batch["alphas"]
        absolute, squared = error.abs().mean(), error.square().mean()
        return absolute + 2 * squared, {"absolute": absolute.detach(), "squared": squared.detach()}

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Mean absolute errors on labels held apart: of drawings, and of what tokens give back."""
        errors = {}
        for name, source in (("own", self.icons.images), ("tokens", self.made)):
            total = 0.0
            for rows in np.array_split(self.held, max(1, len(self.held) // 64)):
                images = source[torch.from_numpy(rows)].float() / 127.5 - 1
                total += float((self.model.alpha(images) - self.icons.batch(rows)[1]).abs().mean()) * len(rows)
            errors[f"alpha_error_{name}"] = total / max(1, len(self.held))
        return errors

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Pictures of tokens, true opacity, found opacity, one column each."""
        rows = self.held[:SHOWN]
        images = self.made[torch.from_numpy(rows)].float() / 127.5 - 1
        alphas = (self.icons.batch(rows)[1], self.model.alpha(images))
        shown = [images, *(2 * alpha.expand(-1, 3, -1, -1) - 1 for alpha in alphas)]
        return grid([image for part in shown for image in to_pil(part)], max(1, len(rows)))

    def export(self, model: nn.Module, folder: Path) -> None:
        self.model.save_pretrained(folder)


def take_tokenizer(settings: dict[str, Any]) -> ImageTokenizer:
    """The image tokenizer whose folder the setting ``tokenizer`` names, which is taken out.

    Raises:
        ValueError: it is missing, or no tokenizer lies there.
    """
    if "tokenizer" not in settings:
        raise ValueError("task: the setting 'tokenizer' is missing; give the folder of an image tokenizer")
    return open_saved(settings.pop("tokenizer"), ImageTokenizer)


def matting_task(config: TrainConfig) -> IconMattingTask:
    """The task of ``train_matting.py``.

    ``task`` holds ``tokenizer`` (folder of an image tokenizer), and may hold ``more_data`` (further prepared files),
    ``every`` and ``own_share``.

    Raises:
        ValueError, TypeError: settings that are missing, unknown or do not fit.
    """
    settings = dict(config.task)
    tokenizer = take_tokenizer(settings)
    icons = AlphaIcons([config.data, *settings.pop("more_data", [])], settings.pop("every", 1))
    model = IconMatting.from_pretrained(config.init_from) if config.init_from else IconMatting(**config.model)
    return IconMattingTask(model, icons, tokenizer, **settings)
