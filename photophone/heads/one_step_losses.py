"""What heads of one step are trained with: Lagrangian self-distillation, drift, flow matching.

Papers: LSD (arXiv 2505.18825), drifting models (2602.04770), flow matching (2210.02747).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise

Network = Callable[..., Tensor]  # times (..., 1), then x (..., D), to (..., D)


def flow_matching_errors(network: Network, eps: Tensor, data: Tensor, noise: Noise, sigma: float = 1e-3) -> Tensor:
    """Squared errors (M, mul) of the velocity from noise ``eps`` to ``data``, both (M, mul, D).

    Args:
        sigma: noise that is left at the data.
    """
    t = noise.uniform(*data.shape[:2], 1).to(data)
    x = (1 - (1 - sigma) * t) * eps + t * data
    return (network(t, x) - (data - (1 - sigma) * eps)).square().mean(dim=-1)


class _WithoutWeights(torch.autograd.Function):
    """``function(x)`` whose gradient reaches x and not the weights of the function."""

    @staticmethod
    def forward(context, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The value."""
        with torch.enable_grad():
            inside = x.detach().requires_grad_(True)
            y = function(inside)
        context.inside, context.y = inside, y
        return y.detach()

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of x."""
        (own,) = torch.autograd.grad(context.y, context.inside, gradient)
        return own, None


class SelfDistillation(nn.Module):
    """LSD: the velocity at one time learns the flow, and a jump learns to move as the velocity at its end says.

    Both terms are weighted by a network of their two times that learns how large they are.

    Args:
        width, depth: layers of that network; the last one has one output.
        flow_share: weight of the first term; the second has the rest.
        distill_share: steps of training that compute the second term, whose weight grows accordingly.
        time_mean, time_std: of the logit-normal times.
        classic: no gradient reaches the target of the jump; else none reaches its weights.
    """

    def __init__(self, width: int = 32, depth: int = 3, *, flow_share: float = 0.75, distill_share: float = 0.25,
                 time_mean: float = 0.4, time_std: float = 1.0, classic: bool = False) -> None:
        super().__init__()
        widths = [2, *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:]):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.weighting = nn.Sequential(*layers, nn.Linear(width, 1))
        for layer in self.weighting[::2]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.flow_share = flow_share
        self.distill_share = distill_share
        self.time_mean = time_mean
        self.time_std = time_std
        self.classic = classic
        self._steps = torch.Generator().manual_seed(0)  # one sequence, so that all devices take the same branch

    def forward(self, network: Network, eps: Tensor, data: Tensor, noise: Noise) -> Tensor:
        """Losses (M, mul) of noise ``eps`` and ``data`` (M, mul, D)."""
        loss = self.flow_share * self.weighted(*self.flow_term(network, eps, data, noise), data.shape[-1])
        share = self.distill_share if self.training else 1.0
        if share < 1 and float(torch.rand((), generator=self._steps)) >= share:
            return loss
        term = self.weighted(*self.jump_term(network, eps, data, noise), data.shape[-1])
        return loss + (1 - self.flow_share) / share * term

    def weighted(self, error: Tensor, start: Tensor, end: Tensor, channels: int) -> Tensor:
        """A term (M, mul) weighted as its times (M, mul, 1) say."""
        certainty = self.weighting(torch.cat([start, end], dim=-1)).squeeze(-1)
        return error * certainty.exp() / channels - certainty

    def draw_times(self, noise: Noise, data: Tensor, count: int) -> Tensor:
        """Times (M, mul, count) in 0..1."""
        return torch.sigmoid(noise.normal(*data.shape[:2], count).to(data) * self.time_std + self.time_mean)

    def flow_term(self, network: Network, eps: Tensor, data: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Squared errors (M, mul) of the velocity, and their times twice."""
        t = self.draw_times(noise, data, 1)
        x = t * data + (1 - t) * eps
        return (network(t, t, x) - (data - eps)).square().sum(dim=-1), t, t

    def jump_term(self, network: Network, eps: Tensor, data: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Squared errors (M, mul) of the jumps' motion, and where they start and end."""
        times = self.draw_times(noise, data, 2)
        s, t = times.amin(dim=-1, keepdim=True), times.amax(dim=-1, keepdim=True)
        x = s * data + (1 - s) * eps
        velocity, change = torch.func.jvp(network, (s, t, x),
                                          (torch.zeros_like(s), torch.ones_like(t), torch.zeros_like(x)))
        end = x + (t - s) * velocity
        motion = velocity + (t - s) * change
        if self.classic:
            with torch.no_grad():
                target = network(t, t, end)
        else:
            target = _WithoutWeights.apply(end, lambda y: network(t, t, y))
        return (motion - target).square().sum(dim=-1), s, t


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (M, N, K) of (M, N, D) and (M, K, D)."""
    squares = x.square().sum(-1)[:, :, None] + y.square().sum(-1)[:, None] - 2 * x @ y.transpose(1, 2)
    return squares.clamp(min=1e-8).sqrt()


class Drift(nn.Module):
    """Drifting: generations move towards the data and away from each other.

    Args:
        num_negatives: generations of each token.
        start: temperature of the kernel at the start; it is learned.
    """

    def __init__(self, num_negatives: int = 64, start: float = 10.0) -> None:
        super().__init__()
        self.num_negatives = num_negatives
        self.temperature = nn.Parameter(torch.full((1,), start))

    def forward(self, network: Network, data: Tensor, noise: Noise) -> Tensor:
        """Losses (M,) of data (M, D); that of the temperature is a mean and part of each."""
        count = self.num_negatives
        eps = noise.normal(len(data), count, data.shape[-1]).to(data)
        made = torch.vmap(network, in_dims=1, out_dims=1)(eps)  # (M, count, D)
        others = made.detach()
        spans = torch.cat([distances(others, data[:, None]), distances(others, others)], dim=-1)
        scale = (spans * (count + 1) / count).mean(dim=(-1, -2), keepdim=True).clamp(min=1e-3)
        itself = torch.eye(count, device=data.device) * 100.0  # a generation never attracts or repels itself
        spans = spans / scale + nn.functional.pad(itself, (1, 0))
        unit = scale / data.shape[-1]**0.5
        made = made / unit
        force, mass = self.drift(spans, made.detach(), data[:, None] / unit, others / unit)
        loss = (made - (made.detach() + force)).square().mean(dim=(-1, -2))
        # per token, the generation that puts the most mass on the data tells the temperature
        return loss - mass.amax(dim=-1).mean()

    def drift(self, spans: Tensor, made: Tensor, data: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Where generations (M, N, D) are to move, and log (M, N): the mass that each puts on the data, over chance."""
        logits = -spans / self.temperature.clamp(min=1e-3)
        mass = logits.log_softmax(dim=-1)[..., 0] + math.log(self.num_negatives)
        kernel = (logits.softmax(dim=-1) * logits.softmax(dim=-2)).clamp(min=1e-6).sqrt().detach()
        near, far = kernel[..., :1], kernel[..., 1:]
        pull = near * far.sum(dim=-1, keepdim=True)
        push = far * near.sum(dim=-1, keepdim=True)
        force = pull @ data - push @ others - (pull.sum(-1, keepdim=True) - push.sum(-1, keepdim=True)) * made
        size = force.square().mean((-1, -2), keepdim=True).clamp(min=1e-8).sqrt()
        return force / size.mean(dim=0, keepdim=True), mass
