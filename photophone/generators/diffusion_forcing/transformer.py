"""Diffusion Forcing's network for frames that are vectors: a transformer with norms behind its residuals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.layers.embeddings import sinusoidal_embedding
from photophone.layers.transformer import TransformerBlock
from photophone.layers.vit_keys import convert_vit_keys
from photophone.loading.checkpoints import State, rename_keys


class FrameTransformer(nn.Module):
    """Noisy frames (B, T, D) with their levels to outputs (B, T, D).

    Args:
        frame_dim: D.
        condition_dim: channels of conditions.
        width, depth, num_heads, hidden: of the transformer.
    """

    def __init__(self, frame_dim: int, condition_dim: int = 0, width: int = 128, depth: int = 12, num_heads: int = 4,
                 hidden: int = 512) -> None:
        super().__init__()
        self.width = width
        self.frame_in = nn.Sequential(nn.Linear(frame_dim + width // 2 + condition_dim, width), nn.ReLU(),
                                      nn.Linear(width, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, hidden / width, post_norm=True,
                                                     feed_forward=_relu) for _ in range(depth))
        self.out = nn.Linear(width, frame_dim)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [(r"\bself_attn\.", "attn."), (r"\blinear1\.", "feed_forward.0."),
                                    (r"\blinear2\.", "feed_forward.2.")])
        return rename_keys(convert_vit_keys(state), [(r"^init_mlp\.", "frame_in."),
                                                     (r"^transformer\.layers\.", "blocks.")])

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None, causal: bool = True) -> Tensor:
        """x (B, T, D), level Long (B, T), condition (B, T, condition_dim) to (B, T, D)."""
        parts = [x, sinusoidal_embedding(level, self.width // 2, sine_first=True).to(x.dtype)]
        x = self.frame_in(torch.cat(parts if condition is None else [*parts, condition], dim=-1))
        places = torch.arange(x.shape[1], device=x.device)
        x = x + sinusoidal_embedding(places, self.width, sine_first=True).to(x.dtype)
        mask = places[:, None] >= places if causal else None
        for block in self.blocks:
            x = block(x, mask)
        return self.out(x)


def _relu(dim: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
