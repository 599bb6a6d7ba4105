"""Residual vector quantization: each codebook codes what the ones before it left over.

Papers: SoundStream (arXiv 2107.03312), EnCodec (2210.13438), DAC for one projection a stage (2306.06546).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.kernels.dispatch import choose
from photophone.kernels.vq import residual_lookup
from photophone.quantizers.base import (
    Quantizer,
    QuantizerOutput,
    noise_or_global,
    project,
    stack_books,
    straight_through,
)
from photophone.quantizers.vq import VectorQuantizer


class ResidualVQ(Quantizer):
    """Q stages of :class:`VectorQuantizer`; values are the sum of the stages, the loss is their sum.

    Args:
        dim: width D of the input.
        codebook_size: codes of each stage.
        num_codebooks: Q.
        codebook_dim: width of the codes; D when None.
        projection: ``"none"``; ``"shared"``: one linear layer into the code width before the first stage and one
            back after the last; ``"stage"``: such a pair around each stage (DAC).
        quantizer_dropout: in training, the share of batch rows that keep only a random number 1..Q of stages.
            The indices of dropped stages mean nothing; they count in no loss, statistic or value.
        **stage: settings of each :class:`VectorQuantizer`.

    :meth:`decode` also takes the first few codebooks alone, ``(B, 1..Q, N)``.
    The straight-through gradient is the identity without projections and passes the linear layers otherwise.

    Raises:
        ValueError: for settings out of range or that do not fit.
    """

    decodes_fewer = True

    def __init__(self, dim: int, codebook_size: int, num_codebooks: int, *, codebook_dim: int | None = None,
                 projection: str = "none", quantizer_dropout: float = 0.0, **stage) -> None:
        super().__init__(dim, codebook_size=codebook_size, num_codebooks=num_codebooks)
        codebook_dim = dim if codebook_dim is None else codebook_dim
        if projection not in ("none", "shared", "stage"):
            raise ValueError(f'projection must be "none", "shared" or "stage", got {projection!r}')
        if projection == "none" and codebook_dim != dim:
            raise ValueError(f"codebook_dim={codebook_dim} differs from dim={dim}: that needs a projection")
        if not 0 <= quantizer_dropout <= 1:
            raise ValueError(f"quantizer_dropout must lie in [0, 1], got {quantizer_dropout}")
        self.projection = projection
        self.quantizer_dropout = quantizer_dropout
        pairs = {"none": 0, "shared": 1, "stage": num_codebooks}[projection]
        self.project_in = nn.ModuleList(nn.Linear(dim, codebook_dim) for _ in range(pairs))
        self.project_out = nn.ModuleList(nn.Linear(codebook_dim, dim) for _ in range(pairs))
        self.stages = nn.ModuleList(VectorQuantizer(codebook_dim, codebook_size, **stage) for _ in range(num_codebooks))

    def _quantize(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> QuantizerOutput:
        kept = self._kept_stages(x, noise)
        target = x if self.projection != "shared" else project(self.project_in[0], x)
        residual = target
        total = torch.zeros_like(target)
        outputs = []
        for number, stage in enumerate(self.stages):
            use = mask
            if kept is not None:
                use = (kept > number)[:, None].expand(x.shape[:2])  # (B,) -> (B, N)
                use = use if mask is None else use & mask
            output = stage(self._into(number, residual), use, noise)
            values = self._out_of(number, output.values)
            if self.projection != "stage":
                values = values.detach()  # later stages see the input as it is; the gradient is set once, below
            residual = residual - values
            total = total + (values if kept is None else values * (kept > number)[:, None, None])
            outputs.append(output)
        if self.projection != "stage":
            total = straight_through(target, total)
        if self.projection == "shared":
            total = project(self.project_out[0], total)
        metrics = {name: torch.stack([o.metrics[name] for o in outputs]).mean() for name in outputs[0].metrics}
        indices = stack_books([output.indices for output in outputs])
        return QuantizerOutput(total, indices, sum(output.loss for output in outputs), metrics)

    def _encode(self, x: Tensor) -> Tensor:
        residual = x if self.projection != "shared" else project(self.project_in[0], x)
        first = self.stages[0]
        if self.projection != "stage" and not first.l2_norm and choose("vq", residual, first.codebook) == "triton":
            books = torch.stack([stage.codebook for stage in self.stages])
            found = residual_lookup(residual.flatten(0, 1), books, cosine=first.cosine)
            return stack_books(list(found.indices.unflatten(1, x.shape[:2])))
        indices = []
        for number, stage in enumerate(self.stages):
            indices.append(stage.encode(self._into(number, residual)))
            residual = residual - self._out_of(number, stage.decode(indices[-1]))
        return stack_books(indices)

    def _decode(self, tokens: Tensor) -> Tensor:
        books = tokens[:, None] if tokens.ndim == 2 else tokens  # (B, Q, N)
        stages = zip(self.stages, books.unbind(1))  # as many stages as there are books
        values = [self._out_of(number, stage.decode(book)) for number, (stage, book) in enumerate(stages)]
        total = torch.stack(values).sum(0)
        return project(self.project_out[0], total) if self.projection == "shared" else total

    def _into(self, number: int, residual: Tensor) -> Tensor:
        return project(self.project_in[number], residual) if self.projection == "stage" else residual

    def _out_of(self, number: int, values: Tensor) -> Tensor:
        return project(self.project_out[number], values) if self.projection == "stage" else values

    def _kept_stages(self, x: Tensor, noise: Noise | None) -> Tensor | None:
        """Stages each row keeps ``(B,)``, or None when all keep all."""
        if not self.training or not self.quantizer_dropout:
            return None
        draws = noise_or_global(noise, x).uniform(len(x), 2).to(x.device)
        count = 1 + (draws[:, 1] * self.num_codebooks).long()  # 1..Q: draws lie below 1
        return torch.where(draws[:, 0] < self.quantizer_dropout, count, self.num_codebooks)
