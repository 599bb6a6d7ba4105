"""Next-scale decoding with a rest (HART, arXiv 2410.10812): scale by scale with a cache, the cells of the last scale in
one or several steps, and what diffusion makes of what their codes leave over."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from photophone.core.noise import Noise
from photophone.decoding.continuous import put_places, take_places
from photophone.decoding.loop import Callback, KVCache, cosine_reveal_counts, notify, reveal_order
from photophone.heads.base import is_guided
from photophone.kernels.sampling import draw, filter_logits
from photophone.kernels.solver import combine_guidance

RESIDUAL_SCALE = 0.6
"""The head works on rests over this."""
HEAT, LEAST_HEAT = 0.27, 0.005
"""Temperature of the mixture of codes at the first scale, and at the last."""


def soft_vectors(logits: Tensor, codebook: Tensor, progress: float, noise: Noise) -> Tensor:
    """Mixtures (B, n, D) of likely codes by Gumbel's softmax, sharper with the progress 0..1 over the scales.

    Args:
        logits: (B, n, V), -inf for codes that are left out.
        codebook: (V, D).
    """
    heat = max(HEAT * (1 - 0.95 * progress), LEAST_HEAT)
    gumbel = noise.gumbel(*logits.shape).to(logits.device)
    return ((logits * (1 + progress) + gumbel) / heat).softmax(dim=-1) @ codebook.float()


class HybridScales(Protocol):
    """A generator of codes on several scales and of what they leave over, such as :class:`photophone.HART`, which says
    what these do."""

    config: Any
    sizes: list[int]
    quantizer: Any
    start_positions: Tensor | None
    token_in: Any
    diffusion_head: Any
    device: torch.device
    dtype: torch.dtype

    def pool(self, context: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What modulates the blocks and the head, (B, 1, C) each."""

    def angles(self, mask: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Angles of words and cells, or None."""

    def level_vectors(self) -> Tensor:
        """What places are told of their scale, (N, C)."""

    def transform(self, x: Tensor, pooled: Tensor, angles: Tensor | None, mask: Tensor | None = None,
                  cache: KVCache | None = None) -> Tensor:
        """Embedded places to states (B, n, C)."""

    def logits(self, x: Tensor, most: Tensor) -> Tensor:
        """States to logits float32 (B, n, V)."""

    def rest_condition(self, states: Tensor, vectors: Tensor) -> Tensor:
        """What the diffusion head reads, (B, n, C)."""


class NextScaleDecoding:
    """What one call of the sampler keeps between its steps.

    Args:
        model: whose tokens are decoded.
        context: prompts (B, T, C), with guidance the null prompts behind them.
        mask: bool (B, T), True for words.
        rows: prompts without those of guidance.
        noise: of ``rows`` rows.
        sampler: of the family, see :class:`photophone.generators.hart.model.HARTSampler`.
        callback: called after each scale, and after each step of the last one.
    """

    def __init__(self, model: HybridScales, context: Tensor, mask: Tensor, rows: int, noise: Noise, sampler: Any,
                 callback: Callback | None) -> None:
        self.model, self.noise, self.sampler, self.callback = model, noise, sampler, callback
        self.codes = model.quantizer.codes
        self.rows, self.copies = rows, len(context) // rows
        self.context = context
        self.pooled, self.most = model.pool(self.context, mask)
        self.word_angles, self.cell_angles = model.angles(mask)
        self.level = model.level_vectors()
        config = model.config
        heads, largest = config.num_heads, max(1, sampler.num_order_steps)
        self.counts = cosine_reveal_counts(model.sizes[-1], largest)
        self.cache = KVCache(config.depth, len(context), heads, len(self.level), config.width // heads, model.device,
                             model.dtype)

    def run(self) -> Tensor:
        """Tokens float32 (B, L, D)."""
        model, last = self.model, len(self.model.sizes) - 1
        start = self.context if model.start_positions is None else self.context + model.start_positions
        x, parts, total = start + self.level[:start.shape[1]], [], 0
        for scale in range(last):
            progress, begin = scale / last, sum(model.sizes[1:scale])
            angles = self.word_angles if scale == 0 else self.cells(begin, model.sizes[scale])
            states = model.transform(x, self.pooled, angles, cache=self.cache)[:, -model.sizes[scale]:]
            vectors, _ = self.choose(states, scale, progress)
            parts.append(vectors)
            side = self.codes.scales[scale]
            total = total + self.codes.enlarge(vectors.transpose(1, 2).unflatten(2, (side, side)), scale)
            x = self.embed(self.codes.shrink(total, scale + 1).flatten(2).transpose(1, 2), scale + 1)
            notify(self.callback, scale + 1, last + len(self.counts))
        parts.append(self.last_scale(x, (last - 1) / last))
        return torch.cat(parts, dim=1)

    def embed(self, values: Tensor, scale: int) -> Tensor:
        """The values so far (B, n, D) at the size of a scale, as its places (B or 2 B, n, C)."""
        begin = self.context.shape[1] + sum(self.model.sizes[1:scale])
        x = self.model.token_in(values.to(self.model.dtype)) + self.level[begin:begin + values.shape[1]]
        return x.repeat(self.copies, 1, 1)

    def cells(self, begin: int, count: int) -> Tensor | None:
        """Angles of ``count`` cells, without the first scale's."""
        return None if self.cell_angles is None else self.cell_angles[:, begin:begin + count]

    def choose(self, states: Tensor, scale: int, progress: float) -> tuple[Tensor, Tensor]:
        """Vectors (B, n, D) of the next scales' input, and codes Long (B, n), from states (B or 2 B, n, C)."""
        sampler, strength = self.sampler, self.sampler.guidance_at(progress)
        made = self.model.logits(states, self.most)
        logits = combine_guidance(made[:self.rows], made[self.rows:] if is_guided(strength) else None, strength)
        options = {"temperature": sampler.temperature, "top_k": sampler.top_k_at(scale), "top_p": sampler.top_p}
        codes = draw(logits, None, 1.0, self.noise, **options)
        if sampler.smooth and sampler.temperature > 0:
            kept = filter_logits(logits, **options)
            return soft_vectors(kept, self.codes.codebook, progress, self.noise), codes
        return self.vectors(codes), codes

    def vectors(self, codes: Tensor) -> Tensor:
        """Vectors float32 (B, n, D) of codes Long (B, n)."""
        return functional.embedding(codes, self.codes.codebook).float()

    def last_scale(self, x: Tensor, progress: float) -> Tensor:
        """Vectors and rest (B, n, D) of the last scale from its places (B or 2 B, n, C); guidance stays that of the
        scale before, ``progress``."""
        model, sampler, count, last = self.model, self.sampler, x.shape[1], len(self.model.sizes) - 1
        strength = sampler.guidance_at(progress)
        angles = self.cells(sum(model.sizes[1:last]), count)
        steps = sampler.num_inference_steps
        made = torch.zeros(self.rows, count, self.codes.dim, device=x.device)
        order = self.noise.permutation(self.rows, count).to(x.device)
        for step, places in enumerate(reveal_order(order, self.counts)):
            both = places.repeat(self.copies, 1)
            turned = None if angles is None else take_places(angles, both)
            states = model.transform(take_places(x, both), self.pooled, turned, cache=self.cache)
            vectors, codes = self.choose(states, last, progress)
            if sampler.residual:
                hidden = model.rest_condition(states, self.vectors(codes).repeat(self.copies, 1, 1))
                rest = model.diffusion_head.sample(
                    hidden if is_guided(strength) else hidden[:self.rows], guidance=strength, noise=self.noise,
                    respacing=model.config.respacing if steps is None else str(steps))
                vectors = vectors + RESIDUAL_SCALE * rest
            put_places(made, places, vectors)
            notify(self.callback, last + step + 1, last + len(self.counts))
        return made
