"""Orthus: Chameleon reads text and continuous image tokens; a language head writes text, a diffusion head images.

Paper: arXiv 2412.00127. Official code: zhijie-group/Orthus, no licence file: this is written from the paper and from
the behaviour of the published models. Weights: Chameleon research licence. The tokens are those of "orthus-vae".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, autoregress, collect
from photophone.decoding.memory import Memory
from photophone.generators.base import LossOutput
from photophone.generators.classes import example_values
from photophone.generators.conditions import CaptionIds
from photophone.generators.interleaved import Given, InterleavedGenerator, Request, TextSampler, ids_of, word_of
from photophone.generators.prompts import append_ids, drop_prompts, prompt_rows
from photophone.generators.sampler import guidance_option, steps_option, temperature_option
from photophone.heads.base import is_guided
from photophone.heads.velocity_diffusion import VelocityDiffusionHead
from photophone.layers.chameleon import Chameleon
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.llama_block import convert_llama_keys
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_SCALE = 0.1
"""On tokens, in front of the diffusion head."""
NULL_REQUESTS = {"any": "generate images", "image": "Generate an image.", "text": "generate images"}
"""What stands for a request in rows of guidance, by the kind of the answer, as the authors' scripts have it."""


@dataclass(frozen=True)
class OrthusSampler(TextSampler):
    """Options of :class:`Orthus`. Published: 100 steps a token, and guidance 5.0, or 3.0 among text."""

    num_inference_steps: int = steps_option(100, "deterministic diffusion steps of each token")
    guidance_scale: float = guidance_option(5.0)
    temperature: float = temperature_option()


class Orthus(OriginalCheckpoint, InterleavedGenerator):
    """Prompts to continuous tokens (B, N, D) of an image, row by row.

    A prompt is :class:`photophone.CaptionIds` with all ids in front of the image, padded on the left; its null prompt
    may be shorter.

    Args:
        num_tokens, token_dim: N and D of the tokenizer.
        num_codes, first_code: codes that tokens are compared with, and the id of the first in the vocabulary.
        vocab_size: ids.
        image_id, image_start, image_end: ids that stand for an image token, and around an image.
        turn_end: the id behind a turn of the user or the model.
        width, depth, num_heads, num_kv_heads, hidden, eps, rotary_base, norm_rows: of the transformer, see
            :class:`photophone.layers.chameleon.Chameleon`.
        head_width, head_depth: of the diffusion head.
        batch_mul: noises drawn for each token in a training step.
        text_drop: share of training prompts replaced by the null prompt.
    """

    Sampler = OrthusSampler
    BACKBONE = "backbone.blocks.0"
    DROPPED_KEYS = ("model.vqmodel.*",)  # the tokenizer

    def __init__(self, num_tokens: int = 1024, token_dim: int = 256, num_codes: int = 8192, first_code: int = 4,
                 vocab_size: int = 65536, image_id: int = 8711, image_start: int = 8197, image_end: int = 8196,
                 turn_end: int = 8710, width: int = 4096, depth: int = 32, num_heads: int = 32,
                 num_kv_heads: int | None = None, hidden: int = 11008, eps: float = 1e-5,
                 rotary_base: float = 10_000.0, norm_rows: int | None = None, head_width: int = 1536,
                 head_depth: int = 3, batch_mul: int = 8, text_drop: float = 0.1) -> None:
        super().__init__()
        if first_code + num_codes > vocab_size or max(image_id, image_start, image_end, turn_end) >= vocab_size:
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
        ids, mask = drop_prompts(condition, self.config.text_drop if self.training else 0.0, noise)
        ids, mask = append_ids(ids, mask, [self.image_start])
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

    def _generate(self, condition: CaptionIds, *, noise: Noise, sampler: OrthusSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float32 (B, N, D)."""
        ids, mask = append_ids(*prompt_rows(condition, is_guided(sampler.guidance_scale)), [self.image_start])
        memory = Memory(self.backbone, len(ids), ids.shape[1] + self.config.num_tokens)
        hidden = memory(self.embed(ids), mask)[:, -1:]
        return Tokens(self.draw_tokens(memory, hidden, len(condition), noise, sampler, callback))

    def draw_tokens(self, memory: Memory, hidden: Tensor, rows: int, noise: Noise, sampler: OrthusSampler,
                    callback: Callback | None) -> Tensor:
        """Tokens float32 (B, N, D) of images whose start ``memory`` has read; it reads all but the last of them.

        Args:
            hidden: states (B or 2 B, 1, C) of the start, those of guidance behind.
            rows: B.
        """
        copies = len(hidden) // rows

        def step(index: int, previous: Tensor | None) -> Tensor:
            states = hidden if previous is None else memory(self.embed_tokens(previous).repeat(copies, 1, 1))
            made = self.token_head.sample(states, guidance=sampler.guidance_scale, temperature=sampler.temperature,
                                          noise=noise, num_steps=sampler.num_inference_steps)
            return made / TOKEN_SCALE

        return collect(autoregress(step, self.config.num_tokens, callback=callback))[0]

    # text and images ----------------------------------------------------------------------------------------------

    @property
    def image_start(self) -> int:
        return self.config.image_start

    @property
    def ends(self) -> frozenset[int]:
        return frozenset([self.config.turn_end])

    def session(self, request: Request, noise: Noise, sampler: OrthusSampler) -> OrthusSession:
        return OrthusSession(self, request, noise, sampler)

    def encode_request(self, tokenizer: PreTrainedTokenizerBase, parts: Sequence[Given], kind: str = "any") -> Request:
        """Images between their ids, where they stand in the text, and the end of the turn behind all."""
        config = self.config
        start, token, end, turn_end = (word_of(tokenizer, id) for id in (
            config.image_start, config.image_id, config.image_end, config.turn_end))
        image = start + token * config.num_tokens + end
        text = "".join(part if isinstance(part, str) else image for part in parts)
        images = tuple(part for part in parts if not isinstance(part, str))
        null_ids = ids_of(tokenizer, NULL_REQUESTS[kind] + turn_end)
        return Request(ids_of(tokenizer, text + turn_end), images, null_ids=null_ids)

    # what callers need to know ------------------------------------------------------------------------------------

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.num_tokens, self.config.token_dim, seed)


class OrthusSession:
    """A request that :class:`Orthus` has read and goes on with; see
    :class:`photophone.decoding.interleaved.Session`."""

    def __init__(self, model: Orthus, request: Request, noise: Noise, sampler: OrthusSampler) -> None:
        self.model, self.noise, self.sampler, self.null_ids = model, noise, sampler, request.null_ids
        self.memory = Memory(model.backbone, 1, len(request.ids) + model.config.num_tokens)
        tokens = torch.cat(request.images).to(model.device) if request.images else None
        self.last = self.memory(model.embed(request.ids.to(model.device)[None], tokens))[:, -1:]
        first, config = model.config.first_code, model.config
        self.silent = torch.tensor([*range(first, first + config.num_codes), config.image_id, config.image_end],
                                   device=model.device)

    def logits(self) -> Tensor:
        """See the protocol; ids of codes and of tokens of images are no text."""
        return self.model.text_head(self.last)[:, 0].float().index_fill(-1, self.silent, -torch.inf)

    def read(self, id: int) -> None:
        """See the protocol."""
        self.last = self.memory(self.model.embed(torch.tensor([[id]], device=self.model.device)))

    def draw_image(self, callback: Callback | None) -> Tokens:
        """See the protocol; with guidance beside a row that read nothing but the null request."""
        model, sampler, count = self.model, self.sampler, self.model.config.num_tokens
        memory, hidden = self.memory, self.last
        if is_guided(sampler.guidance_scale):
            ids = torch.cat([self.null_ids, torch.tensor([model.image_start])]).to(model.device)[None]
            null = Memory(model.backbone, 1, ids.shape[1])
            hidden = torch.cat([hidden, null(model.embed(ids))[:, -1:]])
            memory = Memory.joined([self.memory, null], count)
        tokens = model.draw_tokens(memory, hidden, 1, self.noise, sampler, callback)
        if memory is not self.memory:
            self.memory.take(memory, count - 1)
        self.memory(model.embed_tokens(tokens[:, -1:]))
        self.read(model.config.image_end)
        return Tokens(tokens)
