"""What ELM's two generators share: classes in front of a grid of codes, blocks of Llama, rotary positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.tokens import Tokens
from photophone.generators.classes import ClassGenerator
from photophone.layers.llama_block import META_KEYS, LlamaStack
from photophone.layers.rotary import grid_rotary, with_condition_rows
from photophone.loading.checkpoints import OriginalCheckpoint

KEYS = [(r"^cls_embedding\.embedding_table\.", "class_embedding."), (r"^layers\.", "stack.blocks."),
        (r"^norm\.", "stack.norm."), *META_KEYS]
"""Patterns of official keys that both have."""


class ELMGenerator(OriginalCheckpoint, ClassGenerator):
    """Classes to codes of a square grid, Long (B, N), or (B, Q, N) where a cell has several.

    A family's config has ``grid_size``, ``code_bits``, ``num_codebooks``, ``num_classes``, ``width``, ``num_heads``,
    ``rotary_base`` and ``label_drop``; its constructor calls :meth:`_build`.
    """

    BACKBONE = "stack.blocks.0"

    def _build(self, num_classes: int, width: int, depth: int, num_heads: int, num_kv_heads: int | None,
               hidden_multiple: int, hidden_factor: float | None, eps: float) -> None:
        """The layers that both have."""
        hidden = int((1 if hidden_factor is None else hidden_factor) * int(8 * width / 3))
        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.stack = LlamaStack(width, num_heads, -(-hidden // hidden_multiple) * hidden_multiple, depth, eps,
                                num_kv_heads=num_kv_heads)

    @property
    def num_codes(self) -> int:
        """Codes of each codebook, all patterns of its bits."""
        return 2**self.config.code_bits

    @property
    def num_cells(self) -> int:
        """Cells of the grid, N."""
        return self.config.grid_size**2

    def rotary(self) -> Tensor:
        """The rotary table of the class and the cells; that of the class is zero, which its queries and keys become
        too: a quirk that the weights depend on."""
        config = self.config
        table = grid_rotary(config.grid_size, config.grid_size, config.width // config.num_heads, config.rotary_base)
        return with_condition_rows(table, 1)

    def in_cells(self, codes: Tensor) -> Tensor:
        """Codes (B, N) or (B, Q, N) as (B, N, Q)."""
        return codes[..., None] if self.config.num_codebooks == 1 else codes.transpose(1, 2)

    def in_books(self, cells: Tensor) -> Tensor:
        """The inverse of :meth:`in_cells`."""
        return cells[..., 0] if self.config.num_codebooks == 1 else cells.transpose(1, 2)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        shape = (rows, self.num_cells, self.config.num_codebooks)
        cells = torch.randint(self.num_codes, shape, generator=torch.Generator().manual_seed(seed))
        return Tokens(self.in_books(cells))


def cell_loss(logits: Tensor, cells: Tensor, **options) -> Tensor:
    """Cross-entropy of logits (..., V) and codes (...) of the same shape; options are those of torch's."""
    return F.cross_entropy(logits.flatten(0, -2), cells.flatten(), **options)
