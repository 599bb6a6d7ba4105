"""Ming-UniVision: a language model reads and writes text, and images as the continuous tokens of MingTok.

Paper: arXiv 2510.06590. Official code and weights: inclusionAI/Ming-UniVision, MIT. No tensors of the language model
were recorded: its parts are written from its published settings, the loop from its description; the flow head and the
tokenizer are compared with the official code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, autoregress, collect
from photophone.decoding.memory import Memory
from photophone.generators.base import LossOutput
from photophone.generators.classes import example_values
from photophone.generators.conditions import CaptionIds
from photophone.generators.interleaved import Given, InterleavedGenerator, Request, TextSampler, ids_of, word_of
from photophone.generators.ming.experts import ExpertLlama
from photophone.generators.ming.session import MingSession
from photophone.generators.prompts import append_ids, prompt_rows
from photophone.generators.sampler import guidance_option, option, steps_option, temperature_option
from photophone.heads.base import is_guided
from photophone.heads.branched import BranchedFlowHead
from photophone.layers.left_padding import attention_mask, positions
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from photophone.tokenizers.base import ImageTokenizer

USER, ASSISTANT = "<role>HUMAN</role>", "<role>ASSISTANT</role>"
KEYS = [
    (r"^model\.model\.word_embeddings\.", "text_embedding."), (r"^model\.model\.layers\.", "backbone.blocks."),
    (r"^model\.model\.norm\.", "backbone.norm."), (r"^model\.lm_head\.", "text_head."),
    (r"^model\.vis_head\.", "image_head."), (r"^linear_proj\.", "image_in."),
    (r"\.input_layernorm\.", ".norm1."), (r"\.post_attention_layernorm\.", ".norm2."),
    (r"\.attention\.query_key_value\.", ".attention.to_qkv."), (r"\.attention\.dense\.", ".attention.to_out."),
    (r"\.mlp\.shared_experts\.", ".feed_forward.shared."), (r"(\.blocks\.\d+)\.mlp\.", r"\1.feed_forward."),
    (r"\.gate_proj\.", ".gate."), (r"\.up_proj\.", ".value."), (r"\.down_proj\.", ".out.")]
HEAD_PREFIX = "model.diffloss."
NOT_OURS = ("model.model.layers.*.mlp.audio_gate.*", "vision.*")
"""Gates of sound, which the model never reads, and the tokenizer."""


@dataclass(frozen=True)
class MingSampler(TextSampler):
    """Options of :class:`MingUniVision`. Published: guidance 3.0 and 1.1, 16 steps, the likeliest ids of text.

    The official code takes other strengths of guidance from its users and ignores them.
    """

    num_inference_steps: int = steps_option(16)
    guidance_scale: float = guidance_option(3.0)
    image_guidance: float = option(1.1, "guidance by the images that were given; 1 is none", low=0, high=30)
    temperature: float = temperature_option()
    time_shift: float = option(1.0, "above 1 puts more steps where there is more noise", low=0.01, high=100)
    renorm: str = option("none", "channel: guidance makes no velocity longer", choices=("none", "channel"))


class MingUniVision(OriginalCheckpoint, InterleavedGenerator):
    """Prompts to continuous tokens (B, N, D) of an image, and requests of text and images to answers of both.

    The last token of MingTok, which draws nothing, is zero. :meth:`connect` gives the model its tokenizer, whose
    features it reads.

    Args:
        num_tokens, token_dim: N and D of the tokenizer.
        feature_dim: width of its features.
        vocab_size: ids.
        image_id, image_start, image_end: ids that stand for a token of an image, and around an image.
        text_end: the id that ends an answer.
        width, depth, num_heads, num_kv_heads, head_dim, hidden, num_experts, top_experts, shared_experts, eps,
            rotary_base: see :class:`photophone.generators.ming.experts.ExpertLlama`.
        head_width, head_depth, head_ratio: of the flow head, see :class:`photophone.heads.branched.BranchedFlowHead`.

    Raises:
        ValueError: ids outside the vocabulary, or fewer experts than a position goes through.
    """

    Sampler = MingSampler
    BACKBONE = "backbone.blocks.0"
    DROPPED_KEYS = NOT_OURS

    def __init__(self, num_tokens: int = 257, token_dim: int = 32, feature_dim: int = 1024, vocab_size: int = 126464,
                 image_id: int = 126346, image_start: int = 126347, image_end: int = 126348, text_end: int = 126081,
                 width: int = 2048, depth: int = 28, num_heads: int = 16, num_kv_heads: int = 4, head_dim: int = 128,
                 hidden: int = 1408, num_experts: int = 64, top_experts: int = 6, shared_experts: int = 2,
                 eps: float = 1e-5, rotary_base: float = 600_000.0, head_width: int = 3072, head_depth: int = 12,
                 head_ratio: float = 4.0) -> None:
        super().__init__()
        if max(image_id, image_start, image_end, text_end) >= vocab_size:
            raise ValueError(f"ids of images and of the end must lie below vocab_size {vocab_size}")
        if top_experts > num_experts:
            raise ValueError(f"top_experts must be 1 to num_experts {num_experts}, got {top_experts}")
        self._tokenizer: tuple[ImageTokenizer, ...] = ()  # in a tuple, so that it is no part of the model's weights
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.backbone = ExpertLlama(width, depth, num_heads, num_kv_heads, head_dim, hidden, num_experts, top_experts,
                                    shared_experts, eps, rotary_base)
        self.text_head = nn.Linear(width, vocab_size, bias=False)
        self.image_in = nn.Sequential(nn.Linear(feature_dim, width), nn.GELU(), nn.Linear(width, width))
        self.image_head = nn.Sequential(nn.Linear(width, head_width), nn.LayerNorm(head_width, eps=1e-6))
        self.token_head = BranchedFlowHead(head_width, token_dim, head_width, head_depth, head_ratio)
        nn.init.normal_(self.text_embedding.weight, std=0.02)
        for block in self.backbone.blocks:  # the loss is of images that are made: these choose for given ones
            block.feed_forward.image_gate.requires_grad_(False)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        head = {key.removeprefix(HEAD_PREFIX): value for key, value in state.items() if key.startswith(HEAD_PREFIX)}
        rest = {key: value for key, value in state.items() if not key.startswith(HEAD_PREFIX)}
        made = BranchedFlowHead.convert_state_dict(head)
        return rename_keys(rest, KEYS) | {f"token_head.{key}": value for key, value in made.items()}

    def connect(self, tokenizer: ImageTokenizer) -> None:
        """Read the features of this tokenizer from now on; it stays where it is and is not saved with the model.

        Raises:
            ValueError: a tokenizer of another kind or other sizes.
        """
        wanted = (self.config.num_tokens, self.config.token_dim, self.config.feature_dim)
        given = (tokenizer.num_tokens, tokenizer.token_dim, tokenizer.config.get("semantic_width"))
        if given != wanted:
            raise ValueError(f"the model needs a MingTok of tokens, width and features {wanted}, got {given} of a "
                             f"{type(tokenizer).__name__}")
        self._tokenizer = (tokenizer,)

    @property
    def tokenizer(self) -> ImageTokenizer:
        """That :meth:`connect` was given.

        Raises:
            ValueError: it was given none.
        """
        if not self._tokenizer:
            raise ValueError("MingUniVision reads the features of its tokenizer; call connect(tokenizer) first")
        return self._tokenizer[0]

    def embed_tokens(self, tokens: Tensor, caches: list | None = None) -> Tensor:
        """Continuous tokens (B, n, D) to embeddings (B, n, C) by the features of the tokenizer; with its caches, those
        of the next tokens."""
        features = self.tokenizer.semantics(tokens.to(self.tokenizer.dtype), caches)
        return self.image_in(features.to(self.dtype))

    # training -----------------------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: CaptionIds, *, noise: Noise | None = None) -> LossOutput:
        """Flow matching of tokens (B, N, D) but the last behind their prompts, plus the cross-entropy of the prompts.

        The official training is not published; this is the paper's loss.
        """
        noise = noise or GlobalNoise(tokens.values.device)
        ids, mask = append_ids(condition.ids, condition.mask, [self.image_start])
        drawn = tokens.values[:, :-1]
        with torch.no_grad():
            features = self.tokenizer.semantics(drawn[:, :-1].to(self.tokenizer.dtype)).to(self.dtype)
        x = torch.cat([self.text_embedding(ids), self.image_in(features)], dim=1)
        seen = torch.cat([mask, mask.new_ones(features.shape[:2])], dim=1)
        states = self.backbone.at(x, positions(seen), attention_mask(seen))
        length = ids.shape[1] - 1  # the start of the image predicts its first token
        image = self.token_head.loss(self.image_head(states[:, length:]), drawn, noise=noise)
        logits = self.text_head(states[:, :length]).float()
        targets = ids.masked_fill(~mask, -100)[:, 1:]
        text = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100)
        return LossOutput(image + text, {"image": image.detach(), "text": text.detach()})

    # sampling -----------------------------------------------------------------------------------------------------

    def _generate(self, condition: CaptionIds, *, noise: Noise, sampler: MingSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float32 (B, N, D)."""
        ids, mask = append_ids(*prompt_rows(condition, is_guided(sampler.guidance_scale)), [self.image_start])
        memory = Memory(self.backbone, len(ids), ids.shape[1] + self.config.num_tokens)
        hidden = memory(self.text_embedding(ids), mask)[:, -1:]
        return Tokens(self.draw_tokens(memory, hidden, len(ids) // len(condition), noise, sampler, callback)[0])

    def draw_tokens(self, memory: Memory, hidden: Tensor, branches: int, noise: Noise, sampler: MingSampler,
                    callback: Callback | None) -> tuple[Tensor, Tensor]:
        """Tokens float32 (B, N, D) of images whose start ``memory`` has read, and the states (branches B, 1, C) behind
        them, which it has read as well.

        Args:
            hidden: states (branches B, 1, C) of the start.
            branches: see :meth:`photophone.heads.branched.BranchedFlowHead.sample_branches`.
        """
        count, tokenizer = self.config.num_tokens - 1, self.tokenizer
        caches, last = tokenizer.semantic.caches(len(hidden) // branches, count), hidden

        def step(index: int, previous: Tensor | None) -> Tensor:
            nonlocal last
            if previous is not None:
                last = memory(self.embed_tokens(previous, caches).repeat(branches, 1, 1))
            return self.token_head.sample_branches(
                self.image_head(last), branches, text_guidance=sampler.guidance_scale,
                image_guidance=sampler.image_guidance, temperature=sampler.temperature, noise=noise,
                num_steps=sampler.num_inference_steps, time_shift=sampler.time_shift, renorm=sampler.renorm)

        tokens = collect(autoregress(step, count, callback=callback))[0]
        last = memory(self.embed_tokens(tokens[:, -1:], caches).repeat(branches, 1, 1))
        return F.pad(tokens, (0, 0, 0, 1)), last

    # text and images ----------------------------------------------------------------------------------------------

    @property
    def image_start(self) -> int:
        return self.config.image_start

    @property
    def ends(self) -> frozenset[int]:
        return frozenset([self.config.text_end])

    @property
    def image_steps(self) -> int:
        return self.config.num_tokens - 1

    def session(self, request: Request, noise: Noise, sampler: MingSampler) -> MingSession:
        return MingSession(self, request, noise, sampler)

    def encode_request(self, tokenizer: PreTrainedTokenizerBase, parts: Sequence[Given], kind: str = "any") -> Request:
        """A turn of the user, in which images have a line each where they stand, and the beginning of the answer."""
        config = self.config
        start, token, end = (word_of(tokenizer, id) for id in (config.image_start, config.image_id, config.image_end))
        image = f"{start}{token * self.image_steps}{end}\n"
        text = "".join(part if isinstance(part, str) else image for part in parts)
        ids = ids_of(tokenizer, USER + text + ASSISTANT, add_special_tokens=False)
        asked = torch.ones_like(ids, dtype=torch.bool)
        asked[:len(ids_of(tokenizer, USER, add_special_tokens=False))] = False
        asked[len(asked) - len(ids_of(tokenizer, ASSISTANT, add_special_tokens=False)):] = False
        return Request(ids, tuple(part for part in parts if not isinstance(part, str)), asked)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_values(rows, self.config.num_tokens, self.config.token_dim, seed)
