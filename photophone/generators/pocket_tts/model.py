"""Pocket TTS: text to speech by continuous tokens of 80 ms, one step of a small head each; it runs on a CPU.

Papers: CALM (arXiv 2509.06926), LSD (2505.18825), drifting (2602.04770). Official code: kyutai-labs/pocket-tts, MIT.
Weights: CC BY 4.0. The tokens are those of :class:`photophone.codecs.continuous_mimi.model.ContinuousMimi`.

A causal transformer reads ``[start of the voice] voice text [start of speech] frames``. The frames enter normalised,
the voice as the codec gives it. The state at a position makes the next frame and tells whether the speech has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import Generator, LossOutput
from photophone.generators.pocket_tts.condition import VoicedText
from photophone.generators.pocket_tts.config import generator_config
from photophone.generators.pocket_tts.sampler import PocketTTSSampler
from photophone.heads.one_step import OneStepHead, end_loss
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.lengths import length_mask
from photophone.layers.self_attention import SelfAttention
from photophone.layers.window_attention import KYUTAI_NAMES, LayerNormBlock, rotary_slice
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^flow_lm\.", ""), (r"^condition_provider\.conditioners\.transcript_in_segment\.embed\.", "text_embedding."),
        (r"^condition_provider\.conditioners\.speaker_wavs\.output_proj\.", "voice_proj."),
        (r"^fuser\.padding_value$", "voice_start"), (r"^conditioner\.embed\.", "text_embedding."),
        (r"^conditioner\.proj\.", "text_proj."), (r"^speaker_proj_weight$", "voice_proj.weight"),
        (r"^bos_before_voice$", "voice_start"), (r"^bos_emb$", "speech_start"), (r"^input_linear\.", "frame_proj."),
        (r"^emb_mean$", "latent_mean"), (r"^emb_std$", "latent_std"), (r"^out_norm\.", "norm."),
        (r"^z_proj\.", "state_proj."), (r"^out_eos\.", "end_head."), (r"^flow_net\.", "token_head.net."),
        (r"^flow\.w_s_t\.", "token_head.objective.weighting."), *KYUTAI_NAMES, (r"^transformer\.blocks\.", "blocks.")]


class PocketTTS(OriginalCheckpoint, Generator):
    """Text ids, and perhaps a voice, to continuous tokens (B, N, D) of speech.

    Args:
        vocab_size: of the text tokenizer.
        width, depth, num_heads, hidden: of the transformer.
        num_kv_heads, head_dim: see :class:`photophone.layers.self_attention.SelfAttention`.
        text_rank: width of text embeddings, which are then projected; None: ``width``, and no projection.
        state_dim: width to which states are projected for the heads; None: ``width``, and no projection.
        token_dim: D.
        voice_dim: channels of a voice's frames; None: D.
        voice_start: a learned position stands before the voice.
        rotary_base: of the rotary frequencies.
        head: arguments of :class:`photophone.heads.one_step.OneStepHead`.
        max_length: positions of a sequence.
        text_drop, voice_drop: shares of training rows without their text and voice, for guidance.
        end_weight: of the loss of the end.
        exact: see :class:`photophone.layers.window_attention.LayerNormBlock`.
    """

    Condition = VoicedText
    Sampler = PocketTTSSampler
    streams = True
    reads_references = False
    """A second recording, and words that tell how to speak, are VoxCPM's."""
    CONTAINERS = ("model",)
    DROPPED_KEYS = ("mimi.*", "*.freqs", "*.learnt_padding", "num_ema_updates")  # the codec, tables, and leftovers

    def __init__(self, vocab_size: int = 4000, width: int = 1024, depth: int = 6, num_heads: int = 16,
                 hidden: int = 4096, num_kv_heads: int | None = None, head_dim: int | None = None,
                 text_rank: int | None = None, state_dim: int | None = None, token_dim: int = 32,
                 voice_dim: int | None = None, voice_start: bool = True, rotary_base: float = 10_000.0,
                 head: dict | None = None, max_length: int = 4096, text_drop: float = 0.2, voice_drop: float = 0.2,
                 end_weight: float = 0.1, exact: bool = False) -> None:
        super().__init__()
        self.text_embedding = nn.Embedding(vocab_size + 1, text_rank or width)  # the last row is padding
        self.text_proj = nn.Identity() if text_rank is None else nn.Linear(text_rank, width, bias=False)
        self.voice_proj = nn.Linear(voice_dim or token_dim, width, bias=False)
        self.voice_start = nn.Parameter(torch.randn(1, 1, width)) if voice_start else None
        self.speech_start = nn.Parameter(torch.randn(token_dim))
        self.frame_proj = nn.Linear(token_dim, width, bias=False)
        self.register_buffer("latent_mean", torch.zeros(token_dim))
        self.register_buffer("latent_std", torch.ones(token_dim))
        self.blocks = nn.ModuleList(
            LayerNormBlock(SelfAttention(width, num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, bias=False,
                                         out_bias=False), width, hidden, exact=exact) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.state_proj = nn.Identity() if state_dim is None else nn.Linear(width, state_dim, bias=False)
        self.token_head = OneStepHead(state_dim or width, token_dim, **(head or {}))
        self.end_head = nn.Linear(state_dim or width, 1)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`photophone.generators.pocket_tts.config.generator_config`."""
        return generator_config(official)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(state, KEYS)

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """Official tensors to ours; what the losses learn is not published and starts anew."""
        made = cls.convert_state_dict(state)
        with torch.device("cpu"):
            own = OneStepHead(1, 1, **{**(config.get("head") or {}), "width": 2, "depth": 0})
        objective = {} if own.objective is None else own.objective.state_dict()
        return {f"token_head.objective.{key}": value for key, value in objective.items()} | made

    # what both training and sampling do -------------------------------------------------------------------------

    @property
    def start_id(self) -> int:
        """The id that stands for the start of the voice."""
        return self.config.vocab_size

    def prepare(self, texts: Sequence[Sequence[int]], voices: Sequence[Tensor | None] = ()) -> VoicedText:
        """Rows ``[start of the voice] voice text``, padded on the left.

        Args:
            texts: text ids.
            voices: float (N, D) or None, tokens of a recording of the voice.

        Raises:
            ValueError: there is no text, or a voice of other channels.
        """
        if not texts or not all(len(text) for text in texts):
            raise ValueError("every row needs a text")
        dim, rows = self.config.voice_dim or self.config.token_dim, []
        for index, text in enumerate(texts):
            voice = voices[index] if voices else None
            if voice is not None and (voice.ndim != 2 or voice.shape[1] != dim or not len(voice)):
                raise ValueError(f"a voice must be tokens (N, {dim}), got {tuple(voice.shape)}")
            parts: list[Sequence[int] | Tensor] = [] if self.voice_start is None else [[self.start_id]]
            rows.append([*parts, text] if voice is None else [*parts, voice[:, None], text])
        return VoicedText.of_parts(rows, (1, dim)).to(self.device)

    def embed(self, sequence: VoicedText) -> Tensor:
        """Embedded positions (B, L, C) of voice and text."""
        embedded = self.text_proj(self.text_embedding(sequence.text_ids))
        if self.voice_start is not None:
            starts = (sequence.text_ids == self.start_id) & ~sequence.audio_mask
            embedded = torch.where(starts[..., None], self.voice_start.to(embedded), embedded)
        voice = self.voice_proj(sequence.patches[:, :, 0].to(self.dtype))
        return torch.where(sequence.audio_mask[..., None], voice, embedded)

    def normalise(self, values: Tensor) -> Tensor:
        """Tokens of the codec as the transformer and its head know them."""
        return (values.float() - self.latent_mean.float()) / self.latent_std.float()

    def denormalise(self, frames: Tensor) -> Tensor:
        """Frames of the head as tokens of the codec, float32."""
        return frames * self.latent_std.float() + self.latent_mean.float()

    def embed_frames(self, frames: Tensor) -> Tensor:
        """Normalised frames (B, N, D) to positions (B, N, C)."""
        return self.frame_proj(frames.to(self.dtype))

    def states(self, embedded: Tensor, mask: Tensor, cache: KVCache | None = None) -> Tensor:
        """States (B, N, C) of the last N positions.

        Args:
            embedded: (B, N, C).
            mask: bool (B, L), False at padding, of all L positions; those before the last N are in the cache.
            cache: to go on from here.
        """
        count = embedded.shape[1]
        places = positions(mask)[:, -count:]
        attention = self.blocks[0].attention
        table = rotary_slice(0, mask.shape[1], attention.head_dim, self.config.rotary_base, embedded.device)
        rotary = table[places][:, None]
        seen = mask[:, None, None] if count == 1 else attention_mask(mask)[:, :, -count:]
        for index, block in enumerate(self.blocks):
            embedded = block(embedded, seen, rotary, None if cache is None else cache.layers[index])
        return self.state_proj(self.norm(embedded))

    def end_logits(self, states: Tensor) -> Tensor:
        """States (B, N, C) to logits (B, N): the speech ends here."""
        return self.end_head(states)[..., 0].float()

    # training ---------------------------------------------------------------------------------------------------

    def fit_statistics(self, tokens: Tokens) -> None:
        """Set mean and spread of the tokens."""
        values = tokens.values[tokens.mask].float()
        self.latent_mean.copy_(values.mean(dim=0))
        self.latent_std.copy_(values.std(dim=0).clamp(min=1e-5))

    def loss(self, tokens: Tokens, condition: VoicedText, *, noise: Noise | None = None) -> LossOutput:
        """Loss of the head over all frames, and of the end at each frame and behind the last one.

        Args:
            tokens: float (B, N, D), the speech to be learned.
            condition: its text, and perhaps a voice in front.
            noise: see :meth:`Generator.loss`.
        """
        noise = noise or GlobalNoise(self.device)
        condition = self._drop(condition, noise)
        counts = tokens.mask.sum(dim=1)
        frames = self.normalise(tokens.values)
        valid = length_mask(counts, frames.shape[1] + 1)  # a position more: what is behind the last frame
        states = self.speech_states(condition, frames, length_mask(counts + 1, frames.shape[1] + 1))
        flow = self.token_head.loss(states[:, :-1], frames, valid[:, :-1], noise=noise)
        wrong = end_loss(self.end_logits(states), ~valid, length_mask(counts + 1, valid.shape[1]))
        return LossOutput(flow + self.config.end_weight * wrong,
                          {"flow_loss": flow.detach(), "end_loss": wrong.detach()})

    def speech_states(self, condition: VoicedText, frames: Tensor, mask: Tensor) -> Tensor:
        """States (B, N + 1, C) at the start of the speech and at each of its normalised frames (B, N, D)."""
        start = self.speech_start.to(frames).expand(len(frames), 1, -1)
        speech = self.embed_frames(torch.cat([start, frames], dim=1))
        embedded = torch.cat([self.embed(condition), speech], dim=1)
        return self.states(embedded, torch.cat([condition.mask, mask], dim=1))[:, -speech.shape[1]:]

    def _drop(self, condition: VoicedText, noise: Noise) -> VoicedText:
        """A condition of a training pass: shares of rows lose voice and text; no draw otherwise."""
        if not self.training:
            return condition
        mask = condition.mask
        start = (condition.text_ids == self.start_id) & ~condition.audio_mask
        for share, part in ((self.config.voice_drop, condition.audio_mask),
                            (self.config.text_drop, ~condition.audio_mask & ~start)):
            if share > 0:
                dropped = noise.uniform(len(mask)).to(mask.device) < share
                mask = mask & ~(dropped[:, None] & part)
        return VoicedText(condition.text_ids, condition.audio_mask, condition.patches, mask)

    # sampling ---------------------------------------------------------------------------------------------------

    def check_condition(self, condition: VoicedText) -> None:
        """Ids of the vocabulary or the start of a voice, and frames of the voice's channels."""
        dim = self.config.voice_dim or self.config.token_dim
        condition.check(self.config.vocab_size + (self.voice_start is not None), (1, dim))

    def _generate(self, condition: VoicedText, *, noise: Noise, sampler: PocketTTSSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float (B, N, D)."""
        frames, lengths = collect(self._frames(condition, noise, sampler, callback))
        return Tokens(self.denormalise(frames), lengths)

    def _stream(self, condition: VoicedText, *, noise: Noise, sampler: PocketTTSSampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Frames float (B, 1, D) with lengths 1, or 0 for rows that have ended."""
        for values, alive in self._frames(condition, noise, sampler, callback):
            yield Tokens(self.denormalise(values), alive.long())

    def _frames(self, sequence: VoicedText, noise: Noise, sampler: PocketTTSSampler,
                callback: Callback | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised frames (B, 1, D), and bool (B,), True for rows that have not ended."""
        rows, length = sequence.text_ids.shape
        limit = self._limits(sequence, sampler.max_frames)
        steps = int(limit.max())
        after = torch.full((rows,), sampler.frames_after_end, device=self.device) if sequence.frames_after is None \
            else sequence.frames_after
        attention = self.blocks[0].attention
        cache = KVCache(self.config.depth, rows, attention.num_kv_heads, length + steps, attention.head_dim,
                        self.device, self.dtype)
        self.states(self.embed(sequence), sequence.mask, cache)
        ends = torch.full((rows,), steps, device=self.device)  # the place of each row's first frame behind its end
        seen, state = sequence.mask, torch.empty(0)

        def step(index: int, previous: Tensor | None) -> Tensor:
            nonlocal seen, state
            seen = nn.functional.pad(seen, (0, 1), value=True)
            last = self.speech_start.expand(rows, 1, -1) if previous is None else previous
            state = self.states(self.embed_frames(last), seen, cache)
            return self.token_head.sample(state, temperature=sampler.temperature**0.5, noise=noise,
                                          num_steps=sampler.num_inference_steps)

        def stop(index: int, values: Tensor) -> Tensor:
            nonlocal ends
            if index >= sampler.min_frames:
                ended = self.end_logits(state)[:, 0] > sampler.end_threshold
                ends = torch.where(ended, torch.minimum(ends, index + after), ends)
            return (index + 1 >= ends) | (index + 1 >= limit)

        yield from autoregress(step, steps, stop=stop, callback=callback)

    def _limits(self, sequence: VoicedText, max_frames: int | None) -> Tensor:
        """How many frames each row speaks at most, Long (B,).

        Raises:
            ValueError: the sequence and so many frames are longer than the model's.
        """
        length = sequence.text_ids.shape[1]
        room = self.config.max_length - length
        limit = torch.full((len(sequence),), room if max_frames is None else max_frames, device=self.device)
        if sequence.max_patches is not None:
            limit = torch.minimum(limit, sequence.max_patches)
        if room < 1 or not 1 <= int(limit.min()) <= int(limit.max()) <= room:
            raise ValueError(f"{length} positions and {limit.tolist()} frames do not fit the model's "
                             f"{self.config.max_length}; shorten the text or the voice, or lower max_frames")
        return limit

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> VoicedText:
        """Texts of different lengths, two of three with a voice."""
        config, generator = self.config, torch.Generator().manual_seed(seed)
        texts = [torch.randint(config.vocab_size, (2 + row % 5,), generator=generator).tolist() for row in range(rows)]
        voices = [torch.randn(1 + row % 3, config.voice_dim or config.token_dim, generator=generator)
                  for row in range(rows)]
        return self.prepare(texts, [voice if row % 3 else None for row, voice in enumerate(voices)]).to("cpu")

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Speech of two to four frames."""
        values = torch.randn(rows, 4, self.config.token_dim, generator=torch.Generator().manual_seed(seed))
        return Tokens(values, torch.tensor([2 + row % 3 for row in range(rows)]))
