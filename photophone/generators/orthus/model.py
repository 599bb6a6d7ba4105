"""Orthus: Chameleon reads text and continuous image tokens; a language head writes text, a diffusion head images.

Paper: arXiv 2412.00127. Official code: zhijie-group/Orthus, no licence file: this is written from the paper and from
the behaviour of the published models. Weights: Chameleon research licence. The tokens are those of "orthus-vae".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, autoregress, collect
from photophone.generators.base import Generator, LossOutput
from photophone.generators.classes import example_values
from photophone.generators.conditions import CaptionIds
from photophone.generators.prompts import check_prompts, example_prompts, null_prompts
from photophone.generators.sampler import Sampler, guidance_option, steps_option, temperature_option
from photophone.heads.base import is_guided
from photophone.heads.velocity_diffusion import VelocityDiffusionHead
from photophone.layers.chameleon import Chameleon
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.llama_block import convert_llama_keys
from photophone.layers.transformer import LayerCache
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

TOKEN_SCALE = 0.1
"""On tokens, in front of the diffusion head."""


@dataclass(frozen=True)
class OrthusSampler(Sampler):
    """Options of :class:`Orthus`. Published: guidance 5.0 and 100 steps a token."""

    num_inference_steps: int = steps_option(100, "deterministic diffusion steps of each token")
    guidance_scale: float = guidance_option(5.0)
    temperature: float = temperature_option()


class Orthus(OriginalCheckpoint, Generator):
    """Prompts to continuous tokens (B, N, D) of an image, row by row.

    A prompt is :class:`photophone.CaptionIds` with all ids in front of the image, padded on the left; its null prompt
    may be shorter.

    Args:
        num_tokens, token_dim: N and D of the tokenizer.
        num_codes, first_code: codes that tokens are compared with, and the id of the first in the vocabulary.
        vocab_size: ids.
        image_id, image_start, image_end: ids that stand for an image token, and around an image.
        width, depth, num_heads, num_kv_heads, hidden, eps, rotary_base, norm_rows: of the transformer, see
            :class:`photophone.layers.chameleon.Chameleon`.
        head_width, head_depth: of the diffusion head.
        batch_mul: noises drawn for each token in a training step.
        text_drop: share of training prompts replaced by the null prompt.
    """

    Condition = CaptionIds
    Sampler = OrthusSampler
    DROPPED_KEYS = ("model.vqmodel.*",)  # the tokenizer

    def __init__(self, num_tokens: int = 1024, token_dim: int = 256, num_codes: int = 8192, first_code: int = 4,
                 vocab_size: int = 65536, image_id: int = 8711, image_start: int = 8197, image_end: int = 8196,
                 width: int = 4096, depth: int = 32, num_heads: int = 32, num_kv_heads: int | None = None,
                 hidden: int = 11008, eps: float = 1e-5, rotary_base: float = 10_000.0, norm_rows: int | None = None,
                 head_width: int = 1536, head_depth: int = 3, batch_mul: int = 8, text_drop: float = 0.1) -> None:
        super().__init__()
        if first_code + num_codes > vocab_size or max(image_id, image_start, image_end) >= vocab_size:
            raise ValueError(f"codes and ids of images must lie below vocab_size {vocab_size}")
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.codebook_in = nn.Parameter(torch.randn(num_codes, token_dim) / token_dim**0.5)
        self.backbone = Chameleon(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads,
                                  rotary_base=rotary_base, norm_rows=norm_rows)
        self.text_head = nn.Linear(width, vocab_size, bias=False)
        self.token_head = VelocityDiffusionHead(width, token_dim, head_width, head_depth, batch_mul=batch_mul)
        nn.init.normal_(self.text_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = rename_keys(state, [
            (r"^model\.embed_tokens\.", "text_embedding."), (r"^model\.codebook_in\.weight$", "codebook_in"),
            (r"^lm_head\.", "text_head."), (r"^mlp_head\.", "token_head.net.")])
        return convert_llama_keys(state, "model.", "backbone.")

    # embeddings and states ----------------------------------------------------------------------------------------

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Continuous tokens (B, n, D) to embeddings: those of codes, weighted by how near they are."""
        codes = self.codebook_in.float()
        tokens = tokens.float()
        distances = tokens.square().sum(-1, keepdim=True) + codes.square().sum(-1) - 2 * tokens @ codes.t()
        first = self.config.first_code
        table = self.text_embedding.weight[first:first + len(codes)]
        return torch.softmax(-distances, dim=-1).to(table.dtype) @ table

    def embed(self, ids: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Embeddings (B, L, C) of ids Long (B, L), in which tokens (n, D) fill the places of ``image_id`` in order."""
        x = self.text_embedding(ids)
        if tokens is None:
            return x
        places = (ids == self.config.image_id)[..., None]
        return x.masked_scatter(places, self.embed_tokens(tokens.reshape(1, -1, tokens.shape[-1])).to(x.dtype))

    def states(self, ids: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None,
               places: Tensor | None = None) -> Tensor:
        """States (B, L, C) of whole sequences; see :meth:`embed`.

        Args:
            mask: bool (B, L), False for padding; None: there is none.
            places: Long (B, L), positions; None: padding has none.
        """
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return self.backbone.at(self.embed(ids, tokens), positions(mask) if places is None else places,
                                attention_mask(mask))

    # training and sampling ----------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: CaptionIds, *, noise: Noise | None = None) -> LossOutput:
        """The diffusion loss of tokens (B, N, D) behind their prompts, plus the cross-entropy of the prompts' text."""
        noise = noise or GlobalNoise(tokens.values.device)
        ids, mask = condition.ids, condition.mask
        if self.training and self.config.text_drop:
            drop = (noise.uniform(len(ids)) < self.config.text_drop)[:, None]
            null_ids, null_mask = null_prompts(condition)
            ids, mask = torch.where(drop, null_ids, ids), torch.where(drop, null_mask, mask)
        ids, mask = self.with_start(ids, mask)
        known = self.embed_tokens(tokens.values[:, :-1])
        x = torch.cat([self.text_embedding(ids), known.to(self.dtype)], dim=1)
        seen = torch.cat([mask, mask.new_ones(known.shape[:2])], dim=1)
        states = self.backbone.at(x, positions(seen), attention_mask(seen))
        length = ids.shape[1] - 1  # the start of the image predicts its first token
        image = self.token_head.loss(states[:, length:], TOKEN_SCALE * tokens.values, noise=noise)
        logits = self.text_head(states[:, :length]).float()
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        read = mask[:, :length].flatten()
        text = (losses * read).sum() / read.sum()
        return LossOutput(image + text, {"image": image.detach(), "text": text.detach()})

    def with_start(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Prompts Long (B, L) and their mask with the start of an image behind."""
        start = torch.full((len(ids), 1), self.config.image_start, device=ids.device)
        return torch.cat([ids, start], dim=1), torch.cat([mask, torch.ones_like(start, dtype=torch.bool)], dim=1)

    def _generate(self, condition: CaptionIds, *, noise: Noise, sampler: OrthusSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float32 (B, N, D)."""
        ids, mask, rows = condition.ids, condition.mask, len(condition)
        if is_guided(sampler.guidance_scale):
            null_ids, null_mask = null_prompts(condition)
            ids, mask = torch.cat([ids, null_ids]), torch.cat([mask, null_mask])
        ids, mask = self.with_start(ids, mask)
        caches = self.backbone.caches(len(ids), ids.shape[1] + self.config.num_tokens)

        def step(index: int, previous: Tensor | None) -> Tensor:
            nonlocal mask
            hidden = self.first_states(ids, mask, caches) if previous is None else None
            if previous is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                x = self.embed_tokens(previous).repeat(len(ids) // rows, 1, 1)
                hidden = self.backbone.at(x, positions(mask)[:, -1:], mask[:, None, None], caches)
            made = self.token_head.sample(hidden, guidance=sampler.guidance_scale, temperature=sampler.temperature,
                                          noise=noise, num_steps=sampler.num_inference_steps)
            return made / TOKEN_SCALE

        return Tokens(collect(autoregress(step, self.config.num_tokens, callback=callback))[0])

    def first_states(self, ids: Tensor, mask: Tensor, caches: list[LayerCache]) -> Tensor:
        """States (B, 1, C) of the last of ids Long (B, L), which fill empty caches."""
        return self.backbone.at(self.embed(ids), positions(mask), attention_mask(mask), caches)[:, -1:]

    # what callers need to know ------------------------------------------------------------------------------------

    def check_condition(self, condition: CaptionIds) -> None:
        check_prompts(condition, self.config.vocab_size)

    def example_condition(self, rows: int, seed: int = 0) -> CaptionIds:
        return example_prompts(rows, self.config.vocab_size, seed)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.num_tokens, self.config.token_dim, seed)
