"""Optimizers, the learning-rate schedule and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from photophone.training.loop.config import TrainConfig

OPTIMIZERS: dict[str, dict[type[nn.Module], int]] = {
    "adamw": {},
    "muon": {nn.Linear: 64},
    "muon_conv": {nn.Linear: 64, nn.Conv1d: 40, nn.Conv2d: 40},
}
"""Layers whose weights Muon takes, and how many rows and columns they have at least; AdamW takes all others."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to the peak, then half a cosine to the final rate at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine


def split_by_rate(model: nn.Module, rates: dict[str, float]) -> list[tuple[float, dict[str, nn.Parameter]]]:
    """Weights that are trained, by the factor of their learning rate: all others first, then those of each prefix.

    Raises:
        ValueError: a prefix that no trained weight begins with, or a factor that is not a number above 0.
    """
    parts = [(1.0, {})] + [(factor, {}) for factor in rates.values()]
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            places = [place for place, prefix in enumerate(rates, 1) if name.startswith(prefix)]
            parts[places[0] if places else 0][1][name] = weight
    for prefix, (factor, weights) in zip(rates, parts[1:]):
        if not weights or not isinstance(factor, int | float) or not factor > 0:
            raise ValueError(f"rates: {prefix!r} must begin the name of a trained weight and have a factor above 0, "
                             f"got {factor!r} for {len(weights)} weights")
    return parts


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """One AdamW; or Muon for the matrices of hidden layers, with "muon_conv" their convolutions too, and AdamW for the
    rest.

    Every parameter group keeps its ``factor`` of the schedule's learning rate. Embeddings, biases, norms and small
    weights are never given to Muon, and only tensors of two or more axes decay.
    """
    if config.optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {config.optimizer!r}")
    orthogonal: set[int] = set()
    for module in model.modules():
        for kind, smallest in OPTIMIZERS[config.optimizer].items():
            if isinstance(module, kind) and min(module.weight.flatten(1).shape) >= smallest:
                orthogonal.add(id(module.weight))
    groups, hidden_groups = [], []
    for factor, weights in split_by_rate(model, config.rates):
        hidden = [p for p in weights.values() if id(p) in orthogonal]
        taken = {id(p) for p in hidden}
        decay = [p for p in weights.values() if p.ndim >= 2 and id(p) not in taken]
        plain = [p for p in weights.values() if p.ndim < 2]
        groups += [{"params": decay, "weight_decay": config.weight_decay, "factor": factor},
                   {"params": plain, "weight_decay": 0.0, "factor": factor}]
        if hidden:
            hidden_groups.append({"params": hidden, "factor": factor})
    optimizers = [torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)]
    if hidden_groups:
        optimizers.append(Muon(hidden_groups, lr=config.learning_rate, weight_decay=config.weight_decay))
    return optimizers


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Put back an optimizer's state; its settings (betas, weight decay and the like) stay those it was built with.

    ``load_state_dict`` alone would bring the old settings back.
    """
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, own in zip(optimizer.param_groups, settings):
        group.update(own)


class Muon(torch.optim.Optimizer):
    """Muon (arXiv 2502.16982): momentum whose singular values are all made about 1: no direction is left behind.

    It computes what torch's does with ``adjust_lr_fn="match_rms_adamw"``, in float32 where bfloat16 is emulated: that
    costs processors without such instructions ten times the time, for a small model most of the training step. And it
    takes convolutions, as matrices of their output channels by all that these read, which torch's refuses.

    Args:
        params: weights of two axes or more, or groups of them.
        lr: learning rate; an update has the root mean square of AdamW's.
        weight_decay: decoupled.
        momentum: of Nesterov's kind.
    """

    def __init__(self, params: Iterable, lr: float, weight_decay: float = 0.1, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                average = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight.grad))
                average.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(average, group["momentum"]).flatten(1)
                dtype = torch.bfloat16 if bfloat16_is_fast(weight.device) else torch.float32
                scale = 0.2 * math.sqrt(max(update.shape))
                update = orthogonalise(update.to(dtype)).reshape(weight.shape)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.to(weight.dtype), alpha=-group["lr"] * scale)
        return loss


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether matrices of bfloat16 are multiplied by instructions of their own."""
    return device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def orthogonalise(matrix: Tensor, coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315), steps: int = 5,
                  eps: float = 1e-7) -> Tensor:
    """About U V^T of a matrix U S V^T, in its dtype: ``steps`` of Newton and Schulz's quintic iteration."""
    a, b, c = coefficients
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


class Ema:
    """Averaged weights: ``average += (1 - decay) * (weight - average)``, with a shorter memory at the start.

    The decay at step k is ``min(decay, (1 + k) / (10 + k))``, so that early previews are not of the initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the weights after optimizer step ``step`` (from 0)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        pairs = [(self.average[name], tensor) for name, tensor in model.state_dict().items()]
        floats = [(a, t) for a, t in pairs if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floats], [t for _, t in floats], weight)
        for average, tensor in pairs:
            if not average.is_floating_point():
                average.copy_(tensor)

    def swap(self, model: nn.Module) -> None:
        """Exchange the model's weights with the averaged ones; call again to swap back."""
        current: dict[str, Tensor] = {name: t.detach().clone() for name, t in model.state_dict().items()}
        model.load_state_dict(self.average)
        self.average = current
