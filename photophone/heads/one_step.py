"""Heads that make a continuous token in one step, or in few.

Papers: CALM (arXiv 2509.06926); Lagrangian self-distillation (LSD, 2505.18825); drifting models (2602.04770). Official
code: kyutai-labs/pocket-tts, MIT.

Times run from the noise at 0 to the token at 1, against those of :class:`photophone.heads.flow.FlowHead`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.noise import GlobalNoise, Noise
from photophone.heads.base import Head, check_temperature, check_tokens, split_guidance
from photophone.heads.one_step_losses import Drift, SelfDistillation, flow_matching_errors
from photophone.kernels.solver import Guidance, combine_guidance
from photophone.layers.embeddings import sinusoidal_embedding
from photophone.layers.lengths import masked_mean

TIMES = {"lsd": 2, "flow_matching": 1, "drifting": 0, "pointwise": 0}
"""Kinds of heads, and how many times each is told."""


def layer_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Layer normalisation without weights, whose derivatives of both kinds at once torch's own gets wrong."""
    variance = x.var(dim=-1, unbiased=False, keepdim=True)
    return (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(variance + eps)


class AffineNorm(nn.Module):
    """:func:`layer_norm` with weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) to the same."""
        return layer_norm(x) * self.weight + self.bias


class SpreadNorm(nn.Module):
    """x over its standard deviation, the unbiased one; the mean stays: neither a layer norm nor an RMS norm.

    Args:
        width: of x.
        rms: an RMS norm instead, as Phonon has it.
    """

    def __init__(self, width: int, rms: bool = False) -> None:
        super().__init__()
        self.rms = rms
        self.alpha = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) to the same."""
        spread = x.square().mean(dim=-1, keepdim=True) if self.rms else x.var(dim=-1, keepdim=True)
        return x * (self.alpha * torch.rsqrt(spread + 1e-5))


class TimeEmbedding(nn.Module):
    """Times (..., 1) in 0..1 to (..., width): waves, two layers, :class:`SpreadNorm`."""

    def __init__(self, width: int, frequency_dim: int = 256, rms: bool = False) -> None:
        super().__init__()
        self.frequency_dim = frequency_dim
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, width), nn.SiLU(), nn.Linear(width, width),
                                 SpreadNorm(width, rms))
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, t: Tensor) -> Tensor:
        """t (..., 1) to (..., width)."""
        return self.mlp(sinusoidal_embedding(t[..., 0], self.frequency_dim).to(self.mlp[0].weight.dtype))


class ModulatedBlock(nn.Module):
    """``x + gate * mlp(norm(x) * (1 + scale) + shift)``, all three from a condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = AffineNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x and condition (..., width) to the same."""
        shift, scale, gate = self.adaLN_modulation(condition).chunk(3, dim=-1)
        return x + gate * self.mlp(self.in_ln(x) * (1 + scale) + shift)


class ModulatedOutput(nn.Module):
    """The last layer: a norm without weights, shift and scale from a condition, Linear."""

    def __init__(self, width: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, out_dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x and condition (..., width) to (..., out_dim)."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        return self.linear(layer_norm(x) * (1 + scale) + shift)


class TimedMLP(nn.Module):
    """The MLP of MAR's head that is told zero, one or two times; names of parameters are the official ones.

    Args:
        token_dim: channels D of x.
        cond_dim: channels C of the condition.
        width, depth: of the blocks.
        num_times: how many times.
        rms: see :class:`SpreadNorm`.
    """

    def __init__(self, token_dim: int, cond_dim: int, width: int, depth: int, num_times: int,
                 rms: bool = False) -> None:
        super().__init__()
        self.time_embed = nn.ModuleList(TimeEmbedding(width, rms=rms) for _ in range(num_times))
        self.cond_embed = nn.Linear(cond_dim, width)
        self.input_proj = nn.Linear(token_dim, width)
        self.res_blocks = nn.ModuleList(ModulatedBlock(width) for _ in range(depth))
        self.final_layer = ModulatedOutput(width, token_dim)
        for layer in [*(block.adaLN_modulation[-1] for block in self.res_blocks),
                      self.final_layer.adaLN_modulation[-1]]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def embed_times(self, times: tuple[Tensor, ...]) -> Tensor:
        """Times (..., 1) each to the mean of their embeddings (..., width)."""
        parts = [embed(time) for embed, time in zip(self.time_embed, times, strict=True)]
        return torch.stack(parts).sum(dim=0) / len(parts)

    def forward(self, condition: Tensor, *inputs: Tensor) -> Tensor:
        """``inputs`` are the times (..., 1) and then x (..., D); condition (..., C); the result (..., D)."""
        *times, x = inputs
        y = self.cond_embed(condition)
        if self.time_embed:
            y = y + self.embed_times(tuple(times))
        x = self.input_proj(x)
        for block in self.res_blocks:
            x = block(x, y)
        return self.final_layer(x, y)


class OneStepHead(Head):
    """A network from noise to a token.

    Kinds: "lsd" is told where a jump starts and ends, and jumps as often as asked, once as a rule; "flow_matching" is
    told one time and needs about 16 steps; "drifting" makes the token itself of the noise; "pointwise" what is to be
    added to the noise.

    Args:
        in_dim: channels C of the hidden states.
        token_dim: channels D of a token.
        width, depth: of the network.
        kind: a name in TIMES.
        batch_mul: noises drawn for each token in a training step; drift draws ``num_negatives`` instead.
        weighting_width, weighting_depth: of the network that learns how certain the loss of "lsd" is.
        num_negatives: of the loss by drift, of "drifting" and "pointwise".
        rms: the norm of times is an RMS norm, as in Phonon.

    Raises:
        ValueError: for an unknown kind.
    """

    def __init__(self, in_dim: int, token_dim: int, width: int = 512, depth: int = 6, kind: str = "lsd", *,
                 batch_mul: int = 4, weighting_width: int = 32, weighting_depth: int = 3, num_negatives: int = 64,
                 rms: bool = False) -> None:
        super().__init__()
        if kind not in TIMES:
            raise ValueError(f"kind must be one of {', '.join(TIMES)}, got {kind!r}")
        if batch_mul < 1:
            raise ValueError(f"batch_mul must be at least 1, got {batch_mul}")
        self.in_dim = in_dim
        self.token_dim = token_dim
        self.kind = kind
        self.batch_mul = batch_mul
        self.net = TimedMLP(token_dim, in_dim, width, depth, TIMES[kind], rms)
        self.objective = SelfDistillation(weighting_width, weighting_depth) if kind == "lsd" else \
            None if kind == "flow_matching" else Drift(num_negatives)

    def loss(self, hidden: Tensor, target: Tensor, mask: Tensor | None = None, *, noise: Noise | None = None) -> Tensor:
        """Mean loss of the kind over the tokens that count; target float ``(B, N, D)``. See :meth:`Head.loss`.

        Draws are made of the tokens that count alone: noise (M, mul, D), then what the kind needs. "pointwise", which
        the authors train by another head, learns by drift as well.
        """
        check_tokens(hidden, target, self.token_dim)
        valid = torch.ones(target.shape[:2], dtype=torch.bool, device=target.device) if mask is None else mask.bool()
        noise = (noise or GlobalNoise(hidden.device)).parts(valid.sum(dim=1).tolist())
        errors = self.errors(hidden[valid], target.float()[valid], noise)
        return masked_mean(errors, None)

    def errors(self, hidden: Tensor, target: Tensor, noise: Noise) -> Tensor:
        """Losses (M, mul) of hidden (M, C) and target float32 (M, D)."""
        hidden = hidden.to(self.net.cond_embed.weight.dtype)
        if isinstance(self.objective, Drift):
            network = partial(self.net, hidden)
            return self.objective(lambda eps: self.jump(network, eps, 1), target, noise)[:, None]
        count, mul = len(target), self.batch_mul
        eps = noise.normal(count, mul, self.token_dim).to(target)
        network = partial(self.net, hidden[:, None].expand(-1, mul, -1))
        data = target[:, None].expand(-1, mul, -1)
        loss = self.objective if self.kind == "lsd" else flow_matching_errors
        return loss(network, eps, data, noise)

    @torch.no_grad()
    def sample(self, hidden: Tensor, *, guidance: Guidance = 1.0, temperature: float = 1.0, noise: Noise,
               num_steps: int = 1) -> Tensor:
        """Tokens float32 ``(B, N, D)``. See :meth:`Head.sample`.

        Args:
            temperature: scales the noise.
            num_steps: jumps of "lsd" and steps of "flow_matching"; the other kinds make one.
        """
        check_temperature(temperature)
        cond, uncond = split_guidance(hidden, guidance)
        draws = noise.normal(*cond.shape[:2], self.token_dim).to(hidden.device)
        x = temperature * draws.float()

        def network(*inputs: Tensor) -> Tensor:
            dtype = self.net.cond_embed.weight.dtype
            inputs = tuple(part.to(dtype) for part in inputs)
            guided = [None if part is None else self.net(part.to(dtype), *inputs).float() for part in (cond, uncond)]
            return combine_guidance(*guided, guidance)

        return self.jump(network, x, num_steps)

    def jump(self, network: Any, x: Tensor, num_steps: int) -> Tensor:
        """Noise x (..., D) to tokens: ``network(*times, x)`` as often as the kind needs."""
        if self.kind == "drifting":
            return network(x)
        if self.kind == "pointwise":
            return x + network(x)
        one = torch.ones_like(x[..., :1])
        for index in range(num_steps):
            times = (index / num_steps * one, (index + 1) / num_steps * one)[:TIMES[self.kind]]
            x = x + network(*times, x) / num_steps
        return x

    def step_options(self, num_steps: int, *, solver: str | None = None, time_shift: float = 1.0,
                     scaled_guidance: bool = False) -> dict[str, Any]:
        super().step_options(num_steps, solver=solver, time_shift=time_shift, scaled_guidance=scaled_guidance)
        return {"num_steps": num_steps}


def end_loss(logits: Tensor, ended: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of "the speech has ended before this position", mean over ``mask``.

    Args:
        logits: (B, N).
        ended: bool (B, N).
        mask: bool (B, N), positions that count.
    """
    errors = torch.where(ended, functional.softplus(-logits), functional.softplus(logits))
    return masked_mean(errors, mask)
