"""LoRA (arXiv 2106.09685): what is learned of a frozen linear layer is a product of two small matrices.

Our layers join what the authors keep apart: queries, keys and values are one matrix. A LoRA of such a layer has a pair
of matrices for each of the authors' parts, so that it is the LoRA that peft makes of the authors' model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """x (..., C) to ``base(x)`` and what the LoRA adds to it, zero at first: (..., D).

    Args:
        base: the layer; its weights stay.
        parts: for each part that learns, by the authors' name of it: its first row in the layer, and its rows.
        rank: of each product.
        alpha: the products are scaled by ``alpha / rank``.
        dropout: share of the inputs of the products that is left out in training.

    Attributes:
        lora_A: (rank, C) of each part, in the order of ``parts``.
        lora_B: (rows, rank) of each part.
    """

    def __init__(self, base: nn.Linear, parts: Mapping[str, tuple[int, int]], rank: int, alpha: float,
                 dropout: float = 0.0) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.parts, self.scale = dict(parts), alpha / rank
        self.dropout = nn.Dropout(dropout)
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        self.lora_A = nn.ParameterList(torch.empty(rank, base.in_features, **like) for _ in parts)
        self.lora_B = nn.ParameterList(torch.zeros(rows, rank, **like) for _, rows in parts.values())
        for down in self.lora_A:
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        made, x = self.base_layer(x), self.dropout(x)
        for (first, rows), down, up in zip(self.parts.values(), self.lora_A, self.lora_B, strict=True):
            added = F.linear(F.linear(x, down), up) * self.scale
            made = made + F.pad(added, (first, made.shape[-1] - first - rows))
        return made

    def pairs(self) -> dict[str, Tensor]:
        """Both matrices of each part by the names that peft gives them."""
        return {f"{name}.lora_{half}.weight": value.detach() for half, values in (("A", self.lora_A),
                                                                                    ("B", self.lora_B))
                for name, value in zip(self.parts, values, strict=True)}
