"""Discriminators of images, and the augmentation that keeps them from learning the training set by heart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from photophone.core.noise import GlobalNoise
from photophone.training.losses.adversary import Discriminator
from photophone.training.losses.feature_networks import FeatureNetwork, build_feature_network, move_network

SLOPE = 0.2


class PatchDiscriminator(Discriminator):
    """PatchGAN (arXiv 1611.07004): convolutions that judge overlapping patches, as VQGAN, LlamaGen and TiTok use it.

    Normalised in groups: batch statistics, which the first ones had, would mix real and made images.

    Args:
        width: channels of the first layer.
        layers: strided layers; each halves the size and doubles the channels up to eight times the width.
    """

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [width * min(2**index, 8) for index in range(layers + 1)]
        self.first = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 4, stride=2 if index < layers - 1 else 1, padding=1, bias=False),
                          nn.GroupNorm(min(32, after), after), nn.LeakyReLU(SLOPE))
            for index, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True)))
        self.score = nn.Conv2d(widths[-1], 1, 4, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, media: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to features and scores (B, 1, h, w)."""
        x = functional.leaky_relu(self.first(media), SLOPE)
        features = [x]
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return [*features, self.score(x)]


BLURS = {3: (1.0, 2.0, 1.0), 4: (1.0, 3.0, 3.0, 1.0), 5: (1.0, 4.0, 6.0, 4.0, 1.0)}
"""Filters by their taps: rows of Pascal's triangle."""


class BlurredDownsample(nn.Module):
    """Every second pixel of a blurred image (B, C, H, W), as StyleGAN's discriminators shrink (arXiv 1904.11486)."""

    def __init__(self, taps: int) -> None:
        super().__init__()
        line = torch.tensor(BLURS[taps])
        kernel = line[:, None] * line
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) to (B, C, ceil(H / 2), ceil(W / 2)) with four taps; zeros lie around the image."""
        height, width = (2 + size % 2 for size in x.shape[2:])  # padding of four taps, whatever their number is
        x = functional.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        return functional.conv2d(x, kernel, stride=2, groups=x.shape[1])


class BlurDiscriminator(Discriminator):
    """The discriminator of TA-TiTok (arXiv 2501.07730, after MaskBit's, 2409.16211): scores on a grid of 16x16.

    Args:
        width: channels of the first layer; each stage but the first doubles them.
        stages: halvings of the size.
        blur: taps of the filter in front of each halving, a key of BLURS; None: plain averages of four pixels.
        grid: side of the grid of scores.

    Raises:
        ValueError: no stages, or taps that are not known.
    """

    SLOPE = 0.1

    def __init__(self, width: int = 128, stages: int = 3, blur: int | None = 4, grid: int = 16) -> None:
        super().__init__()
        if stages < 1 or (blur is not None and blur not in BLURS):
            raise ValueError(f"need at least one stage, and blur None or one of {list(BLURS)}; got {stages} and {blur}")
        widths = [width, *(width * 2**stage for stage in range(stages))]
        self.first = nn.Conv2d(3, width, 5, padding=2)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1),
                          nn.AvgPool2d(2) if blur is None else BlurredDownsample(blur),
                          nn.GroupNorm(32, after), nn.LeakyReLU(self.SLOPE))
            for before, after in zip(widths[:-1], widths[1:], strict=True))
        self.pool = nn.AdaptiveMaxPool2d((grid, grid))
        self.last = nn.Conv2d(widths[-1], widths[-1], 1)
        self.score = nn.Conv2d(widths[-1], 1, 5, padding=2)

    def forward(self, media: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] to features and scores (B, 1, grid, grid)."""
        x = functional.leaky_relu(self.first((media + 1) / 2), self.SLOPE)  # the network reads [0, 1]
        features = [x]
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return [*features, self.score(functional.leaky_relu(self.last(self.pool(x)), self.SLOPE))]


class FeatureDiscriminator(Discriminator):
    """Small heads on the maps of a frozen network (StyleGAN-T, arXiv 2301.09515): SoftVQ and UniTok put them on DINO.

    Args:
        network: the frozen network; its weights are neither trained nor saved with the discriminator.
        image_size: pixels per side, from which the widths of the maps are found.
        width: channels of a head.
        kernel: size of a head's inner convolution, odd.
    """

    def __init__(self, network: FeatureNetwork, image_size: int, width: int = 64, kernel: int = 3) -> None:
        super().__init__()
        self.frozen = (network,)  # in a tuple, so that it is no part of this module
        with torch.no_grad():
            channels = [features.shape[1] for features in network(torch.zeros(1, 3, image_size, image_size))]
        self.inputs = nn.ModuleList(spectral_norm(nn.Conv2d(count, width, 1)) for count in channels)
        self.inner = nn.ModuleList(spectral_norm(nn.Conv2d(width, width, kernel, padding=kernel // 2))
                                   for _ in channels)
        self.scores = nn.ModuleList(spectral_norm(nn.Conv2d(width, 1, 1)) for _ in channels)
        self.norms = nn.ModuleList(nn.GroupNorm(min(32, width), width) for _ in channels)

    def forward(self, media: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) to the heads' features and all scores (B, 1, L)."""
        features, scores = [], []
        maps = move_network(self.frozen[0], media.device)(media)
        heads = zip(self.inputs, self.inner, self.norms, self.scores)
        for given, (first, inner, norm, score) in zip(maps, heads, strict=True):
            unit = functional.normalize(given, dim=1) * given.shape[1] ** 0.5  # networks differ in scale
            x = functional.leaky_relu(first(unit), SLOPE)
            x = (x + functional.leaky_relu(norm(inner(x)), SLOPE)) / 2**0.5
            features.append(x)
            scores.append(score(x).flatten(2))  # (B, 1, h w)
        return [*features, torch.cat(scores, dim=2)]


def augment(images: Tensor) -> Tensor:
    """DiffAugment (arXiv 2006.10738) on images (B, 3, H, W) in [-1, 1]: colour, shift and a hole, with gradients.

    Each row draws brightness, saturation and contrast, a shift of up to an eighth to all sides with zeros behind, and a
    hole of half the size.
    """
    noise, (rows, _, height, width) = GlobalNoise(images.device), images.shape
    brightness, saturation, contrast = noise.uniform(rows, 3, 1, 1, 1).unbind(1)  # (B, 1, 1, 1) each
    x = images + brightness - 0.5
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * 2 * saturation
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (contrast + 0.5)
    most = torch.tensor([height // 8, width // 8], device=images.device)
    shift = (noise.uniform(rows, 2) * (2 * most + 1)).long() - most  # (B, 2) in pixels
    down, right = (torch.arange(size, device=images.device) + shift[:, axis, None]  # (B, H) and (B, W): source places
                   for axis, size in enumerate((height, width)))
    inside = ((down >= 0) & (down < height))[:, None, :, None] & ((right >= 0) & (right < width))[:, None, None, :]
    row = torch.arange(rows, device=images.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[row, down.clamp(0, height - 1)[:, :, None], right.clamp(0, width - 1)[:, None, :]]
    x = moved.permute(0, 3, 1, 2) * inside
    corner = (noise.uniform(rows, 2) * torch.tensor([height + 1, width + 1], device=images.device)).long()
    holes = []
    for axis, size in enumerate((height, width)):
        place, first = torch.arange(size, device=images.device), corner[:, axis, None] - size // 4
        holes.append((place >= first) & (place < first + size // 2))
    kept = ~(holes[0][:, None, :, None] & holes[1][:, None, None, :])
    return x * kept


def build_discriminator(settings: dict, image_size: int) -> Discriminator:
    """A discriminator from its ``kind``, "patch", "blur" or "features", and its arguments; "features" takes a
    ``network`` of :func:`photophone.training.losses.feature_networks.build_feature_network`.

    Raises:
        ValueError: an unknown kind.
    """
    options = dict(settings)
    kind = options.pop("kind", "patch")
    if kind == "patch":
        return PatchDiscriminator(**options)
    if kind == "blur":
        return BlurDiscriminator(**options)
    if kind == "features":
        network = build_feature_network(options.pop("network", "efficientnet_lite0"))
        return FeatureDiscriminator(network, image_size, **options)
    raise ValueError(f"a discriminator's kind must be 'patch', 'blur' or 'features', got {kind!r}")
