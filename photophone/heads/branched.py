"""Flow head of Ming-UniVision: guidance by text and by images at once (arXiv 2510.06590)."""

from __future__ import annotations

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.heads.base import check_temperature
from photophone.heads.flow import FlowHead
from photophone.heads.mlp import AdaLNMLP
from photophone.layers.flow import euler, time_grid
from photophone.layers.llama_block import GatedFeedForward
from photophone.layers.vit_keys import split_swiglu_keys
from photophone.loading.checkpoints import State, rename_keys

RENORMS = ("none", "channel")


def swiglu_width(dim: int, ratio: float = 4.0) -> int:
    """Hidden width of DINOv2's SwiGLU: two thirds of ``ratio`` times the width, a multiple of 8."""
    return (int(int(ratio * dim) * 2 / 3) + 7) // 8 * 8


class BranchedFlowHead(FlowHead):
    """Flow matching of a token under one to three conditions: all, none, and all but the text.

    Args:
        in_dim, token_dim, width, depth: see :class:`photophone.heads.flow.FlowHead`.
        mlp_ratio: hidden width of the network's SwiGLU over its width, before it is made smaller.
    """

    def __init__(self, in_dim: int, token_dim: int, width: int = 3072, depth: int = 12, mlp_ratio: float = 4.0) -> None:
        def feed_forward() -> GatedFeedForward:
            return GatedFeedForward(width, swiglu_width(width, mlp_ratio), bias=True)

        super().__init__(in_dim, token_dim, network=AdaLNMLP(token_dim, in_dim, width, depth, time_scale=1000.0,
                                                             make_mlp=feed_forward))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys, without their prefix, to ours. The official network predicts data minus noise, the negative
        of the velocity here."""
        state = rename_keys(split_swiglu_keys(state), [(r"(\bres_blocks\.\d+\.)feed_forward\.", r"\1mlp.")])
        return {key: -value if key.startswith("net.final_layer.linear.") else value for key, value in state.items()}

    @torch.no_grad()
    def sample_branches(self, hidden: Tensor, branches: int, *, text_guidance: float = 3.0,
                        image_guidance: float = 1.1, temperature: float = 1.0, noise: Noise, num_steps: int = 16,
                        time_shift: float = 1.0, renorm: str = "none") -> Tensor:
        """Tokens float32 (B, N, D).

        Args:
            hidden: (branches * B, N, C): with all conditions; then, for 2 and 3, with none; then, for 3, without text.
            branches: 1, 2 or 3.
            text_guidance: 1 is none.
            image_guidance: of what images add to nothing; for 3 branches.
            temperature: scales the initial noise.
            num_steps, time_shift: see :func:`photophone.layers.flow.time_grid`.
            renorm: "channel" keeps the guided velocity of a token from being longer than that of all conditions.

        Raises:
            ValueError: rows that are no multiple of the branches, or settings that there are not.
        """
        check_temperature(temperature)
        if branches not in (1, 2, 3) or len(hidden) % branches:
            raise ValueError(f"branches must be 1, 2 or 3 and divide the rows, got {branches} and {len(hidden)} rows")
        if renorm not in RENORMS:
            raise ValueError(f"renorm must be one of {', '.join(RENORMS)}, got {renorm!r}")
        projected, rows = self.project(hidden), len(hidden) // branches

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            now = t.to(x).reshape(1)
            made = self.mean_velocity(projected, x.repeat(branches, 1, 1), now, now).chunk(branches)
            guided = combine_branches(made, text_guidance, image_guidance)
            if renorm == "channel" and branches > 1:
                guided = guided * (made[0].norm(dim=-1, keepdim=True) /
                                   guided.norm(dim=-1, keepdim=True) + 1e-8).clamp(0, 1)
            return guided

        start = temperature * noise.normal(rows, hidden.shape[1], self.token_dim)
        return euler(velocity, start, time_grid(num_steps, time_shift, torch.float32))


def combine_branches(made: tuple[Tensor, ...], text_guidance: float, image_guidance: float) -> Tensor:
    """The guided velocity of those with all conditions, with none, and without text; the last ones may be missing."""
    if len(made) == 1:
        return made[0]
    if len(made) == 2:
        return made[1] + text_guidance * (made[0] - made[1])
    full, none, images = made
    return none + image_guidance * (images - none) + text_guidance * (full - images)
