"""Optimizers, the learning-rate schedule and averaged weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from photophone.training.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to the peak, then half a cosine to the final rate at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """One AdamW, or Muon for the matrices of hidden layers and AdamW for the rest.

    Every parameter group keeps ``base_lr`` as a factor of the schedule. Embeddings, biases, norms and convolutions
    are never given to Muon, and only tensors of two or more axes decay.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden: list[nn.Parameter] = []
    if config.optimizer == "muon":
        linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
        hidden = [p for _, p in named if id(p) in linear and min(p.shape) >= 64]
    elif config.optimizer != "adamw":
        raise ValueError(f"optimizer must be 'adamw' or 'muon', got {config.optimizer!r}")
    taken = {id(p) for p in hidden}
    decay = [p for _, p in named if p.ndim >= 2 and id(p) not in taken]
    plain = [p for _, p in named if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizers = [torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)]
    if hidden:
        optimizers.append(torch.optim.Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay,
                                           adjust_lr_fn="match_rms_adamw"))
    return optimizers


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
