"""xAR: next-cell prediction of continuous tokens with flow matching and noisy context.

Paper: arXiv 2502.20388. The official repository (OliverRensu/xAR) states no licence for code or weights: this is
written from the paper and from the behaviour of the published models. Weights: trained on ImageNet. The tokens are
those of :class:`photophone.tokenizers.kl_vae.model.KLVAE` ("mar-kl16").
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.limits import MAX_INFERENCE_STEPS
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_values
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import GuidedSampler, option, temperature_option
from photophone.heads.base import is_guided
from photophone.kernels.solver import combine_guidance
from photophone.layers.adaln_block import AdaLNBlock
from photophone.layers.cells import cell_order
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.flow import PATHS, Velocity, euler_maruyama, sde_time_grid
from photophone.layers.llama_block import GatedFeedForward
from photophone.layers.rotary import grid_rotary
from photophone.layers.self_attention import SelfAttention
from photophone.layers.transformer import LayerCache
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^class_emb\.", "class_embedding."), (r"^z_proj\.", "token_in."), (r"^z_proj_ln\.", "token_norm."),
        (r"^decoder_embed\.", "decoder_in."), (r"^pred\.", "token_out."),
        (r"^(en|de)coder_pos_embed_learned$", r"\1coder_position"),
        (r"\.attn\.qkv\.", ".attention.to_qkv."), (r"\.attn\.proj\.", ".attention.to_out."),
        (r"\.mlp\.fc1_g\.", ".feed_forward.gate."), (r"\.mlp\.fc1_x\.", ".feed_forward.value."),
        (r"\.mlp\.fc2\.", ".feed_forward.out."), (r"\.ada_lin\.", ".modulation.")]


def time_ids(t: Tensor) -> Tensor:
    """Times in [0, 1] to the integers 0..1000 that the network is told: cut off, not rounded, in float32."""
    return (t.float() * 1000).long()


@dataclass(frozen=True)
class XARSampler(GuidedSampler):
    """Options of :class:`XAR`.

    Published: 40 steps at guidance 2.7 (base), 50 at 2.3 (large) and 2.2 (huge). Linear guidance is none for the first
    cell and all of it for the last.
    """

    num_inference_steps: int = option(50, "stochastic solver steps for each cell", low=2, high=MAX_INFERENCE_STEPS)
    temperature: float = temperature_option()


class XAR(OriginalCheckpoint, ClassGenerator):
    """Classes to continuous tokens (B, N, D), cell by cell; attention is full inside a cell and causal over cells.

    Args:
        grid_size: tokens per side.
        token_dim: D of the tokenizer.
        cells_per_side: cells per side.
        num_classes: classes; one more row is the null class.
        width: width C of both halves.
        encoder_depth, encoder_heads: of the first half.
        decoder_depth, decoder_heads: of the second half.
        mlp_ratio: two thirds of it times C is the hidden width of the feed-forwards.
        label_drop: share of training labels replaced by the null class.

    Raises:
        ValueError: the grid does not split into cells.
    """

    Sampler = XARSampler
    BACKBONE = "decoder_blocks.0"
    DROPPED_KEYS = ("mask", "*.attn.rope.*")  # tables that follow from the sizes

    def __init__(self, grid_size: int = 16, token_dim: int = 16, cells_per_side: int = 2, num_classes: int = 1000,
                 width: int = 768, encoder_depth: int = 8, encoder_heads: int = 12, decoder_depth: int = 8,
                 decoder_heads: int = 12, mlp_ratio: float = 4.0, label_drop: float = 0.1) -> None:
        super().__init__()
        if grid_size % cells_per_side:
            raise ValueError(f"a grid of {grid_size} does not split into {cells_per_side} cells per side")
        self.num_cells, self.cell_size = cells_per_side**2, (grid_size // cells_per_side) ** 2

        def block(heads: int) -> AdaLNBlock:
            feed_forward = GatedFeedForward(width, int(width * mlp_ratio * 2 / 3.0), "gelu", bias=True)
            return AdaLNBlock(SelfAttention(width, heads), feed_forward, width, order="var", rms=True)

        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.time_embed = TimestepEmbedding(width)
        self.token_in = nn.Linear(token_dim, width)
        self.encoder_position = nn.Parameter(torch.randn(1, grid_size**2, width) * 0.02)  # in the order of cells
        self.token_norm = nn.RMSNorm(width, eps=1e-6)
        self.encoder_blocks = nn.ModuleList(block(encoder_heads) for _ in range(encoder_depth))
        self.encoder_norm = nn.RMSNorm(width, eps=1e-6)
        self.decoder_in = nn.Linear(width, width)
        self.decoder_position = nn.Parameter(torch.randn(1, grid_size**2, width) * 0.02)
        self.decoder_blocks = nn.ModuleList(block(decoder_heads) for _ in range(decoder_depth))
        self.decoder_norm = nn.RMSNorm(width, eps=1e-6)
        self.token_out = nn.Linear(width, token_dim)
        nn.init.normal_(self.class_embedding.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(state, KEYS)

    def order(self) -> Tensor:
        """Long (N,): the raster place of each token when the grid is read cell by cell."""
        size = self.config.grid_size
        return cell_order(size, size, size // self.config.cells_per_side)

    def rotary(self, heads: int) -> Tensor:
        """The rotary table of all tokens in the order of cells, for so many heads."""
        size = self.config.grid_size
        table = grid_rotary(size, size, self.config.width // heads)
        return table[self.order()]

    def condition(self, labels: Tensor, ids: Tensor) -> Tensor:
        """Class plus time for each cell, (B, K, C): labels Long (B,), ids Long (B, K) of :func:`time_ids`."""
        return self.class_embedding(labels)[:, None] + self.time_embed(ids)

    def velocity(self, x: Tensor, condition: Tensor, first: int = 0,
                 cache: list[LayerCache] | None = None) -> Tensor:
        """dx/dt (B, K * cell, D) of K cells in a row.

        Args:
            x: noisy tokens (B, K * cell, D) of the cells from ``first`` on, in the order of cells.
            condition: (B, K, C).
            cache: a cache for each block, which holds all cells before ``first``.
        """
        start, stop = first * self.cell_size, first * self.cell_size + x.shape[1]
        cells = torch.arange(stop, device=x.device) // self.cell_size
        mask = None if len(condition[0]) == 1 else cells[start:, None] >= cells
        caches = iter(cache or [None] * (len(self.encoder_blocks) + len(self.decoder_blocks)))
        x = self.token_norm(self.token_in(x) + self.encoder_position[:, start:stop])
        rotary = self.rotary(self.config.encoder_heads)[start:stop]
        for block in self.encoder_blocks:
            x = block(x, condition, mask, rotary, next(caches))
        x = self.decoder_in(self.encoder_norm(x)) + self.decoder_position[:, start:stop]
        rotary = self.rotary(self.config.decoder_heads)[start:stop]
        for block in self.decoder_blocks:
            x = block(x, condition, mask, rotary, next(caches))
        return self.token_out(self.decoder_norm(x))

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Squared error of the velocity of tokens (B, N, D), row by row, each cell at its own logit-normal time."""
        noise, rows = noise or GlobalNoise(tokens.values.device), len(tokens)
        labels = self.drop_labels(condition.labels, noise)
        data = tokens.values[:, self.order()]
        t = torch.sigmoid(noise.normal(rows, self.num_cells))
        eps = noise.normal(*data.shape)
        spread = t.repeat_interleave(self.cell_size, dim=1)[..., None]  # (B, cells) -> (B, N, 1)
        path = PATHS["linear"]
        made = self.velocity(path.interpolate(data, eps, spread), self.condition(labels, time_ids(t)))
        return LossOutput((made - path.velocity(data, eps, spread)).square().mean())

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.grid_size**2, self.config.token_dim, seed)

    # sampling ---------------------------------------------------------------------------------------------------

    def caches(self, rows: int) -> list[LayerCache]:
        """An empty cache for each block."""
        heads = [self.config.encoder_heads] * len(self.encoder_blocks)
        heads += [self.config.decoder_heads] * len(self.decoder_blocks)
        return [LayerCache(rows, count, self.config.grid_size**2, self.config.width // count, self.device, self.dtype)
                for count in heads]

    def feed(self, cell: Tensor, labels: Tensor, index: int, cache: list[LayerCache]) -> None:
        """Put a finished cell into caches that hold the cells before it; it is seen at time 0, without noise.

        Args:
            cell: (B, cell, D).
            labels: Long (B,), or (2B,) with the null class in the second half.
            index: of the cell.
            cache: rows as labels.
        """
        cells = cell.to(self.dtype).repeat(len(labels) // len(cell), 1, 1)
        self.velocity(cells, self.condition(labels, torch.zeros_like(labels)[:, None]), index, cache)

    def cell_velocity(self, labels: Tensor, index: int, guidance: float, cache: list[LayerCache]) -> Velocity:
        """dx/dt of one cell as a solver wants it, guided; a pure function of x and t.

        Args:
            labels: Long (B,), or (2B,) with the null class in the second half, which guidance needs.
            index: of the cell.
            guidance: 1 is none.
            cache: rows as labels; holds all cells before this one, and is left as it is.
        """
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            cells = x.float().to(self.dtype).repeat(len(labels) // len(x), 1, 1)
            ids = torch.full((len(labels), 1), int(time_ids(t)), device=x.device)
            out = self.velocity(cells, self.condition(labels, ids), index, cache).to(x.dtype)
            for layer in cache:
                layer.truncate(index * self.cell_size)  # the blocks stored the noisy cell behind the finished ones
            cond, uncond = out[: len(x)], out[len(x):]
            return combine_guidance(cond, uncond if is_guided(guidance) else None, guidance)

        return velocity

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: XARSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float (B, N, D), row by row."""
        rows, labels = len(condition), condition.labels
        if is_guided(sampler.guidance_scale):
            labels = torch.cat([labels, self.null_labels(labels)])
        cache, cells, shape = self.caches(len(labels)), [], (rows, self.cell_size, self.config.token_dim)
        for index in range(self.num_cells):
            if cells:
                self.feed(cells[-1], labels, index - 1, cache)
            strength = sampler.guidance_at(index / max(1, self.num_cells - 1))
            x = euler_maruyama(self.cell_velocity(labels, index, strength, cache), noise.normal(*shape).double(),
                               sde_time_grid(sampler.num_inference_steps),
                               lambda: sampler.temperature * noise.normal(*shape, dtype=torch.float64))
            cells.append(x.float())
            notify(callback, index + 1, self.num_cells)
        places = self.order().argsort()
        return Tokens(torch.cat(cells, dim=1)[:, places])
