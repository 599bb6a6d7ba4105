"""FlowAR: photophone's own text-conditioned generator over continuous tokens with a flow head.

In the line of MAR (arXiv 2406.11838) and xAR (2502.20388): a small transformer reads the caption and the tokens so
far, a head samples the next tokens from its hidden states. One class, three orders:

- ``raster``: token by token, causal.
- ``next_x``: cell by cell of ``cell_size`` tokens; attention is causal over cells, full inside (xAR, DiTAR).
- ``random``: masked, bidirectional, in a random order, several tokens a step (MAR).

Code and weights: Apache-2.0.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect, cosine_reveal_counts, notify
from photophone.generators.base import Generator
from photophone.heads import build_head
from photophone.heads.base import is_guided
from photophone.layers.transformer import TransformerBlock

ORDERS = ("raster", "next_x", "random")


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
    """

    @register_to_config
    def __init__(self, num_tokens: int = 16, token_dim: int = 32, vocab_size: int = 1536, max_text_length: int = 32,
                 width: int = 192, text_depth: int = 0, depth: int = 2, num_heads: int = 3, order: str = "next_x",
                 cell_size: int = 16, head: str = "local_dit", head_config: dict | None = None,
                 context_noise: float = 0.3, text_drop: float = 0.1, qk_norm: bool = True) -> None:
        super().__init__()
        if order not in ORDERS:
            raise ValueError(f"order must be one of {ORDERS}, got {order!r}")
        self.cell = {"raster": 1, "next_x": cell_size, "random": num_tokens}[order]
        if num_tokens % self.cell:
            raise ValueError(f"{num_tokens} tokens do not split into cells of {self.cell}")
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
    def set_statistics(self, tokens: Tensor) -> None:
        """Normalise tokens by the mean and deviation of ``tokens`` (M, N, D) at each position and channel."""
        self.token_mean.copy_(tokens.mean(dim=0))
        self.token_std.copy_(tokens.std(dim=0).clamp(min=1e-3))

    # training ---------------------------------------------------------------------------------------------------

    def forward(self, text_ids: Tensor, text_mask: Tensor, tokens: Tensor, null_ids: Tensor | None = None,
                noise: Noise | None = None) -> Tensor:
        """The loss, a scalar.

        Args:
            text_ids: Long (B, L).
            text_mask: bool (B, L), True for caption tokens.
            tokens: float (B, N, D) as the tokenizer made them.
            null_ids: Long (L,): the null caption, which replaces a caption with probability ``text_drop``.
            noise: random draws; torch's global state when None.
        """
        noise = noise or GlobalNoise(tokens.device)
        rows, length = tokens.shape[:2]
        if null_ids is not None:
            drop = noise.uniform(rows) < self.config.text_drop
            text_ids = torch.where(drop[:, None], null_ids, text_ids)
            null_mask = torch.zeros_like(text_mask)
            null_mask[:, 0] = True
            text_mask = torch.where(drop[:, None], null_mask, text_mask)
        targets = (tokens - self.token_mean) / self.token_std
        share = self.config.context_noise * noise.uniform(rows, 1, 1)
        context = (1 - share) * targets + share * noise.normal(*targets.shape)
        if self.config.order == "random":
            count = (noise.uniform(rows, 1) * length).long()  # tokens that stay visible, 0..N-1
            masked = noise.permutation(rows, length).argsort(dim=1) >= count
            hidden = self.hidden(text_ids, text_mask, context, masked)
            return self.token_head.loss(hidden, targets, masked, noise=noise)
        hidden = self.hidden(text_ids, text_mask, context)
        return self.token_head.loss(hidden, targets, noise=noise)

    def hidden(self, text_ids: Tensor, text_mask: Tensor, context: Tensor, masked: Tensor | None = None) -> Tensor:
        """Hidden states (B, N, C) of all positions in one pass.

        Args:
            context: normalised tokens (B, N, D).
            masked: bool (B, N) for the order "random"; None shifts the context by one cell.
        """
        text = self.encode_text(text_ids, text_mask)
        embedded = self.token_in(context)
        if masked is None:
            start = self.blank.expand(len(context), self.cell, -1)
            embedded = torch.cat([start, embedded[:, : -self.cell]], dim=1)
        else:
            embedded = torch.where(masked[..., None], self.blank, embedded)
        x = torch.cat([text, embedded + self.token_position], dim=1)
        mask = self.attention_mask(text_mask, context.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x[:, text.shape[1]:])

    def encode_text(self, text_ids: Tensor, text_mask: Tensor) -> Tensor:
        """Caption states (B, L, C)."""
        text = self.text_embedding(text_ids) + self.text_position[: text_ids.shape[1]]
        for block in self.text_blocks:
            text = block(text, text_mask[:, None, None, :])
        return text

    def attention_mask(self, text_mask: Tensor, length: int) -> Tensor:
        """Bool (B, 1, L+N, L+N): captions see captions; tokens see captions and all cells up to their own."""
        rows, text_length = text_mask.shape
        cells = torch.arange(length, device=text_mask.device) // self.cell
        mask = torch.zeros(rows, text_length + length, text_length + length, dtype=torch.bool, device=text_mask.device)
        mask[:, :, :text_length] = text_mask[:, None, :]
        mask[:, text_length:, text_length:] = cells[:, None] >= cells[None, :]
        return mask[:, None]

    # sampling ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(self, text_ids: Tensor, text_mask: Tensor, null_ids: Tensor, *, noise: Noise,
                 guidance_scale: float = 3.0, temperature: float = 1.0, num_inference_steps: int = 20,
                 num_order_steps: int | None = None, callback: Callback | None = None, **head_options) -> Tokens:
        """Sample tokens for each caption.

        Args:
            text_ids: Long (B, L).
            text_mask: bool (B, L).
            null_ids: Long (L,), the null caption, for guidance.
            noise: B rows.
            guidance_scale: 1 is none.
            temperature: of the head.
            num_inference_steps: solver steps of the head for each cell.
            num_order_steps: steps of the order "random" (default: a quarter of the tokens).
            callback: called after each cell, or after each step of the order "random".
            head_options: passed to the head's ``sample`` (solver, time_shift).

        Returns:
            Tokens, float (B, N, D), in the tokenizer's scale.
        """
        rows = len(text_ids)
        if is_guided(guidance_scale):
            null_mask = torch.zeros_like(text_mask)
            null_mask[:, 0] = True
            text_ids = torch.cat([text_ids, null_ids.expand(rows, -1)])
            text_mask = torch.cat([text_mask, null_mask])
        options = dict(guidance=guidance_scale, temperature=temperature, noise=noise,
                       **self.token_head.step_options(num_inference_steps), **head_options)
        if self.config.order == "random":
            values = self._generate_masked(text_ids, text_mask, rows, num_order_steps, callback, options)
        else:
            values = self._generate_cells(text_ids, text_mask, callback, options)
        return Tokens(values * self.token_std + self.token_mean)

    def _generate_cells(self, text_ids: Tensor, text_mask: Tensor, callback: Callback | None, options: dict) -> Tensor:
        config, (rows, text_length) = self.config, text_ids.shape
        head_dim = config.width // config.num_heads
        cache = KVCache(config.depth, rows, config.num_heads, text_length + config.num_tokens, head_dim,
                        self.device, self.dtype)
        self._run(self.encode_text(text_ids, text_mask), text_mask[:, None, None, :], cache)

        def step(index: int, previous: Tensor | None) -> Tensor:
            if previous is None:
                embedded = self.blank.expand(rows, self.cell, -1)
            else:
                embedded = self.token_in(previous.to(self.dtype)).repeat(rows // len(previous), 1, 1)
            position = self.token_position[index * self.cell:(index + 1) * self.cell]
            seen = torch.ones(rows, (index + 1) * self.cell, dtype=torch.bool, device=self.device)
            mask = torch.cat([text_mask, seen], dim=1)[:, None, None, :]
            return self.token_head.sample(self._run(embedded + position, mask, cache), **options)

        values, _ = collect(autoregress(step, config.num_tokens // self.cell, callback=callback))
        return values

    def _generate_masked(self, text_ids: Tensor, text_mask: Tensor, rows: int, num_order_steps: int | None,
                         callback: Callback | None, options: dict) -> Tensor:
        length, copies = self.config.num_tokens, len(text_ids) // rows
        counts = cosine_reveal_counts(length, num_order_steps or max(1, length // 4))
        order = options["noise"].permutation(rows, length).to(self.device)
        values = torch.zeros(rows, length, self.config.token_dim, device=self.device)
        masked = torch.ones(rows, length, dtype=torch.bool, device=self.device)
        done = 0
        for index, count in enumerate(counts):
            hidden = self.hidden(text_ids, text_mask, values.to(self.dtype).repeat(copies, 1, 1),
                                 masked.repeat(copies, 1))
            chosen = order[:, done:done + count]  # (B, count) positions revealed now
            wanted = chosen.repeat(copies, 1)[..., None].expand(-1, -1, hidden.shape[-1])
            drawn = self.token_head.sample(hidden.gather(1, wanted), **options)
            values.scatter_(1, chosen[..., None].expand_as(drawn), drawn)
            masked.scatter_(1, chosen, False)
            done += count
            notify(callback, index + 1, len(counts))
        return values

    def _run(self, x: Tensor, mask: Tensor, cache: KVCache) -> Tensor:
        for block, layer in zip(self.blocks, cache.layers):
            x = block(x, mask, cache=layer)
        return self.norm(x)
