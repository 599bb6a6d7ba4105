"""VoxCPM: text to speech by continuous tokens, a language model and a local diffusion transformer.

Papers: VoxCPM (arXiv 2509.24650), VoxCPM 2 (2606.06928), after DiTAR (2502.03930). Official code: OpenBMB/VoxCPM,
Apache-2.0. Weights: Apache-2.0. The tokens are those of :class:`photophone.codecs.audio_vae.model.AudioVAE`.

A patch of P tokens is one position of the sequence. ``base_lm`` reads text and patches; its states at patches pass a
scalar bottleneck, so they hold the coarse content; ``residual_lm`` adds what was lost; both condition a flow head that
draws the next patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import Generator, LossOutput
from photophone.generators.speech_sequence import SpeechSequence, append_speech
from photophone.generators.voxcpm.config import generator_config
from photophone.generators.voxcpm.sampler import VoxCPMSampler
from photophone.heads.base import is_guided
from photophone.heads.prefix_dit import PrefixDiTHead, pack_condition
from photophone.layers.flow import sway_grid, without_first_steps
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.llama_block import LlamaStack, convert_llama_keys, original_llama_keys
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.fsq import ScalarBottleneck

AUDIO_START, REFERENCE_START, REFERENCE_END = 101, 103, 104
"""Text ids that stand before generated speech and around a reference voice."""
STACKS = {"base_lm.": "base_lm.", "residual_lm.": "residual_lm.", "feat_encoder.encoder.": "patch_encoder.transformer.",
          "feat_decoder.estimator.decoder.": "token_head.net.transformer."}
"""Places of the transformers in official files and here."""
KEYS = [(r"^base_lm\.embed_tokens\.", "text_embedding."), (r"^feat_encoder\.in_proj\.", "patch_encoder.input_proj."),
        (r"^feat_encoder\.special_token$", "patch_encoder.summary"), (r"^feat_decoder\.estimator\.", "token_head.net."),
        (r"\.net\.in_proj\.", ".net.input_proj."), (r"\.net\.cond_proj\.", ".net.previous_proj."),
        (r"\.net\.out_proj\.", ".net.output_proj."), (r"\.net\.time_mlp\.", ".net.time_embed.mlp."),
        (r"\.net\.delta_time_mlp\.", ".net.step_embed.mlp."), (r"\.mlp\.linear_1\.", ".mlp.0."),
        (r"\.mlp\.linear_2\.", ".mlp.2."), (r"^fsq_layer\.in_proj\.", "state_bottleneck.project_in."),
        (r"^fsq_layer\.out_proj\.", "state_bottleneck.project_out."), (r"^enc_to_lm_proj\.", "patch_to_lm."),
        (r"^lm_to_dit_proj\.", "lm_to_head."), (r"^res_to_dit_proj\.", "residual_to_head."),
        (r"^fusion_concat_proj\.", "fuse.")]
ORIGINAL = [
    (r"^text_embedding\.", "base_lm.embed_tokens."), (r"^patch_encoder\.input_proj\.", "feat_encoder.in_proj."),
    (r"^patch_encoder\.summary$", "feat_encoder.special_token"), (r"^token_head\.net\.", "feat_decoder.estimator."),
    (r"\.estimator\.input_proj\.", ".estimator.in_proj."), (r"\.estimator\.previous_proj\.", ".estimator.cond_proj."),
    (r"\.estimator\.output_proj\.", ".estimator.out_proj."), (r"\.time_embed\.mlp\.", ".time_mlp."),
    (r"\.step_embed\.mlp\.", ".delta_time_mlp."), (r"_mlp\.0\.", "_mlp.linear_1."), (r"_mlp\.2\.", "_mlp.linear_2."),
    (r"^state_bottleneck\.project_in\.", "fsq_layer.in_proj."),
    (r"^state_bottleneck\.project_out\.", "fsq_layer.out_proj."), (r"^patch_to_lm\.", "enc_to_lm_proj."),
    (r"^lm_to_head\.", "lm_to_dit_proj."), (r"^residual_to_head\.", "res_to_dit_proj."),
    (r"^fuse\.", "fusion_concat_proj.")]
"""Our keys, and the authors'."""


class PatchEncoder(nn.Module):
    """Patches (M, P, D) to vectors (M, width): a learned token that attends to the patch."""

    def __init__(self, token_dim: int, width: int, rotary: dict[str, Any], **stack: Any) -> None:
        super().__init__()
        self.rotary = rotary
        self.input_proj = nn.Linear(token_dim, width)
        self.summary = nn.Parameter(torch.randn(1, 1, width))
        self.transformer = LlamaStack(width, **stack)

    def forward(self, patches: Tensor) -> Tensor:
        x = torch.cat([self.summary.expand(len(patches), -1, -1), self.input_proj(patches)], dim=1)
        head_dim = self.transformer.blocks[0].attention.head_dim
        rotary = sequence_rotary(x.shape[1], head_dim, **self.rotary, device=x.device)
        return self.transformer(x, rotary=rotary)[:, 0]


class VoxCPM(OriginalCheckpoint, Generator):
    """Text ids, and perhaps a voice, to continuous tokens (B, N, D) of speech.

    Args:
        vocab_size: of the text tokenizer.
        width, depth, num_heads, hidden: of the language model.
        num_kv_heads: of all transformers.
        head_dim: of the language models; None: width / num_heads.
        residual_depth: blocks of the residual language model.
        residual_rotary: it knows positions.
        token_dim, patch_size: D, and P tokens a patch.
        code_dim, code_scale: of the scalar bottleneck, see :class:`photophone.quantizers.fsq.ScalarBottleneck`.
        local_encoder, local_dit: width, depth, num_heads, hidden and head_dim of the transformers over a patch.
        concatenate: version 2: states of both language models are joined channel by channel where version 1 adds them.
        eps: of the RMS norms.
        rotary_base, rotary_factors, rotary_scale: see :func:`photophone.layers.rotary.sequence_rotary`.
        embedding_scale: factor on text embeddings.
        depth_scale: residual branches are scaled by this over the root of the depth (muP); None: not at all.
        max_length: positions of a sequence.
        context_patches: patches of a prompt to decode in front of generated ones, so that they join well.
        condition_drop: share of training patches without condition, for guidance.
        time_distribution: of the flow times in training.
    """

    Condition = SpeechSequence
    Sampler = VoxCPMSampler
    streams = True
    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("audio_vae.*",)  # a codec of its own
    original_file = "model.safetensors"

    def __init__(self, vocab_size: int = 73448, width: int = 1024, depth: int = 24, num_heads: int = 16,
                 hidden: int = 4096, num_kv_heads: int = 2, head_dim: int | None = None, residual_depth: int = 6,
                 residual_rotary: bool = True, token_dim: int = 64, patch_size: int = 2, code_dim: int = 256,
                 code_scale: int = 9, local_encoder: dict | None = None, local_dit: dict | None = None,
                 concatenate: bool = False, eps: float = 1e-5, rotary_base: float = 10_000.0,
                 rotary_factors: list[float] | None = None, rotary_scale: float = 1.0, embedding_scale: float = 1.0,
                 depth_scale: float | None = None, max_length: int = 4096, context_patches: int = 2,
                 condition_drop: float = 0.1, time_distribution: str = "logit_normal") -> None:
        super().__init__()
        self.head_width = head_dim or width // num_heads
        rotary = {"base": rotary_base, "factors": rotary_factors, "scale": rotary_scale}

        def stack(depth: int, num_heads: int, hidden: int, head_dim: int | None = None) -> dict[str, Any]:
            return {"depth": depth, "num_heads": num_heads, "hidden": hidden, "eps": eps, "head_dim": head_dim,
                    "num_kv_heads": num_kv_heads, "rotary_halves": True,
                    "residual_scale": 1.0 if depth_scale is None else depth_scale / math.sqrt(depth)}

        sizes = {"width": 1024, "depth": 4, "num_heads": 16, "hidden": 4096}
        encoder, dit = ({**sizes, **(given or {})} for given in (local_encoder, local_dit))
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.base_lm = LlamaStack(width, **stack(depth, num_heads, hidden, head_dim))
        self.state_bottleneck = ScalarBottleneck(width, code_dim, code_scale)
        self.residual_lm = LlamaStack(width, **stack(residual_depth, num_heads, hidden, head_dim))
        encoder_width, dit_width = encoder.pop("width"), dit.pop("width")
        self.patch_encoder = PatchEncoder(token_dim, encoder_width, rotary, **stack(**encoder))
        self.patch_to_lm = nn.Linear(encoder_width, width)
        self.fuse = nn.Linear(2 * width, width) if concatenate else None
        self.lm_to_head, self.residual_to_head = (nn.Linear(width, dit_width) for _ in range(2))
        dit = stack(**dit)
        network = {"width": dit_width, "time_token": concatenate, "rotary_options": rotary,
                   **{name: dit.pop(name) for name in ("depth", "num_heads", "hidden")}, "block_options": dit}
        self.token_head = PrefixDiTHead(token_dim, patch_size, 2 if concatenate else 1, network, time_mean=-0.4,
                                        time_distribution=time_distribution)
        self.stop_proj = nn.Linear(width, width)
        self.stop_head = nn.Linear(width, 2, bias=False)

    @property
    def reads_references(self) -> bool:
        """Whether it speaks with a voice whose words are not known: version 2."""
        return self.config.concatenate

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`photophone.generators.voxcpm.config.generator_config`."""
        return generator_config(official)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = {key: value[0] if key == "feat_encoder.special_token" else value for key, value in state.items()}
        for prefix, target in STACKS.items():
            parts = {key: value for key, value in state.items()
                     if key.startswith((f"{prefix}layers.", f"{prefix}norm."))}
            others = {key: value for key, value in state.items() if key not in parts}
            state = others | convert_llama_keys(parts, prefix, target)
        return rename_keys(state, KEYS)

    def original_keys(self, state: State) -> State:
        made: State = {}
        for theirs, ours in STACKS.items():
            attention = self.get_submodule(f"{ours}blocks.0.attention")
            made |= original_llama_keys(state, ours, theirs, attention.num_heads, attention.num_kv_heads)
        others = {key: value for key, value in state.items() if not key.startswith(tuple(STACKS.values()))}
        made |= rename_keys(others, ORIGINAL)
        return {key: value[None] if key == "feat_encoder.special_token" else value for key, value in made.items()}

    # what both training and sampling do -------------------------------------------------------------------------

    def embed(self, sequence: SpeechSequence) -> tuple[Tensor, Tensor]:
        """Embedded positions (B, L, C), and of them the patches, 0 at text."""
        audio = sequence.audio_mask
        patches = torch.zeros(*audio.shape, self.config.width, dtype=self.dtype, device=self.device)
        if audio.any():
            patches[audio] = self.embed_patches(sequence.patches[audio]).to(patches)  # autocast may make it shorter
        text = self.text_embedding(sequence.text_ids) * self.config.embedding_scale
        return torch.where(audio[..., None], patches, text), patches

    def embed_patches(self, patches: Tensor) -> Tensor:
        """Patches (M, P, D) to vectors (M, C) of the language model."""
        return self.patch_to_lm(self.patch_encoder(patches.to(self.dtype)))

    def residual_input(self, states: Tensor, patches: Tensor) -> Tensor:
        """States of ``base_lm`` and embedded patches (B, L, C) to what ``residual_lm`` reads."""
        return states + patches if self.fuse is None else self.fuse(torch.cat([states, patches], dim=-1))

    def states(self, sequence: SpeechSequence, caches: Sequence[KVCache] = ()) -> tuple[Tensor, Tensor]:
        """States (B, L, C) of both language models.

        Args:
            caches: of ``base_lm`` and ``residual_lm``, to go on from here.
        """
        embedded, patches = self.embed(sequence)
        mask, rotary = attention_mask(sequence.mask), self.rotary(positions(sequence.mask))
        lm_layers, residual_layers = (cache.layers for cache in caches) if caches else (None, None)
        lm = self.base_lm(embedded, mask, rotary, lm_layers)
        lm = torch.where(sequence.audio_mask[..., None], self.state_bottleneck(lm), lm)
        residual = self.residual_lm(self.residual_input(lm, patches), mask,
                                    rotary if self.config.residual_rotary else None, residual_layers)
        return lm, residual

    def rotary(self, places: Tensor) -> Tensor:
        """The rotary table (B, 1, N, head_dim / 2, 2) of positions Long (B, N)."""
        config = self.config
        table = sequence_rotary(config.max_length, self.head_width, config.rotary_base, config.rotary_factors,
                                config.rotary_scale, places.device)
        return table[places][:, None]

    def head_condition(self, lm: Tensor, residual: Tensor) -> Tensor:
        """States (..., C) of both language models to those of the head."""
        parts = self.lm_to_head(lm), self.residual_to_head(residual)
        return torch.cat(parts, dim=-1) if self.config.concatenate else parts[0] + parts[1]

    def stop_logits(self, lm: Tensor) -> Tensor:
        """States (..., C) to logits (..., 2): the patch that they make is the last one, or is not (index 0)."""
        return self.stop_head(functional.silu(self.stop_proj(lm)))

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: SpeechSequence, *, noise: Noise | None = None) -> LossOutput:
        """Flow loss of the patches and cross-entropy of the stop, one to one.

        Args:
            tokens: float (B, N, D), the speech to be learned; rows are whole patches, one at least.
            condition: its text, and perhaps a voice in front.
            noise: see :meth:`Generator.loss`.

        Raises:
            ValueError: tokens that are not whole patches.
        """
        values, size = tokens.values, self.config.patch_size
        counts = tokens.mask.sum(dim=1)
        if values.shape[1] % size or (counts % size).any() or not counts.all():
            raise ValueError(f"speech must be whole patches of {size} tokens, got {counts.tolist()}")
        sequence, target_mask, stop = append_speech(condition, values.unflatten(1, (-1, size)), counts // size)
        flow, wrong = self.losses(sequence, target_mask, stop, noise)
        return LossOutput(torch.stack([flow, wrong]).sum(),
                          {"flow_loss": flow.detach(), "stop_loss": wrong.detach()})

    def losses(self, sequence: SpeechSequence, target_mask: Tensor, stop: Tensor,
               noise: Noise | None = None) -> tuple[Tensor, Tensor]:
        """Flow loss of the patches and cross-entropy of the stop, both mean over the positions that count.

        Args:
            sequence: what is said, patches to be learned included; padding on either side.
            target_mask: bool (B, L), True at patches to be learned.
            stop: Long (B, L), 1 where a patch is the last.
            noise: random draws; torch's global state when None.
        """
        patches = sequence.patches
        noise = (noise or GlobalNoise(patches.device)).parts([patches.shape[1]] * len(patches))
        lm, residual = self.states(sequence)
        lm, residual = (functional.pad(states[:, :-1], (0, 0, 1, 0)) for states in (lm, residual))
        previous = functional.pad(patches[:, :-1], (0, 0, 0, 0, 1, 0))
        condition = self.head_condition(lm, residual).flatten(0, 1)  # (B, L, C) -> (BL, C)
        if self.training and self.config.condition_drop > 0:
            keep = noise.uniform(len(condition)) > self.config.condition_drop
            condition = condition * keep[:, None].to(condition)
        hidden = pack_condition(condition, previous.flatten(0, 1))
        counted = target_mask.bool()
        flow = self.token_head.loss(hidden, patches.flatten(0, 1),
                                    counted.flatten()[:, None].expand(-1, patches.shape[2]), noise=noise)
        wrong = functional.cross_entropy(self.stop_logits(lm).transpose(1, 2).float(), stop, reduction="none")
        return flow, (wrong * counted).sum() / counted.sum().clamp(min=1)

    # sampling ---------------------------------------------------------------------------------------------------

    def prepare(self, texts: Sequence[Sequence[int]], prompts: Sequence[Tensor | None] = (),
                references: Sequence[Tensor | None] = ()) -> SpeechSequence:
        """Rows ``[reference] text [prompt]``, padded on the left.

        Args:
            texts: text ids; with a prompt those of its words, then of the words to say.
            prompts: float (N, D), the speech that is to be continued.
            references: float (N, D), the voice to speak with, without its words (version 2).

        Raises:
            ValueError: there is no text, or speech that is not whole patches of D channels.
        """
        if not texts or not all(len(text) for text in texts):
            raise ValueError("every row needs a text")
        rows = []
        for index, text in enumerate(texts):
            prompt = prompts[index] if prompts else None
            reference = references[index] if references else None
            parts: list[Sequence[int] | Tensor] = [[*text, AUDIO_START]]
            if reference is not None:
                parts = [[REFERENCE_START], self.split_patches(reference), [REFERENCE_END], *parts]
            rows.append(parts if prompt is None else [*parts, self.split_patches(prompt)])
        patch = self.config.patch_size, self.config.token_dim
        return SpeechSequence.of_parts(rows, patch).to(self.device)

    def split_patches(self, tokens: Tensor) -> Tensor:
        """Tokens (N, D) to patches (N / P, P, D).

        Raises:
            ValueError: they are not whole patches; pad the audio to a multiple of ``P * hop_length`` samples: a prompt
                on the left, a reference on the right.
        """
        size, dim = self.config.patch_size, self.config.token_dim
        if tokens.ndim != 2 or tokens.shape[1] != dim or not len(tokens) or len(tokens) % size:
            raise ValueError(f"speech must be tokens (N, {dim}) with N a multiple of {size}, got "
                             f"{tuple(tokens.shape)}; pad the audio to a multiple of {size} hops")
        return tokens.to(self.device).unflatten(0, (-1, size))

    def context(self, prompt: Tensor) -> Tensor:
        """The end of a prompt (N, D) that is decoded in front of the generated tokens and then cut off."""
        return prompt[-self.config.context_patches * self.config.patch_size:]

    def check_condition(self, condition: SpeechSequence) -> None:
        """Ids of the vocabulary and patches of P tokens of D channels, in rows that end together."""
        condition.check(self.config.vocab_size, (self.config.patch_size, self.config.token_dim))

    def _generate(self, condition: SpeechSequence, *, noise: Noise, sampler: VoxCPMSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float (B, N, D), without those of prompts."""
        return Tokens(*collect(self._patches(condition, noise, sampler, callback)))

    def _stream(self, condition: SpeechSequence, *, noise: Noise, sampler: VoxCPMSampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Patches float (B, P, D) with lengths P, or 0 for rows that have ended."""
        for values, alive in self._patches(condition, noise, sampler, callback):
            yield Tokens(values, alive.long() * values.shape[1])

    def _patches(self, sequence: SpeechSequence, noise: Noise, sampler: VoxCPMSampler,
                 callback: Callback | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Patches (B, P, D), and bool (B,), True for rows that have not ended."""
        times = sway_grid(sampler.num_inference_steps, sampler.sway, torch.float32)
        options = {"guidance": sampler.guidance_scale, "temperature": sampler.temperature, "noise": noise,
                   "times": without_first_steps(times) if sampler.zero_star else times,
                   "scaled_guidance": sampler.zero_star}
        guided = is_guided(sampler.guidance_scale)
        limit = self._limits(sequence, sampler.max_patches)
        steps = int(limit.max())
        caches = self._caches(*sequence.text_ids.shape, steps)
        lm, residual = (states[:, -1] for states in self.states(sequence, caches))
        seen, last = sequence.mask, sequence.patches[:, -1]

        def step(index: int, previous: Tensor | None) -> Tensor:
            nonlocal lm, residual, seen, last
            if previous is not None:
                lm, residual, seen = self._advance(previous, seen, caches)
                last = previous
            condition = self.head_condition(lm, residual)
            if guided:
                condition = torch.cat([condition, torch.zeros_like(condition)])
                return self.token_head.sample(pack_condition(condition, last.repeat(2, 1, 1)), **options)
            return self.token_head.sample(pack_condition(condition, last), **options)

        def stop(index: int, values: Tensor) -> Tensor:
            ended = self.stop_logits(lm).argmax(dim=-1) == 1
            return (ended & (index > sampler.min_patches)) | (index + 1 >= limit)

        yield from autoregress(step, steps, stop=stop, callback=callback)

    def _advance(self, patch: Tensor, seen: Tensor, caches: Sequence[KVCache]) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, C) after one more patch (B, P, D), and the mask (B, L + 1) of what they have seen."""
        seen = functional.pad(seen, (0, 1), value=True)
        mask, rotary = seen[:, None, None], self.rotary(seen.sum(1, keepdim=True) - 1)
        embedded = self.embed_patches(patch)[:, None]
        lm = self.state_bottleneck(self.base_lm(embedded, mask, rotary, caches[0].layers))
        residual = self.residual_lm(self.residual_input(lm, embedded), mask,
                                    rotary if self.config.residual_rotary else None, caches[1].layers)
        return lm[:, 0], residual[:, 0], seen

    def _limits(self, sequence: SpeechSequence, max_patches: int | None) -> Tensor:
        """How many patches each row speaks at most, Long (B,).

        Raises:
            ValueError: the sequence and so many patches are longer than the model's.
        """
        length = sequence.text_ids.shape[1]
        room = self.config.max_length - length
        limit = torch.full((len(sequence),), room if max_patches is None else max_patches, device=self.device)
        if sequence.max_patches is not None:
            limit = torch.minimum(limit, sequence.max_patches)
        if room < 1 or not 1 <= int(limit.min()) <= int(limit.max()) <= room:
            raise ValueError(f"{length} positions and {limit.tolist()} patches do not fit the model's "
                             f"{self.config.max_length}; shorten the text or the voice, or lower max_patches")
        return limit

    def _caches(self, rows: int, length: int, steps: int) -> list[KVCache]:
        config = self.config
        return [KVCache(depth, rows, config.num_kv_heads, length + steps, self.head_width, self.device, self.dtype)
                for depth in (config.depth, config.residual_depth)]

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> SpeechSequence:
        """Texts of different lengths, two of three with speech to continue."""
        config, generator = self.config, torch.Generator().manual_seed(seed)
        texts = [torch.randint(config.vocab_size, (2 + row % 5,), generator=generator).tolist() for row in range(rows)]
        voices = [torch.randn(config.patch_size * (row % 3), config.token_dim, generator=generator)
                  for row in range(rows)]
        return self.prepare(texts, [voice if len(voice) else None for voice in voices]).to("cpu")

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Speech of one to three patches."""
        config, generator = self.config, torch.Generator().manual_seed(seed)
        values = torch.randn(rows, 3 * config.patch_size, config.token_dim, generator=generator)
        return Tokens(values, torch.tensor([config.patch_size * (1 + row % 3) for row in range(rows)]))
