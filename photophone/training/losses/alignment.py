"""Alignment of tokens with a frozen network's features (REPA, arXiv 2410.06940), as SoftVQ-VAE (2412.10958) has it.

Latent tokens lie on no grid, so a teacher's patches have to be brought together with them; there are four ways.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.noise import GlobalNoise, Noise
from photophone.training.losses.feature_networks import FeatureNetwork, move_network, patch_features

ALIGNMENTS = ("repeat", "avg_1d", "avg_1d_shuffle", "global")
"""The official names: "repeat": each token stands for as many patches that follow each other; "avg_1d": patches are
averaged, in their order, to as many as there are tokens; "avg_1d_shuffle": the same after one shuffle of the patches,
which all rows share; "global": the mean of the tokens and the mean of the patches. The published models were trained
with the first."""


def alignment_loss(values: Tensor, features: Tensor, projection: Callable[[Tensor], Tensor], align: str = "repeat",
                   noise: Noise | None = None) -> Tensor:
    """Negative mean cosine of what the tokens say and a teacher's features, a scalar.

    Args:
        values: (B, N, D) of the tokens.
        features: (B, L, C) of the teacher's patches.
        projection: (..., D) to (..., C).
        align: one of ALIGNMENTS.
        noise: of the shuffle; torch's global state when None.

    Raises:
        ValueError: an unknown way, or patches that do not split among the tokens with "repeat".
    """
    count, places = values.shape[1], features.shape[1]
    if align == "repeat":
        if places % count:
            raise ValueError(f"align 'repeat': {places} patches do not split among {count} tokens; use 'avg_1d'")
        made = projection(values).repeat_interleave(places // count, dim=1)
    elif align in ("avg_1d", "avg_1d_shuffle"):
        if align == "avg_1d_shuffle":
            features = features[:, (noise or GlobalNoise(features.device)).permutation(1, places)[0]]
        features = functional.adaptive_avg_pool1d(features.transpose(1, 2), count).transpose(1, 2)
        made = projection(values)
    elif align == "global":
        made, features = projection(values.mean(dim=1)), features.mean(dim=1)
    else:
        raise ValueError(f"align must be one of {', '.join(ALIGNMENTS)}, got {align!r}")
    return -functional.cosine_similarity(made, features, dim=-1, eps=1e-12).mean()


class Alignment(nn.Module):
    """A projection of tokens into a frozen network's space, and its loss.

    Args:
        network: the frozen network; it is neither trained nor saved with this module.
        token_dim: channels D of the quantizer's values.
        image_size: pixels per side of the images.
        level: which of the network's maps to align with.
        hidden: channels inside the projection.
        align: see ALIGNMENTS; with "repeat" the places of the map must be a multiple of the tokens.

    Raises:
        ValueError: an unknown way.
    """

    def __init__(self, network: FeatureNetwork, token_dim: int, image_size: int, level: int = -1,
                 hidden: int = 256, align: str = "repeat") -> None:
        super().__init__()
        if align not in ALIGNMENTS:
            raise ValueError(f"align must be one of {', '.join(ALIGNMENTS)}, got {align!r}")
        self.frozen, self.level, self.align = (network,), level, align
        width = self.teach(torch.zeros(1, 3, image_size, image_size)).shape[-1]
        self.projection = nn.Sequential(nn.Linear(token_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                                        nn.Linear(hidden, width))

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """Features (B, L, C) of images (B, 3, H, W) in [-1, 1]."""
        return patch_features(move_network(self.frozen[0], images.device)(images), self.level)

    def forward(self, values: Tensor, features: Tensor) -> Tensor:
        """The loss of values (B, N, D) and features (B, L, C)."""
        return alignment_loss(values, features, self.projection, self.align)
