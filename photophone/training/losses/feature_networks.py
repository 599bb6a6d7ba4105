"""Frozen networks whose features training losses compare: images (B, 3, H, W) in [-1, 1] to a list of maps.

A feature network is any callable of that form; users can hand in their own. Those below can be named in a config.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.evaluation.metrics.features import EfficientNetLite0Features
from photophone.loading.checkpoints import read_state
from photophone.loading.saved import open_saved
from photophone.tokenizers.grid import GridTokenizer

FeatureNetwork = Callable[[Tensor], list[Tensor]]
"""Images (B, 3, H, W) in [-1, 1] to maps (B, C, h, w), from fine to coarse, with gradients."""


class EfficientNetMaps(nn.Module):
    """EfficientNet-Lite0, trained on ImageNet, whose weights come in a package; see
    :class:`photophone.evaluation.metrics.features.EfficientNetLite0Features`.

    Args:
        image_size: pixels that images are resized to; None leaves them as they are. It was trained on 224.
        classes: give back one map, the logits of the 1,000 classes (B, 1000, 1, 1), which TiTok's loss compares.
    """

    def __init__(self, image_size: int | None = None, classes: bool = False) -> None:
        super().__init__()
        self.network, self.image_size, self.classes = EfficientNetLite0Features(), image_size, classes

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.network.maps(images, self.image_size)
        if not self.classes:
            return maps
        inner = self.network.network
        pooled = inner.bn2(inner.conv_head(maps[-1])).mean(dim=(2, 3))
        return [inner.classifier(pooled)[..., None, None]]


class TokenizerMaps(nn.Module):
    """What the levels of a saved convolutional tokenizer's encoder make, such as ours of ``configs/recipes``.

    Args:
        folder: the saved tokenizer, a :class:`photophone.tokenizers.grid.GridTokenizer`.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.encoder = open_saved(folder, GridTokenizer).encoder

    def forward(self, images: Tensor) -> list[Tensor]:
        hidden, maps = self.encoder.conv_in(images), []
        for level in self.encoder.levels:
            hidden = level(hidden)
            maps.append(hidden)
        return maps


class LPIPSMaps(nn.Module):
    """VGG-16 with the learned weights of LPIPS (arXiv 1801.03924), from files that users have.

    The maps are unit vectors at each place times the roots of LPIPS's channel weights, so that
    :class:`photophone.training.losses.image.PerceptualLoss` with ``compare="sum"`` is LPIPS.

    Args:
        vgg: torchvision's state dict of VGG-16 (``vgg16-397923af.pth``).
        linear: LPIPS's own weights (``vgg.pth`` of version 0.1: ``lin0.model.1.weight`` and so on).

    Raises:
        ValueError: files that are missing or hold other tensors.
    """

    ENDS = (3, 8, 15, 22, 29)
    SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

    def __init__(self, vgg: str | Path, linear: str | Path) -> None:
        super().__init__()
        from torchvision.models import vgg16

        state = {key.removeprefix("features."): value for key, value in read_state(vgg).items()
                 if key.startswith("features.")}
        self.layers, weights = vgg16(weights=None).features, read_state(linear)
        try:
            self.layers.load_state_dict(state)
            roots = [weights[f"lin{level}.model.1.weight"].flatten().clamp(min=0).sqrt() for level in range(5)]
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"{vgg} and {linear} are not the weights of VGG-16 and LPIPS: {error}") from error
        for level, root in enumerate(roots):
            self.register_buffer(f"root_{level}", root)

    def forward(self, images: Tensor) -> list[Tensor]:
        shift, scale = (images.new_tensor(values).view(3, 1, 1) for values in (self.SHIFT, self.SCALE))
        hidden, maps = (images - shift) / scale, []
        for index, layer in enumerate(self.layers):
            hidden = functional.relu(hidden) if isinstance(layer, nn.ReLU) else layer(hidden)  # not in place
            if index in self.ENDS:
                root = getattr(self, f"root_{len(maps)}")[:, None, None]
                maps.append(functional.normalize(hidden, dim=1, eps=1e-10) * root)
        return maps


FEATURE_NETWORKS: dict[str, type[nn.Module]] = {"efficientnet_lite0": EfficientNetMaps, "tokenizer": TokenizerMaps,
                                               "lpips": LPIPSMaps}
"""Networks that configs can name, and nothing else."""


def build_feature_network(settings: str | dict) -> nn.Module:
    """A frozen network in eval mode from its name, or a mapping of ``name`` and its arguments.

    Raises:
        ValueError: an unknown name, or files that do not fit.
        TypeError: an argument that the network does not have.
    """
    options = {"name": settings} if isinstance(settings, str) else dict(settings)
    name = options.pop("name", None)
    if name not in FEATURE_NETWORKS:
        raise ValueError(f"unknown feature network {name!r}; known are {', '.join(sorted(FEATURE_NETWORKS))}")
    return FEATURE_NETWORKS[name](**options).eval().requires_grad_(False)


def patch_features(maps: list[Tensor], level: int) -> Tensor:
    """One map as features of patches, row by row: (B, h w, C)."""
    return maps[level].flatten(2).transpose(1, 2)


def move_network(network: FeatureNetwork, device: torch.device) -> FeatureNetwork:
    """The network on ``device``, where it is a module."""
    return network.to(device) if isinstance(network, nn.Module) else network
