"""Training of the network that gives icons twice their size, from drawings of the larger size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.pictures import grid, to_pil
from photophone.data.images import ImageDataset
from photophone.tokenizers.base import ImageTokenizer
from photophone.tokenizers.icon_upscaler import IconUpscaler, enlarge
from photophone.training.loop.task import Task
from photophone.training.tasks.icon_matting import labels_apart, take_tokenizer, through_tokens

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from photophone.training.loop.config import TrainConfig

SHOWN = 8


def halved(images: Tensor) -> Tensor:
    """uint8 (N, 3, 2H, 2W) to uint8 (N, 3, H, W): the mean of each four pixels, as icons are drawn."""
    return torch.cat([F.avg_pool2d(part.float(), 2).round().byte() for part in images.split(256)])


class IconUpscalingTask(Task):
    """Large pictures from small ones, some of which went through the tokens of a tokenizer.

    Args:
        model: the network.
        images: uint8 (N, 3, 2S, 2S), large.
        labels: of each; one in :data:`~photophone.training.tasks.icon_matting.HELD_APART` is kept for validation.
        tokenizer: of pictures of S pixels, whose generator's pictures are to be enlarged.
        own_share: share of pictures that did not go through tokens.

    Raises:
        ValueError: pictures that are not twice the tokenizer's size.
    """

    def __init__(self, model: IconUpscaler, images: Tensor, labels: list[str], tokenizer: ImageTokenizer,
                 own_share: float = 0.5) -> None:
        size = model.SCALE * tokenizer.image_size
        if tuple(images.shape[2:]) != (size, size):
            raise ValueError(f"the pictures have {images.shape[3]}x{images.shape[2]} pixels; {size}x{size} are needed, "
                             f"{model.SCALE} times those of the tokenizer: fetch_icons.py --size {size}")
        self.model, self.images, self.own_share = model, images, own_share
        self.small = halved(images)
        self.made = through_tokens(self.small, tokenizer)
        apart = labels_apart(labels)
        self.own, self.held = (np.asarray([row for row, label in enumerate(labels) if (label in apart) == wanted],
                                          dtype=np.int64) for wanted in (False, True))
        self.num_examples = len(self.own)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        """Pictures with mirrored sides and exchanged colours."""
        rows = torch.from_numpy(self.own[indices])
        own = torch.from_numpy(rng.random(len(rows)) < self.own_share)[:, None, None, None]
        small, large = torch.where(own, self.small[rows], self.made[rows]), self.images[rows]
        colours = torch.from_numpy(rng.permutation(3))
        pair = [part[:, colours].float() / 127.5 - 1 for part in (small, large)]
        if rng.random() < 0.5:
            pair = [part.flip(3) for part in pair]
        return {"small": pair[0], "large": pair[1]}

    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The logarithm of each picture's squared error, which is its PSNR, and the absolute error, for edges."""
        error = model(batch["small"]).float() - batch["large"]
        absolute = error.abs().mean()
        squared = error.square().mean(dim=(1, 2, 3)).clamp(min=1e-6).log().mean()
        return 0.1 * squared + absolute, {"absolute": absolute.detach(), "log_squared": squared.detach()}

    @torch.no_grad()
    def validate(self, model: nn.Module) -> dict[str, float]:
        """PSNR (dB) on labels held apart, of drawings and of what tokens give back; and of bicubic enlargement."""
        found = {}
        for name, source in (("own", self.small), ("tokens", self.made)):
            totals = {"psnr": 0.0, "bicubic_psnr": 0.0}
            for rows in np.array_split(self.held, max(1, len(self.held) // 64)):
                place = torch.from_numpy(rows)
                small, large = (part[place].float() / 127.5 - 1 for part in (source, self.images))
                for kind, made in (("psnr", self.model(small)), ("bicubic_psnr", enlarge(small, IconUpscaler.SCALE))):
                    squared = (made.clamp(-1, 1) - large).square().mean(dim=(1, 2, 3)) / 4
                    totals[kind] += float((-10 * squared.clamp(min=1e-10).log10()).sum())
            found |= {f"{kind}_{name}": total / max(1, len(self.held)) for kind, total in totals.items()}
        return found

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Pictures of tokens enlarged bicubically, by the network, and the drawings, one column each."""
        rows = torch.from_numpy(self.held[:SHOWN])
        small, large = (part[rows].float() / 127.5 - 1 for part in (self.made, self.images))
        shown = (enlarge(small, IconUpscaler.SCALE), self.model(small), large)
        return grid([image for part in shown for image in to_pil(part.clamp(-1, 1))], max(1, len(rows)))

    def export(self, model: nn.Module, folder: Path) -> None:
        self.model.save_pretrained(folder)


def upscaling_task(config: TrainConfig) -> IconUpscalingTask:
    """The task of ``train_upscaler.py``.

    ``task`` holds ``tokenizer`` (folder of an image tokenizer), and may hold ``more_data`` (further prepared files),
    ``every`` (only one icon in so many of each file) and ``own_share``.

    Raises:
        ValueError, TypeError: settings that are missing, unknown or do not fit.
    """
    settings = dict(config.task)
    tokenizer = take_tokenizer(settings)
    every, parts, labels = settings.pop("every", 1), [], []
    for file in [config.data, *settings.pop("more_data", [])]:
        data = ImageDataset(file)
        parts.append(data.images[::every].permute(0, 3, 1, 2))
        labels += [fields["label"] for fields in data.fields[::every]]
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError("the files have pictures of different sizes: "
                         f"{', '.join(sorted({str(part.shape[2]) for part in parts}))} pixels; prepare them alike")
    model = IconUpscaler.from_pretrained(config.init_from) if config.init_from else IconUpscaler(**config.model)
    return IconUpscalingTask(model, torch.cat(parts).contiguous(), labels, tokenizer, **settings)
