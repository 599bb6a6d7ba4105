"""Mixture-of-Mamba: a selective state space block whose projections have one copy for each modality.

Papers: Mixture-of-Mamba (arXiv 2501.16295), Mamba (2312.00752). Official code: Weixin-Liang/Mixture-of-Mamba, MIT. The
scan is the plain one, position by position. Residual and norm around the block are its user's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.loading.checkpoints import State, rename_keys

PROJECTIONS = ("in_proj", "x_proj", "dt_proj", "out_proj")


class UntiedLinear(nn.Module):
    """A linear layer for each modality, (T, in_dim) -> (T, out_dim); tokens of no modality become zeros.

    Args:
        in_dim, out_dim, bias: of each layer.
        modalities: layers.
    """

    def __init__(self, in_dim: int, out_dim: int, modalities: int, bias: bool = True) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.experts = nn.ModuleList(nn.Linear(in_dim, out_dim, bias=bias) for _ in range(modalities))

    def forward(self, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """x (T, in_dim); bool masks (T,), one a modality, of which the first that holds a token decides."""
        out = x.new_zeros(len(x), self.out_dim)
        for expert, mask in reversed(list(zip(self.experts, masks, strict=True))):
            out = out.masked_scatter(mask[:, None], expert(x[mask]).to(out.dtype))
        return out


def selective_scan(x: Tensor, dt: Tensor, decay: Tensor, read_in: Tensor, read_out: Tensor) -> Tensor:
    """Outputs (B, D, L) of ``h <- exp(dt decay) h + dt x read_in``, ``y = h . read_out``, in float32.

    Args:
        x, dt: (B, D, L).
        decay: (D, S), below 0.
        read_in, read_out: (B, S, L).
    """
    state = x.new_zeros(*x.shape[:2], decay.shape[1], dtype=torch.float32)
    outputs = []
    for step in range(x.shape[2]):
        now = dt[..., step, None].float()
        state = torch.exp(now * decay) * state + now * read_in[:, None, :, step] * x[..., step, None]
        outputs.append((state * read_out[:, None, :, step]).sum(-1))
    return torch.stack(outputs, dim=-1)


class MixtureOfMamba(nn.Module):
    """x (B, L, C) to the same, with weights of each token's modality; the convolution and the scan mix all tokens.

    Args:
        dim: C.
        state_dim: numbers S that each channel remembers.
        conv_width: positions of the causal convolution.
        expand: inner channels over C.
        dt_rank: channels that step sizes are made of; None: a sixteenth of C, rounded up.
        modalities: copies of each projection.
        shared: names of PROJECTIONS that all modalities share. A shared ``dt_proj`` never adds its bias, as in the
            official code.
        bias, conv_bias: of the projections in and out, and of the convolution.

    Raises:
        ValueError: a projection that there is not.
    """

    def __init__(self, dim: int, state_dim: int = 16, conv_width: int = 4, expand: int = 2, dt_rank: int | None = None,
                 modalities: int = 2, shared: Collection[str] = (), *, bias: bool = False,
                 conv_bias: bool = True) -> None:
        super().__init__()
        if unknown := sorted(set(shared) - set(PROJECTIONS)):
            raise ValueError(f"shared may name {', '.join(PROJECTIONS)}, got {', '.join(unknown)}")
        inner = expand * dim
        self.dt_rank = math.ceil(dim / 16) if dt_rank is None else dt_rank
        self.state_dim = state_dim

        def projection(name: str, in_dim: int, out_dim: int, bias: bool) -> nn.Module:
            return nn.Linear(in_dim, out_dim, bias=bias) if name in shared else \
                UntiedLinear(in_dim, out_dim, modalities, bias)

        self.in_proj = projection("in_proj", dim, 2 * inner, bias)
        self.conv1d = nn.Conv1d(inner, inner, conv_width, groups=inner, padding=conv_width - 1, bias=conv_bias)
        self.x_proj = projection("x_proj", inner, self.dt_rank + 2 * state_dim, False)
        self.dt_proj = projection("dt_proj", self.dt_rank, inner, True)
        self.A_log = nn.Parameter(torch.arange(1, state_dim + 1).float().log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = projection("out_proj", inner, dim, bias)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(state, [(r"^local_experts_(\w+)\.(\d+)\.", r"\1.experts.\2.")])

    def project(self, layer: nn.Module, x: Tensor, masks: Sequence[Tensor], bias: bool = True) -> Tensor:
        """One of the four projections of x (B, L, C)."""
        if isinstance(layer, nn.Linear):
            return F.linear(x, layer.weight, layer.bias if bias else None)
        return layer(x.flatten(0, 1), masks).unflatten(0, x.shape[:2])

    def scanned(self, x: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the scan reads of inner channels x (B, L, D): x (B, D, L), raw steps (B, D, L), two (B, S, L)."""
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., : x.shape[1]])
        steps, read_in, read_out = self.project(self.x_proj, x.transpose(1, 2), masks).split(
            [self.dt_rank, self.state_dim, self.state_dim], dim=-1)
        dt = self.project(self.dt_proj, steps, masks, bias=False)
        return x, dt.transpose(1, 2), read_in.transpose(1, 2), read_out.transpose(1, 2)

    def forward(self, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """x (B, L, C) to the same.

        Args:
            masks: bool (B L,), one for each modality; together they must hold every token. Where they overlap the
                first decides.

        Raises:
            ValueError: masks of other sizes, or that leave a token out.
        """
        wanted = (x.shape[0] * x.shape[1],)
        if any(tuple(mask.shape) != wanted or mask.dtype != torch.bool for mask in masks) or \
                not bool(torch.stack(list(masks)).any(dim=0).all()):
            raise ValueError(f"masks must be bool {wanted} and hold every token in at least one of them")
        x, gate = self.project(self.in_proj, x, masks).chunk(2, dim=-1)
        x, dt, read_in, read_out = self.scanned(x, masks)
        decay = -torch.exp(self.A_log.float())
        y = selective_scan(x, F.softplus(dt.float()), decay, read_in, read_out) + self.D.float()[:, None] * x
        y = (y.transpose(1, 2) * F.silu(gate)).to(gate.dtype)
        return self.project(self.out_proj, y, masks)
