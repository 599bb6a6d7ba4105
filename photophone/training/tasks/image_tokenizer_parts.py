"""What is trained beside an image tokenizer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.tokenizers.base import ImageTokenizer
from photophone.tokenizers.softvq.model import alignment_loss
from photophone.training.losses.adversary import Adversary
from photophone.training.losses.feature_networks import FeatureNetwork, move_network, patch_features
from photophone.training.losses.image import contrastive_loss


class Alignment(nn.Module):
    """A projection of tokens into a frozen network's space (REPA, arXiv 2410.06940; on tokens as SoftVQ-VAE has it).

    Args:
        network: the frozen network; it is neither trained nor saved with this module.
        token_dim: channels D of the quantizer's values.
        image_size: pixels per side of the images.
        level: which of the network's maps to align with; its places must be a multiple of the tokens.
        hidden: channels inside the projection.
    """

    def __init__(self, network: FeatureNetwork, token_dim: int, image_size: int, level: int = -1,
                 hidden: int = 256) -> None:
        super().__init__()
        self.frozen, self.level = (network,), level
        width = self.teach(torch.zeros(1, 3, image_size, image_size)).shape[-1]
        self.projection = nn.Sequential(nn.Linear(token_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                                        nn.Linear(hidden, width))

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """Features (B, L, C) of images (B, 3, H, W) in [-1, 1]."""
        return patch_features(move_network(self.frozen[0], images.device)(images), self.level)

    def forward(self, values: Tensor, features: Tensor) -> Tensor:
        """Loss of the quantizer's values (B, N, D) against features (B, L, C)."""
        return alignment_loss(self.projection(values), features)


class TokenizerInTraining(nn.Module):
    """A tokenizer with what is trained beside it: what the loop optimises, saves and averages."""

    def __init__(self, tokenizer: ImageTokenizer, adversary: Adversary | None, alignment: Alignment | None) -> None:
        super().__init__()
        self.tokenizer, self.adversary, self.alignment = tokenizer, adversary, alignment

    def forward(self, images: Tensor, features: Tensor | None = None,
                captions: Tensor | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As the tokenizer's own forward; the metrics hold the losses ``alignment`` and ``contrastive`` too.

        Args:
            features: (B, L, C) of :meth:`Alignment.teach`, or None.
            captions: Long (B, T) of a :class:`photophone.tokenizers.unitok.model.UniTokCLIP`, or None.
        """
        seen: list[Tensor] = []  # a hook, so that every tokenizer can be aligned
        bottleneck = self.tokenizer.bottleneck
        watch = bottleneck.register_forward_hook(lambda module, given, output: seen.append(output.values))
        try:
            made, loss, metrics = self.tokenizer(images)
        finally:
            watch.remove()
        if features is not None:
            metrics = {**metrics, "alignment": self.alignment(seen[-1], features)}
        if captions is not None:
            model = self.tokenizer
            vectors = model.pool(model.from_latent(seen[-1])), model.encode_text(captions)
            pair = (functional.normalize(vector.float(), dim=-1) for vector in vectors)
            scale = model.logit_scale.clamp(0, math.log(100)).exp()
            metrics = {**metrics, "contrastive": contrastive_loss(*pair, scale)}
        return made, loss, metrics


def tokenizer_of(model: nn.Module) -> ImageTokenizer:
    """The tokenizer inside what the loop trains."""
    return getattr(model, "tokenizer", model)
