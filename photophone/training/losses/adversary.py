"""Discriminators, and the trick that lets one optimizer step train both sides.

The discriminators see reconstructions without gradient for their own loss; for the loss of the codec they are called
with fixed weights. Both losses have then separate gradients and add up to one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from photophone.training.losses.audio import stft


class Discriminator(nn.Module, ABC):
    """A network whose features and scores tell real from made."""

    @abstractmethod
    def forward(self, media: Tensor) -> list[Tensor]:
        """Features of each layer, the scores last."""


class SpectralDiscriminator(Discriminator):
    """Convolutions over the frames of a complex spectrum, a slim relative of the multi-resolution discriminator of
    UnivNet (arXiv 2106.07889): frequency bins are channels, which costs little on a CPU.

    Args:
        window: samples; the hop is a quarter.
        width: channels.
        power: magnitudes are compressed to this power.
    """

    def __init__(self, window: int, width: int = 128, power: float = 0.3) -> None:
        super().__init__()
        self.power = power
        self.register_buffer("hann", torch.hann_window(window), persistent=False)
        sizes = [window + 2, width, width, width, width]
        kernels = [3, 5, 5, 5]
        self.layers = nn.ModuleList(weight_norm(nn.Conv1d(a, b, k, padding=k // 2))
                                    for a, b, k in zip(sizes[:-1], sizes[1:], kernels, strict=True))
        self.score = weight_norm(nn.Conv1d(width, 1, 3, padding=1))

    def forward(self, media: Tensor) -> list[Tensor]:
        """Audio (B, 1, T) to features (B, width, F) and scores (B, 1, F)."""
        spectrum = stft(media, self.hann, len(self.hann) // 4)
        x = torch.view_as_real(spectrum)  # (B, bins, F, 2)
        x = x * (x.square().sum(-1, keepdim=True) + 1e-6) ** ((self.power - 1) / 2)
        x = x.permute(0, 3, 1, 2).flatten(1, 2)  # (B, 2 * bins, F)
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.1)
            features.append(x)
        return [*features, self.score(x)]


class Adversary(nn.Module):
    """Several discriminators with hinge losses (arXiv 1705.02894) and feature matching (1910.06711).

    Args:
        discriminators: they share the media and count alike.
        lecam: weight of LeCam (arXiv 2104.03310), which holds scores near the running mean of the other side; for
            little data.
        lecam_of_means: LeCam of the mean scores of a batch (TA-TiTok), not of each score.
        consistency: weight of balanced consistency (arXiv 2002.04724): scores of media with and without ``augment``
            must agree. Needs ``augment``.
        augment: what all judged media go through first, with gradients and draws of its own.

    Raises:
        ValueError: consistency without augmentation.
    """

    MEMORY = 0.999
    """Decay of LeCam's running means."""

    def __init__(self, discriminators: list[Discriminator], *, lecam: float = 0.0, lecam_of_means: bool = False,
                 consistency: float = 0.0, augment: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        if consistency and augment is None:
            raise ValueError(f"consistency={consistency} compares media with and without augmentation; give augment")
        self.discriminators = nn.ModuleList(discriminators)
        self.lecam, self.consistency, self.augment = lecam, consistency, augment
        self.lecam_of_means = lecam_of_means
        if lecam:
            self.register_buffer("running_scores", torch.zeros(len(discriminators), 2))  # of real and made media

    def forward(self, made: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Losses, means over the discriminators.

        Args:
            made, real: media of the same shape.

        Returns:
            ``discriminator`` trains only the discriminators; ``adversarial`` and ``features`` train only what made
            ``made``.
        """
        view = self.augment or (lambda media: media)
        seen_real, seen_made = view(real), view(made.detach())
        own, adversarial, matching = [], [], []
        for index, network in enumerate(self.discriminators):
            real_features = network(seen_real)
            scores = real_features[-1], network(seen_made)[-1]
            loss = functional.relu(1 - scores[0]).mean() + functional.relu(1 + scores[1]).mean()
            if self.lecam:
                loss = loss + self.lecam * self._lecam_term(index, *scores)
            if self.consistency:
                plain = network(real)[-1], network(made.detach())[-1]
                loss = loss + self.consistency * sum((a - b).square().mean() for a, b in zip(scores, plain))
            own.append(loss)
            fixed = {name: weight.detach() for name, weight in network.named_parameters()}
            *features, judged = functional_call(network, fixed, (view(made),))
            adversarial.append(-judged.mean())
            matching.append(sum((f - r.detach()).abs().mean() / (r.detach().abs().mean() + 1e-4)
                                for f, r in zip(features, real_features[:-1])) / len(features))
        return {"discriminator": torch.stack(own).mean(), "adversarial": torch.stack(adversarial).mean(),
                "features": torch.stack(matching).mean()}

    def _lecam_term(self, index: int, real: Tensor, made: Tensor) -> Tensor:
        means = self.running_scores[index].clone()
        if self.lecam_of_means:
            real, made = real.mean(), made.mean()
        if self.training:
            new = torch.stack([real.detach().mean(), made.detach().mean()])
            self.running_scores[index] = torch.lerp(new, means, self.MEMORY)
        return functional.relu(real - means[1]).square().mean() + functional.relu(means[0] - made).square().mean()
