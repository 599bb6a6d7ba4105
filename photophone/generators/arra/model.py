"""ARRA: Chameleon draws codes; in training the states of the first block are aligned with features of the image.

Paper: arXiv 2503.07334. Official code: xiexing0916/ARRA, no licence file: this is written from the paper and from the
behaviour of the published models. Weights: Chameleon research licence. The codes are those of "chameleon-vq".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, autoregress, collect
from photophone.decoding.memory import Memory
from photophone.generators.base import LossOutput
from photophone.generators.classes import example_codes
from photophone.generators.conditions import CaptionIds
from photophone.generators.prompts import PromptGenerator, append_ids, prompt_rows
from photophone.generators.sampler import (
    Sampler,
    guidance_option,
    temperature_option,
    top_k_option,
    top_p_option,
)
from photophone.heads.base import is_guided
from photophone.kernels.sampling import draw
from photophone.layers.chameleon import Chameleon
from photophone.layers.left_padding import attention_mask, pad_left, positions
from photophone.layers.llama_block import convert_llama_keys
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TURN_END = "<reserved08706>"
"""The word behind a turn of the user in the vocabulary of Chameleon."""


@dataclass(frozen=True)
class ARRASampler(Sampler):
    """Options of :class:`ARRA`. Published: guidance 4.0, and draws from 2,000 codes."""

    guidance_scale: float = guidance_option(3.0)
    temperature: float = temperature_option()
    top_k: int = top_k_option()
    top_p: float = top_p_option()


class ARRA(OriginalCheckpoint, PromptGenerator):
    """Prompts to codes Long (B, N) of an image, row by row.

    A prompt is :class:`photophone.CaptionIds` with all ids in front of the image, padded on the left; its null prompt
    may be shorter, or nothing.

    Args:
        num_tokens, num_codes: N and K of the tokenizer.
        first_code: id of the first code in the vocabulary.
        vocab_size: ids.
        image_start, image_end: ids around an image.
        image_head: ids behind its start, which tell its size.
        row_end: the id behind each row of codes; None: there is none.
        width, depth, num_heads, num_kv_heads, hidden, eps, rotary_base, norm_rows, post_norm: of the transformer, see
            :class:`photophone.layers.chameleon.Chameleon`; published weights of 7B have one row of norms.
        hidden_ids: ids whose logits the losses leave out, as Chameleon does with those of images.
        z_weight: of the squared log-normaliser in the loss.
        feature_dim, align_depth: of :class:`AlignedARRA`: width F of the features, and blocks behind which states are
            read.

    Raises:
        ValueError: ids or depths that do not fit, or rows of codes that make no square.
    """

    Sampler = ARRASampler
    BACKBONE = "backbone.blocks.0"
    forms_prompts = True
    aligned = False
    DROPPED_KEYS = ("model.vqmodel.*", "adaptor.*")  # the tokenizer, and layers of AlignedARRA

    def __init__(self, num_tokens: int = 1024, num_codes: int = 8192, first_code: int = 4, vocab_size: int = 65536,
                 image_start: int = 8197, image_end: int = 8196, image_head: Sequence[int] = (),
                 row_end: int | None = None, width: int = 4096, depth: int = 32, num_heads: int = 32,
                 num_kv_heads: int | None = None, hidden: int = 11008, eps: float = 1e-5,
                 rotary_base: float = 10_000.0, norm_rows: int | None = 1, post_norm: bool = False,
                 z_weight: float = 1e-5, hidden_ids: Sequence[int] = (), feature_dim: int = 512,
                 align_depth: int = 1) -> None:
        super().__init__()
        if first_code + num_codes > vocab_size or max(image_start, image_end, row_end or 0, *image_head) >= vocab_size:
            raise ValueError(f"codes and ids of images must lie below vocab_size {vocab_size}")
        self.side = math.isqrt(num_tokens)
        if row_end is not None and self.side**2 != num_tokens:
            raise ValueError(f"rows of codes make a square, got num_tokens {num_tokens}; leave row_end out")
        if not 1 <= align_depth <= depth:
            raise ValueError(f"align_depth must lie in 1..{depth}, got {align_depth}")
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.backbone = Chameleon(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads,
                                  rotary_base=rotary_base, norm_rows=norm_rows, post_norm=post_norm)
        self.text_head = nn.Linear(width, vocab_size, bias=False)
        if self.aligned:
            self.adaptor = nn.Sequential(nn.Linear(width, feature_dim), nn.GELU(), nn.Linear(feature_dim, feature_dim))
        nn.init.normal_(self.text_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [(r"^model\.embed_tokens\.", "text_embedding."), (r"^lm_head\.", "text_head."),
                                    (r"^adaptor\.layers\.", "adaptor.")])
        return convert_llama_keys(state, "model.", "backbone.")

    # training -----------------------------------------------------------------------------------------------------

    def states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """States (B, L, C) of whole sequences Long (B, L).

        Args:
            mask: bool (B, L), False for padding on the left; None: there is none.
        """
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return self.backbone.at(self.text_embedding(ids), positions(mask), attention_mask(mask))

    def losses(self, ids: Tensor, labels: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Cross-entropy "ce" and "z": scalars, not weighted.

        Args:
            ids: Long (B, L).
            labels: Long (B, L): ids, or -100 where nothing is to be predicted.
            mask: see :meth:`states`.
        """
        logits, targets = self.text_head(self.states(ids, mask)[:, :-1]).float(), labels[:, 1:]
        if self.config.hidden_ids:
            hidden = torch.tensor(self.config.hidden_ids, device=logits.device)
            logits = logits.index_fill(-1, hidden, torch.finfo(logits.dtype).min)
        return {"ce": F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100),
                "z": torch.logsumexp(logits, dim=-1)[targets != -100].square().mean()}

    def sequence(self, tokens: Tokens, condition: CaptionIds) -> tuple[Tensor, Tensor]:
        """Ids Long (B, L) of prompts, images and their ends, and a mask, False for padding."""
        config = self.config
        image = tokens.values + config.first_code
        if config.row_end is not None:
            ends = torch.full((len(image), self.side, 1), config.row_end, device=image.device)
            image = torch.cat([image.unflatten(1, (self.side, self.side)), ends], dim=2).flatten(1)
        ids, mask = append_ids(condition.ids, condition.mask, [config.image_start, *config.image_head])
        ids, mask = torch.cat([ids, image], dim=1), torch.cat([mask, torch.ones_like(image, dtype=torch.bool)], dim=1)
        return append_ids(ids, mask, [config.image_end])

    def loss(self, tokens: Tokens, condition: CaptionIds, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy of the prompts' ids and of codes Long (B, N), and ``z_weight`` times "z"."""
        ids, mask = self.sequence(tokens, condition)
        parts = self.losses(ids, ids.masked_fill(~mask, -100), mask)
        return LossOutput(parts["ce"] + self.config.z_weight * parts["z"],
                          {name: value.detach() for name, value in parts.items()})

    # sampling -----------------------------------------------------------------------------------------------------

    def _generate(self, condition: CaptionIds, *, noise: Noise, sampler: ARRASampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, N)."""
        config, guided = self.config, is_guided(sampler.guidance_scale)
        ids, mask = append_ids(*prompt_rows(condition, guided), [config.image_start, *config.image_head])
        memory = Memory(self.backbone, len(ids), ids.shape[1] + config.num_tokens + self.side)

        def step(index: int, previous: Tensor | None) -> Tensor:
            if previous is None:
                states = memory(self.text_embedding(ids), mask)
            else:
                read = previous + config.first_code
                if config.row_end is not None and index % self.side == 0:
                    read = F.pad(read, (0, 1), value=config.row_end)
                states = memory(self.text_embedding(read).repeat(len(ids) // len(condition), 1, 1))
            logits = self.text_head(states[:, -1:])[..., config.first_code:config.first_code + config.num_codes]
            cond, uncond = logits.chunk(2) if guided else (logits, None)
            return draw(cond, uncond, sampler.guidance_scale, noise, temperature=sampler.temperature,
                        top_k=sampler.top_k, top_p=sampler.top_p)

        return Tokens(collect(autoregress(step, config.num_tokens, callback=callback))[0])

    def encode_prompts(self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> CaptionIds:
        """Prompts and the end of the user's turn, as ids padded on the left; the null prompt is nothing."""
        rows = [torch.tensor(tokenizer(prompt + TURN_END)["input_ids"], dtype=torch.long) for prompt in prompts]
        return CaptionIds(*pad_left(rows), rows[0][:0])

    # what callers need to know ------------------------------------------------------------------------------------

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.num_tokens, self.config.num_codes, seed)


class AlignedARRA(ARRA):
    """With the layers that guess features of the whole image from the states of its tokens.

    With ``z_weight`` 0 the official training leaves the alignment out; here it is what its caller adds.
    """

    DROPPED_KEYS = ("model.vqmodel.*",)  # the tokenizer
    aligned = True

    def early_states(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """States (B, N, C) of the image's tokens behind the first blocks; the sequences end with it and one id."""
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        early = self.backbone.at(self.text_embedding(ids), positions(mask), attention_mask(mask),
                                 depth=self.config.align_depth)
        return early[:, -(self.config.num_tokens + 1):-1]

    def alignment_loss(self, ids: Tensor, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """One minus the mean cosine of the guesses and features (B, F), a scalar; see :meth:`early_states`."""
        guessed = self.adaptor(self.early_states(ids, mask))
        return 1 - F.cosine_similarity(guessed, features[:, None], dim=-1).mean()
