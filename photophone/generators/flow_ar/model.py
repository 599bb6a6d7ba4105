"""FlowAR: photophone's own text-conditioned generator over continuous tokens with a flow head.

In the line of MAR (arXiv 2406.11838) and xAR (2502.20388): a small transformer reads the caption and the tokens so
far, a head samples the next tokens from its hidden states. One class, three orders:

- ``raster``: token by token, causal.
- ``next_x``: cell by cell of ``cell_size`` tokens; attention is causal over cells, full inside (xAR, DiTAR).
- ``random``: masked, bidirectional, in a random order, several tokens a step (MAR).

Code and weights: Apache-2.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache
from photophone.generators.base import Generator, LossOutput
from photophone.generators.classes import example_values
from photophone.generators.conditions import CaptionBlend, CaptionIds
from photophone.generators.flow_ar.orders import Start, Text, build_order
from photophone.generators.sampler import (
    Sampler,
    guidance_option,
    option,
    order_steps_option,
    steps_option,
    temperature_option,
)
from photophone.heads import build_head
from photophone.heads.flow import FlowHead
from photophone.layers.transformer import TransformerBlock


@dataclass(frozen=True)
class FlowARSampler(Sampler):
    """Options of :class:`FlowARGenerator`. A head refuses what it does not have."""

    num_inference_steps: int = steps_option(20, "solver steps of the head for each cell, or each step of the order")
    guidance_scale: float = guidance_option(3.0)
    temperature: float = temperature_option()
    num_order_steps: int | None = order_steps_option(None, 'steps of the order "random"; none given: a quarter of the '
                                                           "tokens")
    solver: str | None = option(None, "of the head; none given: euler for flow heads, ddpm for diffusion heads",
                                choices=("euler", "heun", "midpoint", "sde", "ddpm", "ddim"))
    time_shift: float = option(1.0, "of flow heads: larger values spend more steps near the noise", low=0.01, high=100)
    scaled_guidance: bool = option(False, "of flow heads: guide from the null caption's velocity at its best scale")


class FlowARGenerator(Generator):
    """Captions to continuous tokens ``(B, N, D)``.

    Args:
        num_tokens, token_dim: N and D of the tokenizer.
        vocab_size: of the caption vocabulary.
        max_text_length: caption tokens read; longer captions are refused by the pipeline.
        width: width C of caption encoder and backbone.
        text_depth: blocks that only the caption passes through.
        depth: blocks of the backbone, over caption and tokens together.
        num_heads: attention heads.
        order: "raster", "next_x" or "random".
        cell_size: tokens per cell with order "next_x".
        head: a name of ``photophone.heads.HEADS`` for continuous tokens.
        head_config: its further arguments.
        context_noise: noisy context learning (xAR): earlier tokens are mixed with up to this share of noise in
            training, so that the model forgives its own errors.
        text_drop: share of training captions replaced by the null caption, for guidance.
        qk_norm: RMS-normalised queries and keys.
        sampling_steps: solver steps when nothing else is said; None: those of :class:`FlowARSampler`.
        sampling_temperature: the same of the temperature.
    """

    Condition = CaptionIds
    Sampler = FlowARSampler
    edits = True

    def __init__(self, num_tokens: int = 16, token_dim: int = 32, vocab_size: int = 1536, max_text_length: int = 32,
                 width: int = 192, text_depth: int = 0, depth: int = 2, num_heads: int = 3, order: str = "next_x",
                 cell_size: int = 16, head: str = "local_dit", head_config: dict | None = None,
                 context_noise: float = 0.3, text_drop: float = 0.1, qk_norm: bool = True,
                 sampling_steps: int | None = None, sampling_temperature: float | None = None) -> None:
        super().__init__()
        self.order = build_order(order, num_tokens, cell_size)
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.text_position = nn.Parameter(torch.randn(max_text_length, width) * 0.02)
        self.text_blocks = nn.ModuleList(TransformerBlock(width, num_heads, qk_norm=qk_norm) for _ in range(text_depth))
        self.token_in = nn.Linear(token_dim, width)
        self.token_position = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        self.blank = nn.Parameter(torch.randn(width) * 0.02)  # start of a sequence, or a masked token
        self.blocks = nn.ModuleList(TransformerBlock(width, num_heads, qk_norm=qk_norm) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.token_head = build_head(head, in_dim=width, token_dim=token_dim, **(head_config or {}))
        self.register_buffer("token_mean", torch.zeros(num_tokens, token_dim))
        self.register_buffer("token_std", torch.ones(num_tokens, token_dim))
        nn.init.normal_(self.text_embedding.weight, std=0.02)

    @torch.no_grad()
    def fit_statistics(self, tokens: Tokens) -> None:
        """Normalise tokens by the mean and deviation of ``tokens`` (M, N, D) at each position and channel."""
        self.token_mean.copy_(tokens.values.mean(dim=0))
        self.token_std.copy_(tokens.values.std(dim=0).clamp(min=1e-3))

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: CaptionIds, *, noise: Noise | None = None) -> LossOutput:
        """The head's loss on tokens (B, N, D) as the tokenizer made them."""
        noise = noise or GlobalNoise(tokens.values.device)
        text = Text(condition.ids, condition.mask)
        if self.training and self.config.text_drop:
            text = self.drop_captions(condition, noise)
        targets = (tokens.values - self.token_mean) / self.token_std
        share = self.config.context_noise * noise.uniform(len(targets), 1, 1)
        context = (1 - share) * targets + share * noise.normal(*targets.shape)
        return LossOutput(self.order.loss(self, text, targets, context, noise))

    def drop_captions(self, condition: CaptionIds, noise: Noise) -> Text:
        """Captions of which a share of ``text_drop`` is the null caption."""
        drop = (noise.uniform(len(condition)) < self.config.text_drop)[:, None]
        null = self.null_text(condition)
        return Text(torch.where(drop, null.ids, condition.ids), torch.where(drop, null.mask, condition.mask))

    def null_text(self, condition: CaptionIds) -> Text:
        """The null caption for each row; of its tokens the first is read, but all of one to be led away from."""
        mask = torch.zeros_like(condition.mask)
        mask[:, 0] = True
        if condition.null_mask is not None:
            mask[:] = condition.null_mask
        return Text(condition.null_ids.expand(len(condition), -1), mask)

    def hidden(self, text_ids: Tensor, text_mask: Tensor, embedded: Tensor) -> Tensor:
        """Hidden states (B, N, C) of all positions in one pass.

        Args:
            text_ids: Long (B, L).
            text_mask: bool (B, L), True for caption tokens.
            embedded: (B, N, C), of :meth:`shift` or :meth:`hide`.
        """
        text = self.encode_text(text_ids, text_mask)
        x = torch.cat([text, embedded + self.token_position], dim=1)
        mask = self.attention_mask(text_mask, embedded.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x[:, text.shape[1]:])

    def shift(self, context: Tensor) -> Tensor:
        """Inputs (B, N, C) of which each cell is the one before of normalised tokens (B, N, D)."""
        start = self.blank.expand(len(context), self.order.cell, -1)
        return torch.cat([start, self.token_in(context)[:, : -self.order.cell]], dim=1)

    def hide(self, context: Tensor, masked: Tensor) -> Tensor:
        """Inputs (B, N, C): normalised tokens (B, N, D), and blanks where bool (B, N) is True."""
        return torch.where(masked[..., None], self.blank, self.token_in(context))

    def encode_text(self, text_ids: Tensor, text_mask: Tensor) -> Tensor:
        """Caption states (B, L, C)."""
        text = self.text_embedding(text_ids) + self.text_position[: text_ids.shape[1]]
        for block in self.text_blocks:
            text = block(text, text_mask[:, None, None, :])
        return text

    def attention_mask(self, text_mask: Tensor, length: int) -> Tensor:
        """Bool (B, 1, L+N, L+N): captions see captions; tokens see captions and all cells up to their own."""
        rows, text_length = text_mask.shape
        cells = torch.arange(length, device=text_mask.device) // self.order.cell
        mask = torch.zeros(rows, text_length + length, text_length + length, dtype=torch.bool, device=text_mask.device)
        mask[:, :, :text_length] = text_mask[:, None, :]
        mask[:, text_length:, text_length:] = cells[:, None] >= cells[None, :]
        return mask[:, None]

    def run_cached(self, x: Tensor, mask: Tensor, cache: KVCache) -> Tensor:
        """Hidden states (B, n, C) of inputs (B, n, C) that stand behind those in the cache."""
        for block, layer in zip(self.blocks, cache.layers):
            x = block(x, mask, cache=layer)
        return self.norm(x)

    # sampling ---------------------------------------------------------------------------------------------------

    def _generate(self, condition: CaptionIds, *, noise: Noise, sampler: FlowARSampler,
                  callback: Callback | None, start: Start | None = None) -> Tokens:
        """Tokens float (B, N, D) in the tokenizer's scale.

        Args:
            start: tokens to begin with; None: noise.

        Raises:
            ValueError: a solver or steps that head or order do not have.
        """
        away = {"away": True} if condition.null_mask is not None and sampler.guidance_scale != 1 else {}
        if away or start is not None:
            self._check_head()
        text = self.all_texts(condition, bool(away) or self.token_head.reads_null(
            sampler.guidance_scale, scaled_guidance=sampler.scaled_guidance))
        options = {"guidance": sampler.guidance_scale, "temperature": sampler.temperature, "noise": noise, **away,
                   **self.token_head.step_options(sampler.num_inference_steps, solver=sampler.solver,
                                                  time_shift=sampler.time_shift,
                                                  scaled_guidance=sampler.scaled_guidance)}
        values = self.order.sample(self, text, len(condition), sampler.num_order_steps, callback, options, start)
        return Tokens(values * self.token_std + self.token_mean)

    def _redraw(self, tokens: Tokens, condition: CaptionIds, *, strength: float, noise: Noise, sampler: FlowARSampler,
                callback: Callback | None) -> Tokens:
        shape = (len(condition), self.config.num_tokens, self.config.token_dim)
        if tuple(tokens.values.shape) != shape or not tokens.is_continuous:
            raise ValueError(f"tokens must be float {shape}, got {tokens.values.dtype} {tuple(tokens.values.shape)}")
        start = Start((tokens.values.float() - self.token_mean) / self.token_std, strength)
        return self._generate(condition, noise=noise, sampler=sampler, callback=callback, start=start)

    def all_texts(self, condition: CaptionIds, reads_null: bool) -> Text:
        """The captions, second captions where two are blended, and null captions where the head reads them."""
        parts, shares = [Text(condition.ids, condition.mask)], None
        if isinstance(condition, CaptionBlend):
            parts.append(Text(condition.other_ids, condition.other_mask))
            shares = condition.shares
        if reads_null:
            parts.append(self.null_text(condition))
        return Text(torch.cat([part.ids for part in parts]), torch.cat([part.mask for part in parts]), shares)

    def _check_head(self) -> None:
        if not isinstance(self.token_head, FlowHead):
            raise ValueError(f"a {type(self.token_head).__name__} neither begins with given tokens nor is led away "
                             "from a caption; that needs a flow head")

    # what callers need to know ------------------------------------------------------------------------------------

    def check_condition(self, condition: CaptionIds) -> None:
        ids, longest = condition.ids, self.config.max_text_length
        if ids.ndim != 2 or ids.dtype != torch.long or not 1 <= ids.shape[1] <= longest:
            raise ValueError(f"caption ids must be Long (B, L) with L in 1..{longest}, got {ids.dtype} "
                             f"{tuple(ids.shape)}")
        if condition.mask.shape != ids.shape or condition.mask.dtype != torch.bool:
            raise ValueError(f"the mask of captions must be bool {tuple(ids.shape)}, got {condition.mask.dtype} "
                             f"{tuple(condition.mask.shape)}")
        if condition.null_ids.shape != ids.shape[1:]:
            raise ValueError(f"the null caption must be Long ({ids.shape[1]},), got {tuple(condition.null_ids.shape)}")
        for name, given in (("caption ids", ids), ("the null caption", condition.null_ids)):
            if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < self.config.vocab_size:
                raise ValueError(f"{name} must lie in 0..{self.config.vocab_size - 1}, got {int(given.min())}.."
                                 f"{int(given.max())}")

    def example_condition(self, rows: int, seed: int = 0) -> CaptionIds:
        """Captions of different lengths."""
        length, vocabulary = self.config.max_text_length, self.config.vocab_size
        ids = torch.randint(3, vocabulary, (rows, length), generator=torch.Generator().manual_seed(seed))
        mask = torch.arange(length) < torch.tensor([[1 + (5 * row) % length] for row in range(rows)])
        null = torch.zeros(length, dtype=torch.long)
        null[0] = 1
        return CaptionIds(ids.masked_fill(~mask, 0), mask, null)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.num_tokens, self.config.token_dim, seed)
