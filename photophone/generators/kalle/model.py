"""KALL-E: text to speech by the next distribution, one Llama over text and latents.

Paper: arXiv 2412.16846. Official code: xkx-hub/KALL-E, no licence stated. Weights: none stated. The tokens are those of
:class:`photophone.codecs.flow_vae.model.FlowVAE`.

The model predicts mean and spread of each latent. A draw of it is fed back, another one is the token; speech has ended
where the distribution comes close to N(1, e).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, autoregress, collect
from photophone.generators.base import Generator, LossOutput
from photophone.generators.sampler import Sampler, option, temperature_option
from photophone.generators.speech_sequence import SpeechSequence
from photophone.layers.left_padding import attention_mask, positions
from photophone.layers.lengths import length_mask, masked_mean
from photophone.layers.llama_block import LlamaStack, convert_llama_keys
from photophone.layers.normal import normal_kl
from photophone.layers.rotary import llama3_factors, sequence_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

KEYS = [(r"^transformer\.embed_tokens\.", "text_embedding."), (r"^audio_linear\.", "latent_proj."),
        (r"^distribution_linear\.", "distribution.")]
END_MEAN, END_LOG_STD = 1.0, 1.0
"""Of the distribution that says that speech has ended."""


@dataclass(frozen=True)
class KallESampler(Sampler):
    """Options of :class:`KallE`; the defaults are those of the authors."""

    temperature: float = temperature_option()
    end_threshold: float = option(0.5, "speech ends where the divergence from the end's distribution, in nats a "
                                       "channel, is below this; below 0 it never does", low=-1, high=1000)
    min_frames: int = option(4, "the end counts from this frame on", low=1)
    max_frames: int | None = option(999, "frames of a row at most, beside the row's own limit; none: what fits",
                                    low=1)


class KallE(OriginalCheckpoint, Generator):
    """Text ids, and perhaps the beginning of the speech, to continuous tokens (B, N, D).

    Args:
        vocab_size: of the text tokenizer.
        width, depth, num_heads, hidden, num_kv_heads, head_dim, eps: of the Llama.
        rotary_base: of the rotary frequencies.
        rotary_scaling: see :func:`llama3_factors`.
        token_dim: D.
        max_length: positions of a sequence.
        end_weight: of the loss of the end.
    """

    Condition = SpeechSequence
    Sampler = KallESampler
    streams = True
    DROPPED_KEYS = ("base_model.lm_head.*",)  # text is not predicted

    def __init__(self, vocab_size: int = 128_264, width: int = 2048, depth: int = 16, num_heads: int = 32,
                 hidden: int = 8192, num_kv_heads: int = 8, head_dim: int | None = None, eps: float = 1e-5,
                 rotary_base: float = 500_000.0, rotary_scaling: dict | None = None, token_dim: int = 512,
                 max_length: int = 8192, end_weight: float = 0.02) -> None:
        super().__init__()
        self.head_width = head_dim or width // num_heads
        self.factors = llama3_factors(self.head_width, rotary_base, rotary_scaling)
        self.text_embedding = nn.Embedding(vocab_size, width)
        self.latent_proj = nn.Linear(token_dim, width)
        self.transformer = LlamaStack(width, num_heads, hidden, depth, eps, num_kv_heads=num_kv_heads,
                                      head_dim=head_dim, rotary_halves=True)
        self.distribution = nn.Linear(width, 2 * token_dim)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments from the config of the Llama, as transformers writes it."""
        return {"vocab_size": official["vocab_size"], "width": official["hidden_size"],
                "depth": official["num_hidden_layers"], "num_heads": official["num_attention_heads"],
                "hidden": official["intermediate_size"], "num_kv_heads": official["num_key_value_heads"],
                "head_dim": official.get("head_dim"), "eps": official["rms_norm_eps"],
                "rotary_base": official["rope_theta"], "rotary_scaling": official.get("rope_scaling")}

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(convert_llama_keys(state, "base_model.model.", "transformer."), KEYS)

    # what both training and sampling do -------------------------------------------------------------------------

    def prepare(self, texts: Sequence[Sequence[int]], prompts: Sequence[Tensor | None] = ()) -> SpeechSequence:
        """Rows ``text prompt``, padded on the left.

        Args:
            texts: text ids: the words of the prompt, those to say, and the ids that end a text and start speech.
            prompts: float (N, D) or None, a draw of the speech to be continued.

        Raises:
            ValueError: there is no text, or a prompt of other channels.
        """
        if not texts or not all(len(text) for text in texts):
            raise ValueError("every row needs a text")
        dim, rows = self.config.token_dim, []
        for index, text in enumerate(texts):
            prompt = prompts[index] if prompts else None
            if prompt is not None and (prompt.ndim != 2 or prompt.shape[1] != dim or not len(prompt)):
                raise ValueError(f"a prompt must be tokens (N, {dim}), got {tuple(prompt.shape)}")
            rows.append([text] if prompt is None else [text, prompt[:, None]])
        return SpeechSequence.of_parts(rows, (1, dim)).to(self.device)

    def embed(self, sequence: SpeechSequence) -> Tensor:
        """Embedded positions (B, L, C)."""
        latents = self.latent_proj(sequence.patches[:, :, 0].to(self.dtype))
        return torch.where(sequence.audio_mask[..., None], latents, self.text_embedding(sequence.text_ids))

    def moments(self, embedded: Tensor, mask: Tensor, cache: KVCache | None = None) -> Tensor:
        """Means and log standard deviations float32 (B, N, 2D) of what follows the last N positions.

        Args:
            embedded: (B, N, C).
            mask: bool (B, L), False at padding; positions before the last N are in the cache.
            cache: to go on from here.
        """
        count = embedded.shape[1]
        table = sequence_rotary(self.config.max_length, self.head_width, self.config.rotary_base, self.factors,
                                device=embedded.device)
        rotary = table[positions(mask)[:, -count:]][:, None]
        seen = mask[:, None, None] if count == 1 else attention_mask(mask)[:, :, -count:]
        states = self.transformer(embedded, seen, rotary, None if cache is None else cache.layers)
        return self.distribution(states).float()

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: SpeechSequence, *, noise: Noise | None = None) -> LossOutput:
        """Divergences in nats a channel: of each frame's distribution from the prediction, and of that of the end.

        Args:
            tokens: float (B, N, 2D), :meth:`photophone.codecs.flow_vae.model.FlowVAE.moments` of the speech.
            condition: its text.
            noise: see :meth:`Generator.loss`.

        Raises:
            ValueError: tokens of another width.
        """
        dim = self.config.token_dim
        if tokens.values.shape[-1] != 2 * dim:
            raise ValueError(f"the loss takes means and log standard deviations, (B, N, {2 * dim}), got "
                             f"{tuple(tokens.values.shape)}")
        noise = noise or GlobalNoise(self.device)
        mean, log_std = tokens.values.float().chunk(2, dim=-1)
        drawn = mean + log_std.exp() * noise.normal(*mean.shape).to(mean)
        counts = tokens.mask.sum(dim=1)
        embedded = torch.cat([self.embed(condition), self.latent_proj(drawn.to(self.dtype))], dim=1)
        mask = torch.cat([condition.mask, tokens.mask], dim=1)
        made, made_log_std = self.moments(embedded, mask)[:, -mean.shape[1] - 1:].chunk(2, dim=-1)
        end = torch.full_like(mean[:, :1], END_MEAN), torch.full_like(mean[:, :1], END_LOG_STD)
        frames = normal_kl(mean, 2 * log_std, made[:, :-1], 2 * made_log_std[:, :-1]).mean(dim=-1)
        ends = normal_kl(end[0], 2 * end[1], made, 2 * made_log_std).mean(dim=-1)
        last = length_mask(counts + 1, made.shape[1]) & ~length_mask(counts, made.shape[1])
        flow, wrong = masked_mean(frames, tokens.mask), masked_mean(ends, last)
        return LossOutput(flow + self.config.end_weight * wrong,
                          {"divergence": flow.detach(), "end_divergence": wrong.detach()})

    # sampling ---------------------------------------------------------------------------------------------------

    def check_condition(self, condition: SpeechSequence) -> None:
        """Ids of the vocabulary and latents of D channels, in rows that end together."""
        condition.check(self.config.vocab_size, (1, self.config.token_dim))

    def _generate(self, condition: SpeechSequence, *, noise: Noise, sampler: KallESampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float (B, N, D)."""
        return Tokens(*collect(self._drawn(condition, noise, sampler, callback)))

    def _stream(self, condition: SpeechSequence, *, noise: Noise, sampler: KallESampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Frames float (B, 1, D) with lengths 1, or 0 for rows that have ended."""
        for values, alive in self._drawn(condition, noise, sampler, callback):
            yield Tokens(values, alive.long())

    def _drawn(self, *arguments: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`distributions`, with a draw (B, 1, D) of each."""
        noise, sampler = arguments[1:3]
        for moments, alive in self.distributions(*arguments):
            yield draw(moments, noise, sampler.temperature), alive

    def distributions(self, sequence: SpeechSequence, noise: Noise, sampler: KallESampler,
                      callback: Callback | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Means and log standard deviations (B, 1, 2D), and bool (B,), True for rows that have not ended."""
        rows, length = sequence.text_ids.shape
        limit = self._limits(sequence, sampler.max_frames)
        cache = KVCache(self.config.depth, rows, self.config.num_kv_heads, length + int(limit.max()), self.head_width,
                        self.device, self.dtype)
        seen = sequence.mask
        moments = self.moments(self.embed(sequence), seen, cache)[:, -1:]

        def step(index: int, previous: Tensor | None) -> Tensor:
            return moments

        def stop(index: int, values: Tensor) -> Tensor:
            nonlocal seen, moments
            full = index + 1 >= limit
            if full.all():
                return full
            seen = functional.pad(seen, (0, 1), value=True)
            fed = draw(values, noise, sampler.temperature)
            moments = self.moments(self.latent_proj(fed.to(self.dtype)), seen, cache)
            mean, log_std = moments[:, 0].chunk(2, dim=-1)
            close = normal_kl(mean, 2 * log_std, END_MEAN, 2 * END_LOG_STD).mean(dim=-1) < sampler.end_threshold
            return full | close & (index + 1 >= sampler.min_frames)

        yield from autoregress(step, int(limit.max()), stop=stop, callback=callback)

    def _limits(self, sequence: SpeechSequence, max_frames: int | None) -> Tensor:
        """How many frames each row speaks at most, Long (B,).

        Raises:
            ValueError: the sequence leaves no room.
        """
        length = sequence.text_ids.shape[1]
        room = self.config.max_length - length
        if room < 1:
            raise ValueError(f"{length} positions leave no room in the model's {self.config.max_length}; shorten the "
                             "text or the recording")
        limit = torch.full((len(sequence),), min(room, max_frames or room), device=self.device)
        return limit if sequence.max_patches is None else torch.minimum(limit, sequence.max_patches).clamp(min=1)

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> SpeechSequence:
        """Texts of different lengths, two of three with speech to continue."""
        config, generator = self.config, torch.Generator().manual_seed(seed)
        texts = [torch.randint(config.vocab_size, (2 + row % 5,), generator=generator).tolist() for row in range(rows)]
        prompts = [torch.randn(1 + row % 3, config.token_dim, generator=generator) for row in range(rows)]
        return self.prepare(texts, [prompt if row % 3 else None for row, prompt in enumerate(prompts)]).to("cpu")

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Distributions of two to four frames."""
        values = 0.5 * torch.randn(rows, 4, 2 * self.config.token_dim, generator=torch.Generator().manual_seed(seed))
        return Tokens(values, torch.tensor([2 + row % 3 for row in range(rows)]))


def draw(moments: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
    """Draws (B, N, D) of means and log standard deviations (B, N, 2D)."""
    mean, log_std = moments.chunk(2, dim=-1)
    return mean + temperature * log_std.exp() * noise.normal(*mean.shape).to(mean)
