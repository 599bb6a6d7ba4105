"""BitDance's binary diffusion head: the signs of a token, or of a block of tokens, by flow matching.

Paper: arXiv 2602.14041. Official code: shallowdream204/BitDance, Apache-2.0. The network predicts the data; as in all
of this package, time runs from data at 0 to noise at 1, and the official time is one minus it.
"""

from __future__ import annotations

import re
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.heads.base import ConditionedNetwork, Head, check_temperature, check_tokens, split_guidance
from photophone.kernels.adaln import gate_residual
from photophone.kernels.solver import Guidance, combine_guidance
from photophone.layers.adaln import Modulation, modulated_block, modulated_norm
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.lengths import masked_mean
from photophone.layers.llama_block import GatedFeedForward
from photophone.layers.self_attention import SelfAttention
from photophone.loading.checkpoints import State, rename_keys

LEAST_NOISE = 0.05
"""Where sampling leaves the stochastic process, and the least share of noise that errors are divided by."""
HIDDEN_RATIO = 1.5
EPS = 1e-6
KEYS = [(r"\battn\.wqkv\.", "attention.to_qkv."), (r"\battn\.wo\.", "attention.to_out."),
        (r"(\bres_blocks\.\d+\.)norm\.", r"\1norm2."), (r"(\bres_blocks\.\d+\.)w2\.", r"\1feed_forward.out."),
        (r"(\bres_blocks\.\d+\.)mlp\.", r"\1feed_forward."), (r"\bada_ln_blocks\.", "modulations."),
        (r"\bfinal_layer\.ada_ln_modulation\.", "final_modulation."), (r"\bfinal_layer\.linear\.", "out."),
        (r"\bres_blocks\.", "blocks.")]
GATED = re.compile(r"(.*\bres_blocks\.\d+\.|.*\blayers\.\d+\.feed_forward\.|.*\bproj_in\.)w1\.(weight|bias)")


def split_gates(state: State) -> State:
    """The first layers of gated feed-forwards as two, gate and value; the rest stays."""
    split: State = {}
    for key, value in state.items():
        if match := GATED.fullmatch(key):
            inside = "feed_forward." if "res_blocks" in match[1] else ""
            for name, half in zip(("gate", "value"), value.chunk(2), strict=True):
                split[f"{match[1]}{inside}{name}.{match[2]}"] = half
        else:
            split[key] = value
    return split


def convert_head_keys(state: State) -> State:
    """Official keys of a head, under any prefix, to those of :class:`BitNetwork`."""
    return rename_keys(split_gates(state), KEYS)


class BitBlock(nn.Module):
    """A modulated feed-forward with a residual; with heads, attention over the tokens of a block comes before it.

    Args:
        width: channels W.
        num_heads: of the attention; 0: none.
        gated: SwiGLU instead of Linear, SiLU, Linear.
    """

    def __init__(self, width: int, num_heads: int, gated: bool) -> None:
        super().__init__()
        hidden = int(HIDDEN_RATIO * width)
        self.norm1 = nn.LayerNorm(width, eps=EPS) if num_heads else None
        self.attention = SelfAttention(width, num_heads) if num_heads else None
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.feed_forward = GatedFeedForward(width, hidden, bias=True) if gated else \
            nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x (B, N, W) to the same; modulation (B, 1 or N, 6 W), or (B, 1 or N, 3 W) without attention."""
        if self.attention is None:
            scale, shift, gate = modulation.chunk(3, dim=-1)
            return gate_residual(x, gate, self.feed_forward(modulated_norm(self.norm2, x, shift, scale)))
        scale1, shift1, gate1, scale2, shift2, gate2 = modulation.chunk(6, dim=-1)
        six = Modulation(shift1=shift1, scale1=scale1, gate1=gate1, shift2=shift2, scale2=scale2, gate2=gate2)
        return modulated_block(x, six, self.norm1, self.attention, self.norm2, self.feed_forward)


class BitNetwork(ConditionedNetwork):
    """Noisy bits, time and hidden states to the bits.

    Args:
        token_dim: channels D of x.
        cond_dim: channels C of the condition.
        width, depth: of the blocks.
        modulations: layers that turn time and condition into modulations; neighbouring blocks share one.
        num_heads: of attention over the tokens of x; 0: tokens do not see each other.
        gated: see :class:`BitBlock`.
        bounded: outputs lie in (-1, 1).

    Raises:
        ValueError: more modulations than blocks.
    """

    def __init__(self, token_dim: int, cond_dim: int, width: int, depth: int, modulations: int, *,
                 num_heads: int = 0, gated: bool = True, bounded: bool = False) -> None:
        super().__init__()
        if not 1 <= modulations <= depth:
            raise ValueError(f"{depth} blocks share 1..{depth} modulations, got {modulations}")
        self.bounded = bounded
        self.share = max(1, depth // modulations)
        self.input_proj = nn.Linear(token_dim, width)
        self.time_embed = TimestepEmbedding(width, time_scale=1000.0)
        self.cond_embed = nn.Linear(cond_dim, width)
        self.blocks = nn.ModuleList(BitBlock(width, num_heads, gated) for _ in range(depth))
        self.modulations = nn.ModuleList(nn.Linear(width, (6 if num_heads else 3) * width)
                                         for _ in range(-(-depth // self.share)))
        self.norm_out = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.final_modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, token_dim)
        for layer in (*self.modulations, self.final_modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def project(self, condition: Tensor) -> Tensor:
        """``(B, N, C)`` to ``(B, N, W)``."""
        return self.cond_embed(condition)

    def denoise(self, x: Tensor, t: Tensor, projected: Tensor, ends: Tensor | None = None) -> Tensor:
        """x ``(B, N, D)`` at official times t ``(1,)``, ``(B,)`` or ``(B, N)`` to the bits ``(B, N, D)``."""
        time = self.embed_times(t, ends)
        time = time.reshape(*t.shape, *[1] * (x.ndim - 1 - t.ndim), time.shape[-1])  # (B, W) -> (B, 1, W)
        condition = F.silu(time + projected)
        x, six = self.input_proj(x), None
        for index, block in enumerate(self.blocks):
            if index % self.share == 0:
                six = self.modulations[index // self.share](condition)
            x = block(x, six)
        scale, shift = self.final_modulation(condition).chunk(2, dim=-1)
        out = self.out(modulated_norm(self.norm_out, x, shift, scale))
        return 2 * torch.sigmoid(out) - 1 if self.bounded else out


class BinaryDiffusionHead(Head):
    """Hidden states to tokens of signs, +1 or -1.

    Args:
        in_dim: channels C of the hidden states.
        token_dim: channels D of a token.
        block: tokens that are made together and see each other; they share one time in training.
        width, depth, modulations, num_heads, gated, bounded: see :class:`BitNetwork`; heads count with ``block`` above
            1 only.
        time_distribution: of the times in training, "logit_normal" (with ``time_mean``, ``time_std``) or "uniform".
        time_shift: above 1 moves training and sampling towards noise.
        batch_mul: times and noises drawn for each token in a training step.
    """

    def __init__(self, in_dim: int, token_dim: int, *, block: int = 1, width: int = 768, depth: int = 6,
                 modulations: int = 2, num_heads: int = 0, gated: bool = True, bounded: bool = False,
                 time_distribution: str = "logit_normal", time_mean: float = -0.8, time_std: float = 0.8,
                 time_shift: float = 1.0, batch_mul: int = 4) -> None:
        super().__init__()
        if time_distribution not in ("logit_normal", "uniform"):
            raise ValueError(f"time_distribution must be 'logit_normal' or 'uniform', got {time_distribution!r}")
        self.token_dim, self.block, self.batch_mul = token_dim, block, batch_mul
        self.time_distribution, self.time_mean, self.time_std = time_distribution, time_mean, time_std
        self.time_shift = time_shift
        self.net = BitNetwork(token_dim, in_dim, width, depth, modulations, gated=gated, bounded=bounded,
                              num_heads=num_heads if block > 1 else 0)

    def times(self, noise: Noise, *shape: int) -> Tensor:
        """Official times in (0, 1) of a training step, shifted."""
        if self.time_distribution == "uniform":
            t = noise.uniform(*shape)
        else:
            t = torch.sigmoid(noise.normal(*shape) * self.time_std + self.time_mean)
        return shifted(t, self.time_shift)

    def errors(self, hidden: Tensor, target: Tensor, noise: Noise) -> Tensor:
        """Weighted squared error of each token, ``(mul, B, N)``: hidden ``(B, N, C)``, target ``(B, N, D)``."""
        check_tokens(hidden, target, self.token_dim)
        rows, length = hidden.shape[:2]
        t = self.times(noise, rows, self.batch_mul, length // self.block)[..., None, None]  # of each block
        eps = noise.normal(rows, self.batch_mul, length // self.block, self.block, self.token_dim)
        data = target.float().unflatten(1, (-1, self.block))[:, None].expand_as(eps)
        x = (1 - t) * eps + t * data
        projected = self.net.project(hidden).unflatten(1, (-1, self.block))[:, None]
        projected = projected.expand(-1, self.batch_mul, -1, -1, -1)
        made = self._predict(x.flatten(0, 2), t.flatten(), projected.flatten(0, 2)).view_as(eps)
        return ((data - made) / (1 - t).clamp(min=LEAST_NOISE)).square().mean(dim=-1).flatten(2).transpose(0, 1)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *,
             noise: Noise | None = None) -> Tensor:
        errors = self.errors(hidden, target, noise or GlobalNoise(hidden.device))
        return masked_mean(errors.flatten(0, 1), None if mask is None else mask.repeat(self.batch_mul, 1))

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               num_steps: int = 50) -> Tensor:
        """Signs float32 ``(B, N, D)`` of blocks of N tokens. See :meth:`Head.sample`.

        Args:
            temperature: scales all noise.
            num_steps: stochastic solver steps; one deterministic step follows them.
        """
        return torch.sign(self.solve(hidden, guidance=guidance, temperature=temperature, noise=noise,
                                     num_steps=num_steps))

    @torch.no_grad()
    def solve(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
              num_steps: int = 50) -> Tensor:
        """What :meth:`sample` takes the signs of."""
        check_temperature(temperature)
        cond = split_guidance(hidden, guidance)[0]
        shape = (*cond.shape[:2], self.token_dim)
        projected = self.net.project(hidden)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            both = x.repeat(len(hidden) // len(x), 1, 1)
            slope = (self._predict(both, t.reshape(1), projected) - both) / (1 - t).clamp(min=LEAST_NOISE)
            return combine_guidance(*split_guidance(slope, guidance), guidance)

        grid = shifted(torch.linspace(0, 1 - LEAST_NOISE, num_steps + 1), self.time_shift).to(hidden.device)
        x, t = temperature * noise.normal(*shape), torch.zeros((), device=hidden.device)
        for now, after in pairwise(grid):  # t adds the steps up, in float32, as the official sampler
            step, slope = after - now, velocity(x, t)
            score = (t * slope - x) / (1 - t)
            spread = torch.sqrt(2 * (1 - t) * step) * temperature
            x = x + (slope + (1 - t) * score) * step + spread * noise.normal(*shape)
            t = t + step
        return x + LEAST_NOISE * velocity(x, torch.full_like(t, 1 - LEAST_NOISE))

    def _predict(self, x: Tensor, t: Tensor, projected: Tensor) -> Tensor:
        """The bits in float32, whatever the weights are."""
        return self.net.denoise(x.to(self.net.input_proj.weight.dtype), t, projected).float()


def shifted(t: Tensor, shift: float) -> Tensor:
    """Official times (data at 1) moved towards noise by ``shift``; 1 leaves them."""
    return t if shift == 1 else (1 / shift) / ((1 / shift) + 1 / t - 1)
