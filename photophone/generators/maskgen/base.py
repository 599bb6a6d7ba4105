"""What MaskGen's two generators share: captions as states of CLIP's text tower, an aesthetic score, joint blocks.

Paper: arXiv 2501.07730. Official code: bytedance/1d-tokenizer, Apache-2.0. Weights: Apache-2.0 in the hub
repositories, trained on open image-text data. The tokens are those of
:class:`photophone.tokenizers.titok.text_aware.TATiTok`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.generators.base import Generator
from photophone.generators.conditions import CaptionStates
from photophone.generators.maskgen.blocks import JointBlock, plain_norm
from photophone.generators.sampler import option
from photophone.layers.adaln import adaln_projection, modulated_norm
from photophone.loading.checkpoints import OriginalCheckpoint

SCORE = 6.5
"""The published aesthetic score."""
SCORE_SCALE = 100.0
"""Scores are told the network in hundredths."""


def score_option() -> Any:
    """The field ``aesthetic_score``."""
    return option(SCORE, "score of looks that the picture is asked to have, of those that the training pictures were "
                         "given; read by models that were told it", low=0, high=10)


def official_sizes(official: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that both generators have, from the official ``config.json``.

    Raises:
        KeyError: a setting is missing.
    """
    own, tokens = official["model"]["maskgen"], official["model"]["vq_model"]
    return {"num_tokens": tokens["num_latent_tokens"], "width": own["decoder_embed_dim"], "depth": own["decoder_depth"],
            "num_heads": own["decoder_num_heads"], "text_dim": tokens.get("text_embed_dim", 768),
            "text_length": tokens.get("text_context_length", 77),
            "aesthetic_dim": own["micro_condition_embed_dim"] if own["micro_condition"] else None,
            "condition_drop": own.get("text_drop_prob", 0.1)}


class MaskGenerator(OriginalCheckpoint, Generator):
    """Captions to the tokens of TA-TiTok by a transformer with joint blocks.

    Both kinds have these arguments:

    Args:
        num_tokens: N, of the tokenizer.
        width, depth, num_heads: sizes of the transformer.
        text_dim, text_length: of the states of the text tower.
        aesthetic_dim: width of the embedded aesthetic score; None: the model is told none.
        condition_drop: share of training captions replaced by the empty one.

    A family's config has ``num_tokens``, ``width``, ``depth``, ``num_heads``, ``text_dim``, ``text_length``,
    ``aesthetic_dim`` and ``condition_drop``; its constructor calls :meth:`_build`.
    """

    Condition = CaptionStates

    def _build(self, width: int, depth: int, num_heads: int, text_dim: int, aesthetic_dim: int | None) -> None:
        """The layers that both have; without ``aesthetic_dim`` nothing is told of looks."""
        self.text_in = nn.Linear(text_dim, width)
        self.pooled_in = nn.Linear(text_dim + (aesthetic_dim or 0), width)
        self.blocks = nn.ModuleList(JointBlock(width, num_heads, last=block == depth - 1) for block in range(depth))
        self.norm_out = plain_norm(width)
        self.modulation_out = adaln_projection(width, 2)

    @staticmethod
    @abstractmethod
    def score_waves(scores: Tensor, dim: int) -> Tensor:
        """Embeddings (B, dim) of aesthetic scores (B,); each of the two generators has a form of its own."""

    def pooled(self, vectors: Tensor, scores: Tensor | float) -> Tensor:
        """Captions as vectors (B, text_dim), and the scores of their pictures, (B,) or one, to (B, 1, C)."""
        dim = self.config.aesthetic_dim
        vectors = vectors.to(self.dtype)
        if dim is not None:
            scores = torch.as_tensor(scores, dtype=torch.float32, device=vectors.device).expand(len(vectors))
            vectors = torch.cat([vectors, self.score_waves(SCORE_SCALE * scores, dim).to(vectors)], dim=-1)
        return self.pooled_in(vectors)[:, None]

    def transform(self, x: Tensor, states: Tensor, pooled: Tensor) -> Tensor:
        """Embedded tokens (B, N, C) to normalised states (B, N, C).

        Args:
            x: with positions.
            states: captions (B, T, text_dim).
            pooled: of :meth:`pooled`.
        """
        text = self.text_in(states.to(self.dtype))
        for block in self.blocks:
            x, text = block(x, text, pooled)
        scale, shift = self.modulation_out(pooled).chunk(2, dim=-1)
        return modulated_norm(self.norm_out, x, shift, scale)

    def scores_of(self, condition: CaptionStates, default: float = SCORE) -> Tensor | float:
        """The scores of a condition's rows, or the default where it has none."""
        return default if condition.scores is None else condition.scores

    def with_null(self, condition: CaptionStates, score: float) -> tuple[Tensor, Tensor]:
        """States (2 B, T, text_dim) and :meth:`pooled` (2 B, 1, C) of the captions, then of as many empty ones."""
        null_states = condition.null_states.expand_as(condition.states)
        null_pooled = condition.null_pooled.expand_as(condition.pooled)
        scores = self.scores_of(condition, score)
        both = [self.pooled(vectors, scores) for vectors in (condition.pooled, null_pooled)]
        return torch.cat([condition.states, null_states]), torch.cat(both)

    def read(self, condition: CaptionStates, score: float, guided: bool) -> tuple[Tensor, Tensor]:
        """States and :meth:`pooled` of the captions; with guidance :meth:`with_null`."""
        if guided:
            return self.with_null(condition, score)
        return condition.states, self.pooled(condition.pooled, self.scores_of(condition, score))

    def drop_condition(self, condition: CaptionStates, noise: Noise) -> CaptionStates:
        """A condition of a training pass: a share of ``condition_drop`` becomes empty. No draw otherwise."""
        if not (self.training and self.config.condition_drop):
            return condition
        drop = noise.uniform(len(condition)).to(condition.states.device) < self.config.condition_drop
        return replace(condition, states=torch.where(drop[:, None, None], condition.null_states, condition.states),
                       pooled=torch.where(drop[:, None], condition.null_pooled, condition.pooled))

    def places_at_once(self, rows: int) -> int:
        return rows * self.config.num_tokens

    def check_condition(self, condition: CaptionStates) -> None:
        config = self.config
        shape, rows = (config.text_length, config.text_dim), len(condition)
        wanted = {"states": (rows, *shape), "pooled": (rows, config.text_dim), "null_states": shape,
                  "null_pooled": (config.text_dim,)}
        for name, size in wanted.items():
            given = tuple(getattr(condition, name).shape)
            if given != size:
                raise ValueError(f"{name} of the captions must be {size}, got {given}")
        if condition.scores is not None and tuple(condition.scores.shape) != (rows,):
            raise ValueError(f"scores must be ({rows},), got {tuple(condition.scores.shape)}")

    def example_condition(self, rows: int, seed: int = 0) -> CaptionStates:
        config, generator = self.config, torch.Generator().manual_seed(seed)
        states = torch.randn(rows + 1, config.text_length, config.text_dim, generator=generator)
        pooled = torch.randn(rows + 1, config.text_dim, generator=generator)
        return CaptionStates(states[1:], pooled[1:], states[0], pooled[0])
