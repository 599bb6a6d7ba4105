"""BitDance for captions: Qwen3 reads the prompt and a block of tokens at a time, the head makes the next block.

Papers: BitDance (arXiv 2602.14041), Qwen3 (2505.09388). Official code: shallowdream204/BitDance, Apache-2.0, as are the
weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.core.weight_files import read_json_object
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import LossOutput
from photophone.generators.bitdance.bits import GridBits
from photophone.generators.bitdance.head import BinaryDiffusionHead, convert_head_keys
from photophone.generators.conditions import CaptionIds
from photophone.generators.prompts import PromptGenerator, append_ids, drop_prompts, prompt_rows
from photophone.generators.sampler import Sampler, guidance_option, steps_option, temperature_option
from photophone.heads.base import is_guided
from photophone.layers.embeddings import sinusoidal_embedding
from photophone.layers.left_padding import attention_mask, pad_left, positions
from photophone.layers.llama_block import LlamaStack, convert_llama_keys
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, content_of, read_state, rename_keys

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEAD_WIDTH = 128
"""Channels of a head of the attention among the tokens of a step."""


PARTS = ("vision_head.safetensors", "projector.safetensors")
USER, ASSISTANT = "<|im_start|>user\n{prompt}<|im_end|>\n", "<|im_start|>assistant\n"
SIZES = {"vocab_size": "vocab_size", "hidden_size": "width", "num_hidden_layers": "depth",
         "num_attention_heads": "num_heads", "num_key_value_heads": "num_kv_heads", "head_dim": "head_dim",
         "intermediate_size": "hidden", "rms_norm_eps": "eps", "rope_theta": "rotary_base"}
IDS = {"<|vision_start|>": "image_start", "<|res_1|>": "first_size", "<|query_1|>": "first_query"}


def official_config(folder: Path) -> dict[str, Any]:
    """Settings that the official files of a folder name; none of those that are not there."""
    found = {}
    for file, names in (("config.json", SIZES), ("added_tokens.json", IDS)):
        if (folder / file).is_file():
            values = read_json_object(folder / file)
            found |= {ours: values[theirs] for theirs, ours in names.items() if theirs in values}
    return found


@dataclass(frozen=True)
class BitDanceTextSampler(Sampler):
    """Options of :class:`BitDanceText`. Published: guidance 7.5 and 50 solver steps; 25 are faster."""

    num_inference_steps: int = steps_option(50, "stochastic solver steps for each step's tokens")
    guidance_scale: float = guidance_option(7.5)
    temperature: float = temperature_option()


class BitDanceText(OriginalCheckpoint, GridBits, PromptGenerator):
    """Prompts to codes Long (B, Q, N) of a grid of tokens of signs.

    A prompt is :class:`photophone.CaptionIds` with all ids in front of the image, padded on the left; the ids of its
    null prompt are those that are left of a prompt without its text, and may be fewer.

    Args:
        grid: rows and columns of tokens.
        token_dim, num_codebooks: of the tokenizer: bits of a token, and codes Q that they are packed in.
        step_side: tokens made together are a square of so many per side.
        vocab_size: rows of the text embedding.
        image_start, first_size, first_query: ids of the start of an image, of the size of one token, and of the first
            query; sizes and queries follow in order.
        width, depth, num_heads, num_kv_heads, head_dim, hidden, eps, rotary_base: of Qwen3.
        head_width, head_depth, head_modulations, gated_head: see
            :class:`photophone.generators.bitdance.head.BitNetwork`.
        bit_flip: in training half of this share of the bits that the transformer reads is wrong, on average.
        text_drop: share of training prompts replaced by the null prompt.
        time_mean, time_std, time_shift: see :class:`photophone.generators.bitdance.head.BinaryDiffusionHead`.

    Raises:
        ValueError: tokens that do not divide into steps.
    """

    Sampler = BitDanceTextSampler
    BACKBONE = "backbone.blocks.0"
    forms_prompts = True
    DROPPED_KEYS = ("lm_head.weight",)  # of text, which is only read

    def __init__(self, grid: Sequence[int] = (64, 64), token_dim: int = 32, num_codebooks: int = 4,
                 step_side: int = 8, vocab_size: int = 152064, image_start: int = 151652, first_size: int = 151669,
                 first_query: int = 151925, width: int = 5120, depth: int = 40, num_heads: int = 40,
                 num_kv_heads: int = 8, head_dim: int = 128, hidden: int = 17408, eps: float = 1e-6,
                 rotary_base: float = 1_000_000.0, head_width: int = 5120, head_depth: int = 6,
                 head_modulations: int = 2, gated_head: bool = True, bit_flip: float = 0.1, text_drop: float = 0.1,
                 time_mean: float = -0.8, time_std: float = 0.8, time_shift: float = 1.0) -> None:
        super().__init__()
        self._build_grid(grid, step_side, token_dim, num_codebooks)
        if width % 4:
            raise ValueError(f"positions of two axes need a width that is a multiple of 4, got {width}")
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.backbone = LlamaStack(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads, head_dim=head_dim,
                                   rotary_halves=True, qk_norm=lambda heads, dim: nn.RMSNorm(dim, eps=eps))
        self.token_in = nn.Sequential(nn.Linear(token_dim, width), nn.GELU(approximate="tanh"),
                                      nn.Linear(width, width))
        self.token_head = BinaryDiffusionHead(
            width, token_dim, block=self.block, width=head_width, depth=head_depth, modulations=head_modulations,
            num_heads=max(1, head_width // HEAD_WIDTH), gated=gated_head, bounded=True, time_mean=time_mean,
            time_std=time_std, time_shift=time_shift, batch_mul=1)
        nn.init.normal_(self.text_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of Qwen3, of the head's file and of the projector's to ours."""
        state = rename_keys(convert_head_keys(state), [
            (r"^model\.embed_tokens\.", "text_embedding."), (r"^net\.", "token_head.net."),
            (r"^fc1\.", "token_in.0."), (r"^fc2\.", "token_in.2.")])
        return convert_llama_keys(state, "model.", "backbone.")

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, take: str | None = None, **config: Any) -> Self:
        """See the base. Beside the file, or in the folder, of the language model lie the files of head and projector;
        ``config.json`` and ``added_tokens.json`` there, where they are, say its sizes and the ids of images."""
        beside: State = {}
        if not isinstance(source, Mapping):
            folder = Path(source) if Path(source).is_dir() else Path(source).parent
            for part in PARTS:
                beside |= read_state(folder / part) if (folder / part).is_file() else {}
            config = {**official_config(folder), **config}
        return cls.load_content(source, content_of(source), take, config, beside)

    # places and embeddings ---------------------------------------------------------------------------------------

    def grid_position(self) -> Tensor:
        """Fixed positions (N, C) of the tokens in the order of generation: column, then row, each sines and cosines."""
        half = self.config.width // 2
        places, columns = self.places(), self.config.grid[1]
        waves = [sinusoidal_embedding(axis, half) for axis in (places % columns, places // columns)]
        return torch.cat([part for wave in waves for part in reversed(wave.chunk(2, dim=-1))], dim=-1)

    def embed_tokens(self, bits: Tensor, first: int = 0) -> Tensor:
        """Signs (B, n, D) from the place ``first`` of the order on to embeddings (B, n, C)."""
        position = self.grid_position()[first:first + bits.shape[1]]
        return self.token_in(bits.to(self.dtype)) + position.to(self.dtype)

    @property
    def image_ids(self) -> list[int]:
        """Ids behind a prompt: start of the image, its height, then the first block: its width and the queries."""
        config, (height, width) = self.config, self.config.grid
        return [config.image_start, config.first_size + height - 1, config.first_size + width - 1,
                *range(config.first_query, config.first_query + self.block - 1)]

    def prompt(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L + 2 + P, C) of prompts Long (B, L) and of the image's ids, and bool (B, L + 2 + P)."""
        ids, mask = append_ids(ids, mask, self.image_ids)
        return self.text_embedding(ids), mask

    def visible(self, mask: Tensor, first: int) -> Tensor:
        """Bool (B, 1, M, M), True where a place may look: at all before it, and at its whole block.

        Args:
            mask: bool (B, M), False for padding.
            first: place of the first block; blocks follow each other from there on.
        """
        place = torch.arange(mask.shape[1], device=mask.device) - first
        block = place.div(self.block, rounding_mode="floor")
        return attention_mask(mask) | ((block[:, None] == block) & (place >= 0) & (place[:, None] >= 0))

    def states(self, x: Tensor, mask: Tensor, seen: Tensor, cache: KVCache | None = None) -> Tensor:
        """States (B, n, C) of the last n places of mask (B, M), which see what ``seen`` (B, 1, n or 1, M) says."""
        table = sequence_rotary(mask.shape[1], self.config.head_dim, self.config.rotary_base, device=x.device)
        places = positions(mask)[:, mask.shape[1] - x.shape[1]:]
        return self.backbone(x, seen, table[places][:, None], None if cache is None else cache.layers)

    # training and sampling ----------------------------------------------------------------------------------------

    def teacher_states(self, bits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """States (B, N, C) that predict the tokens of signs (B, N, D), in the order of generation, in one pass."""
        x, mask = self.prompt(ids, mask)
        first = x.shape[1] - self.block
        x = torch.cat([x, self.embed_tokens(bits[:, :-self.block])], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), x.shape[1] - mask.shape[1])], dim=1)
        return self.states(x, mask, self.visible(mask, first))[:, first:]

    def loss(self, tokens: Tokens, condition: CaptionIds, *, noise: Noise | None = None) -> LossOutput:
        """The head's loss on codes Long (B, Q, N)."""
        noise = noise or GlobalNoise(tokens.values.device)
        bits = self.bits(tokens.values)
        read = self.flip_bits(bits, noise)
        ids, mask = drop_prompts(condition, self.config.text_drop if self.training else 0.0, noise)
        states = self.teacher_states(read, ids, mask) + self.grid_position().to(self.dtype)
        return LossOutput(self.token_head.loss(states, bits, noise=noise))

    def _generate(self, condition: CaptionIds, *, noise: Noise, sampler: BitDanceTextSampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, Q, N)."""
        config, rows = self.config, len(condition)
        ids, mask = prompt_rows(condition, is_guided(sampler.guidance_scale))
        prompt, mask = self.prompt(ids, mask)
        first, position, total = prompt.shape[1] - self.block, self.grid_position(), self.num_tokens // self.block
        cache = KVCache(config.depth, len(ids), config.num_kv_heads, first + self.num_tokens, config.head_dim,
                        self.device, self.dtype)

        def step(index: int, previous: Tensor | None) -> Tensor:
            nonlocal mask
            if previous is None:
                states = self.states(prompt, mask, self.visible(mask, first), cache)[:, first:]
            else:
                x = self.embed_tokens(previous, (index - 1) * self.block).repeat(len(ids) // rows, 1, 1)
                mask = torch.cat([mask, mask.new_ones(len(mask), self.block)], dim=1)
                states = self.states(x, mask, mask[:, None, None], cache)
            states = states + position[index * self.block:(index + 1) * self.block].to(states)
            return self.token_head.sample(states, guidance=sampler.guidance_scale, temperature=sampler.temperature,
                                          noise=noise, num_steps=sampler.num_inference_steps)

        return Tokens(self.codes(collect(autoregress(step, total, callback=callback))[0]))

    def encode_prompts(self, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> CaptionIds:
        """Prompts in the form of a chat, as ids padded on the left; the null prompt has no turn of the user."""
        def ids_of(text: str) -> Tensor:
            return torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)

        ids, mask = pad_left([ids_of(USER.format(prompt=prompt) + ASSISTANT) for prompt in prompts])
        return CaptionIds(ids, mask, ids_of(ASSISTANT))
