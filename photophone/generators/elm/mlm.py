"""ELM's masked model: all codes of a picture from a class, in a few steps. For paper and licences see
:mod:`photophone.generators.elm.model`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.limits import MAX_MASKED_TEMPERATURE
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback
from photophone.decoding.masked import decode_masked_cells
from photophone.generators.base import LossOutput
from photophone.generators.conditions import ClassLabels
from photophone.generators.elm.base import KEYS, ELMGenerator, cell_loss
from photophone.generators.sampler import (
    GuidedSampler,
    guidance_option,
    order_steps_option,
    schedule_option,
    temperature_option,
)
from photophone.heads.base import is_guided
from photophone.loading.checkpoints import State, rename_keys

NORM_EPS = 1e-5


@dataclass(frozen=True)
class ELMMLMSampler(GuidedSampler):
    """Options of :class:`ELMMLM`. Published: 10 steps."""

    guidance_scale: float = guidance_option(3.0)
    guidance_schedule: str = schedule_option("constant")
    num_order_steps: int = order_steps_option(10, "steps that each keep the surest cells and mask the rest again")
    temperature: float = temperature_option(1.0, MAX_MASKED_TEMPERATURE)


class TiedHead(nn.Module):
    """States (B, N, C) to logits (B, N, V): a layer, and products with the embeddings, which get no gradient here."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """x (B, N, C) and the table of embeddings (V, C)."""
        return F.linear(self.norm(F.gelu(self.linear(x))), table.detach(), self.bias)


class ELMMLM(ELMGenerator):
    """Classes to codes Long (B, N), or (B, Q, N), by masked decoding; several codes of a cell are places of their own.

    Args:
        grid_size, code_bits, num_codebooks, num_classes, width, depth, num_heads, num_kv_heads, hidden_multiple,
            hidden_factor, eps, rotary_base, label_drop: see :class:`photophone.generators.elm.model.ELMAR`.
        mask_steps: steps of the schedule that the share of masked cells is drawn from in training.
        smoothing: of the labels.
    """

    Sampler = ELMMLMSampler
    DROPPED_KEYS = ("output.weight", "pos_embed.weight", "proj.weight")  # nothing reads them

    def __init__(self, grid_size: int = 16, code_bits: int = 16, num_codebooks: int = 1, num_classes: int = 1000,
                 width: int = 1024, depth: int = 24, num_heads: int = 16, num_kv_heads: int | None = None,
                 hidden_multiple: int = 256, hidden_factor: float | None = None, eps: float = 1e-5,
                 rotary_base: float = 10_000.0, label_drop: float = 0.1, mask_steps: int = 10,
                 smoothing: float = 0.1) -> None:
        super().__init__()
        self._build(num_classes, width, depth, num_heads, num_kv_heads, hidden_multiple, hidden_factor, eps)
        self.token_embedding = nn.Embedding(2**code_bits + 1, width)
        self.token_head = TiedHead(width, 2**code_bits + 1)
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02)

    @property
    def mask_id(self) -> int:
        """The token that stands for "masked"."""
        return self.num_codes

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [
            *KEYS, (r"^tok_embedder\.", "token_embedding."), (r"^mlm_layer\.fc\.", "token_head.linear."),
            (r"^mlm_layer\.ln\.", "token_head.norm."), (r"^mlm_layer\.bias$", "token_head.bias")])
        return {key: value.flatten() if key == "token_head.bias" else value for key, value in state.items()}

    def logits(self, ids: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, N Q, V) of partly masked ids Long (B, N Q), cell by cell.

        Args:
            labels: Long (B,) in 0..num_classes, the last for the null class.
        """
        books = self.config.num_codebooks
        classes = self.class_embedding(labels)[:, None].expand(-1, books, -1)
        x = torch.cat([classes, self.token_embedding(ids)], dim=1)
        x = self.stack(x, None, self.rotary().repeat_interleave(books, dim=0))
        return self.token_head(x, self.token_embedding.weight)[:, books:, :self.num_codes]

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of the codes of hidden cells; their share is that of a random step of the schedule."""
        noise = noise or GlobalNoise(tokens.values.device)
        labels, cells = self.drop_labels(condition.labels, noise), self.in_cells(tokens.values)
        rows, length, _ = cells.shape
        step = noise.integers(0, self.config.mask_steps, rows).to(cells.device)
        counts = (length * torch.cos(math.pi / 2 * step / self.config.mask_steps)).floor().clamp(min=1)
        masked = noise.uniform(rows, length).to(cells.device).argsort(dim=1).argsort(dim=1) < counts[:, None]
        return LossOutput(self.masked_loss(cells, masked, labels))

    def masked_loss(self, cells: Tensor, masked: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of codes Long (B, N, Q) where ``masked`` bool (B, N) hides them; labels as in
        :meth:`logits`."""
        hidden = masked[..., None].expand_as(cells).flatten(1)
        codes = cells.flatten(1)
        logits = self.logits(codes.masked_fill(hidden, self.mask_id), labels)
        return cell_loss(logits[hidden], codes[hidden], label_smoothing=self.config.smoothing)

    def places_at_once(self, rows: int) -> int:
        return rows * self.num_cells * self.config.num_codebooks

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: ELMMLMSampler,
                  callback: Callback | None) -> Tokens:
        labels = condition.labels
        both = torch.cat([labels, self.null_labels(labels)]) if is_guided(sampler.guidance_scale) else labels

        def logits(ids: Tensor, guided: bool) -> Tensor:
            return self.logits(ids.repeat(2, 1), both) if guided else self.logits(ids, labels)

        cells = decode_masked_cells(
            logits, len(labels), self.num_cells, self.config.num_codebooks, self.mask_id, noise=noise,
            num_steps=sampler.num_order_steps, guidance=sampler.guidance_at, temperature=sampler.temperature,
            callback=callback, device=self.device)
        return Tokens(self.in_books(cells))
