"""SpeechFlowAR: photophone's own text-to-speech generator over continuous codec tokens.

In the line of DiTAR (arXiv 2502.03930): a causal transformer goes from patch to patch, a local diffusion transformer
draws the tokens of a patch together. Where small data does not teach alignment, it is given: a duration for each
phoneme is predicted from the text, as in RALL-E (2404.03204), and every token knows the phoneme that it belongs to.
So no phoneme is skipped or repeated, and the length is known before the first token.

Code and weights: Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.limits import SPEED_RANGE
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.threads import fitting_threads
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, KVCache, collect, notify
from photophone.generators.base import Generator, LossOutput
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, guidance_option, option, steps_option, temperature_option
from photophone.heads import build_head
from photophone.layers.llama_block import LlamaBlock, run_blocks
from photophone.layers.rotary import sequence_rotary
from photophone.layers.transformer import TransformerBlock

MAX_PATCHES = 4096
"""Of one sentence; at 40 tokens a second and patches of 4 it is nearly seven minutes."""


ACCENTS = ("american", "british")
"""Of named voices: in which their text is read."""


@dataclass(frozen=True)
class Phonemes(Condition):
    """Sentences as phonemes.

    Args:
        ids: Long (B, L) of the phoneme table.
        mask: bool (B, L), True for phonemes: each row from its first place to its own end.
        durations: Long (B, L), tokens that each phoneme takes, 0 behind the mask; each row sums to whole patches.
            Training needs them; in sampling None lets the model tell them from the text.
        speeds: float (B,), of each row beside that of the sampler; None: 1. Given durations stay.
        states: float (B, L, C), what :meth:`SpeechFlowAR.encode_text` makes of the row, where it is known already.
        voices: float (B, V), how much of each named voice speaks a row, of at least 0 and with the sum 1; None: the
            first voice. For generators that have names for voices.
    """

    ids: Tensor
    mask: Tensor
    durations: Tensor | None = None
    speeds: Tensor | None = None
    states: Tensor | None = None
    voices: Tensor | None = None


@dataclass(frozen=True)
class SpeechSampler(Sampler):
    """Options of :class:`SpeechFlowAR`."""

    num_inference_steps: int = steps_option(8, "solver steps of each patch")
    guidance_scale: float = guidance_option(2.0)
    temperature: float = temperature_option()
    speed: float = option(1.0, "1 is the voice's own speed, 2 is twice as fast; given durations stay",
                          low=SPEED_RANGE[0], high=SPEED_RANGE[1])


def check_voices(voices: list[list[str]]) -> None:
    """Refuse a list of voices that names none, one twice, or an accent that is not one of ACCENTS."""
    pairs = all(len(pair) == 2 and pair[1] in ACCENTS for pair in voices)
    if not voices or not pairs or len(dict(voices)) != len(voices):
        raise ValueError("voices must be pairs of a name, each once, and one of "
                         f"{', '.join(ACCENTS)}, such as [[heart, american]]; got {voices}")


class PhonemeBlock(nn.Module):
    """A ConvNeXt block over a padded sequence (B, N, C), not causal; padding is zero for the convolution.

    It is the function of :class:`photophone.layers.convnext.ConvNeXtBlock`, whose weights have the same names. That one
    works on (B, C, N) and fuses the last step, which rounds otherwise in the last bit: the published voice would not
    say the same samples again.
    """

    def __init__(self, width: int, hidden: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, hidden)
        self.pwconv2 = nn.Linear(hidden, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.dwconv((x * mask[..., None]).transpose(1, 2)).transpose(1, 2)
        return x + self.gamma * self.pwconv2(functional.gelu(self.pwconv1(self.norm(y))))


def places(durations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each token of the speech stands in the text.

    Args:
        durations: Long (B, L), tokens of each phoneme.

    Returns:
        index Long (B, N): the phoneme of each token; fraction float (B, N) in (0, 1): the token's centre within its
        phoneme; valid Bool (B, N). N is the largest sum.
    """
    ends = durations.cumsum(dim=1)  # (B, L)
    total = int(ends[:, -1].max())
    token = torch.arange(total, device=durations.device).expand(len(durations), -1)  # (B, N)
    index = torch.searchsorted(ends, token.contiguous(), right=True).clamp(max=durations.shape[1] - 1)
    length = durations.gather(1, index).clamp(min=1)
    fraction = (token - (ends.gather(1, index) - length) + 0.5) / length
    return index, fraction.clamp(0, 1), token < ends[:, -1:]


class SpeechFlowAR(Generator):
    """Phonemes to continuous codec tokens (B, N, D), patch by patch.

    Args:
        num_symbols: of the phoneme table.
        token_dim: D of the codec.
        patch_size: tokens P drawn together.
        text_width, text_depth: of the phoneme encoder: convolution blocks, then one attention block.
        aligned_depth: convolution blocks over the phonemes laid out in time, which see what comes next.
        width, depth, num_heads: of the causal backbone over patches.
        window: patches that the backbone looks back, so cost and behaviour do not depend on the length.
        cond_width: channels that a token's condition has in the head.
        head, head_config: a name of ``photophone.heads.HEADS`` and its further arguments.
        max_duration: tokens that a phoneme may take.
        context_noise: earlier tokens are mixed with up to this share of noise in training (arXiv 2411.18447).
        sampling_noise: the share that they are mixed with in sampling.
        condition_drop: share of training patches whose text and backbone are blanked, for guidance in the head.
        sampling_steps: solver steps when nothing else is said; None: those of :class:`SpeechSampler`.
        voices: pairs of a name and its accent, one of ACCENTS; None: one voice without a name.
        sound_lead: seconds by which sounds come before the tokens that are laid out for them, as the times that it
            learned from have it; nothing of what is made depends on it, but the times of words do. Measured by
            :func:`photophone.training.alignment.lead.sound_lead`.
    """

    Condition = Phonemes
    Sampler = SpeechSampler
    streams = True
    paces = True

    def __init__(self, num_symbols: int = 115, token_dim: int = 24, patch_size: int = 4, text_width: int = 192,
                 text_depth: int = 3, aligned_depth: int = 2, width: int = 224, depth: int = 2, num_heads: int = 4,
                 window: int = 32, cond_width: int = 160, head: str = "local_dit", head_config: dict | None = None,
                 max_duration: int = 80, context_noise: float = 0.4, sampling_noise: float = 0.02,
                 condition_drop: float = 0.1, sampling_steps: int | None = None,
                 voices: list[list[str]] | None = None, sound_lead: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, text_width)
        self.text_blocks = nn.ModuleList(PhonemeBlock(text_width, 2 * text_width) for _ in range(text_depth))
        self.text_attention = TransformerBlock(text_width, 4, mlp_ratio=2, qk_norm=True)
        self.text_norm = nn.LayerNorm(text_width)
        self.duration = nn.Sequential(nn.Linear(text_width, text_width), nn.GELU(), nn.Linear(text_width, 1))
        self.place_in = nn.Linear(4, text_width)
        self.aligned_blocks = nn.ModuleList(PhonemeBlock(text_width, 2 * text_width) for _ in range(aligned_depth))
        self.aligned_norm = nn.LayerNorm(text_width)
        self.patch_text = nn.Linear(patch_size * text_width, width)
        self.patch_in = nn.Linear(patch_size * token_dim, width)
        self.start = nn.Parameter(torch.zeros(patch_size * token_dim))  # the patch before the first
        self.blocks = nn.ModuleList(LlamaBlock(width, num_heads, 2 * width) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.cond_hidden = nn.Linear(width, patch_size * cond_width)
        self.cond_text = nn.Linear(text_width, cond_width)
        self.cond_past = nn.Linear(patch_size * token_dim, patch_size * cond_width)
        self.blank = nn.Parameter(torch.zeros(cond_width))
        config = {"width": 192, "depth": 3, "num_heads": 3, **(head_config or {}), "cell_size": patch_size}
        self.token_head = build_head(head, in_dim=cond_width, token_dim=token_dim, **config)
        self.register_buffer("token_mean", torch.zeros(token_dim))
        self.register_buffer("token_std", torch.ones(token_dim))
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.voice_in = self.voice_out = None
        if voices is not None:
            check_voices(voices)
            self.voice_in = nn.Embedding(len(voices), text_width)
            self.voice_out = nn.Linear(text_width, text_width, bias=False)
            nn.init.normal_(self.voice_in.weight, std=0.1)

    @torch.no_grad()
    def fit_statistics(self, tokens: Tokens) -> None:
        """Normalise tokens by the mean and deviation of these, channel by channel."""
        values = tokens.values[tokens.mask]  # (M, D)
        self.token_mean.copy_(values.mean(dim=0))
        self.token_std.copy_(values.std(dim=0).clamp(min=1e-3))

    # text -------------------------------------------------------------------------------------------------------

    @property
    def accents(self) -> dict[str, str]:
        """Of each named voice, in the order of their numbers."""
        return dict(self.config.get("voices") or ())

    def encode_text(self, ids: Tensor, mask: Tensor, voices: Tensor | None = None) -> Tensor:
        """Phoneme states (B, L, C), from which durations and sound are made; ``voices`` is of :class:`Phonemes`."""
        x = self.embedding(ids)
        voice = None if self.voice_in is None else self._voice(voices, len(ids))
        if voice is not None:
            x = x + voice
        for block in self.text_blocks:
            x = block(x, mask)
        states = self.text_norm(self.text_attention(x, mask[:, None, None, :]))
        return states if voice is None else states + self.voice_out(voice)

    def _voice(self, voices: Tensor | None, rows: int) -> Tensor:
        """Vectors (B, 1, C) of the voices that speak."""
        table = self.voice_in.weight
        mixed = table[:1].expand(rows, -1) if voices is None else voices.to(table) @ table
        return mixed[:, None]

    def log_durations(self, text: Tensor) -> Tensor:
        """Natural logarithm of the tokens that each phoneme takes, (B, L)."""
        return self.duration(text)[..., 0]

    def align(self, text: Tensor, durations: Tensor) -> Tensor:
        """Phoneme states laid out in time, (B, N, C), zero behind each row's end; N is the largest sum of durations."""
        index, fraction, valid = places(durations)
        length = durations.gather(1, index).clamp(min=1).to(text.dtype)
        fraction = fraction.to(text.dtype)
        place = torch.stack([fraction, 1 - fraction, length.log() / 3, length.reciprocal()], dim=-1)
        x = text.gather(1, index[..., None].expand(-1, -1, text.shape[-1])) + self.place_in(place)
        for block in self.aligned_blocks:
            x = block(x, valid)
        return self.aligned_norm(x) * valid[..., None]

    @torch.no_grad()
    def durations(self, ids: Tensor, mask: Tensor, speed: float = 1.0, voices: Tensor | None = None) -> Tensor:
        """Tokens of each phoneme, Long (B, L): at least 1, 0 behind the mask, rounded so that errors do not add up.

        The last phoneme is lengthened so that each row has whole patches.
        """
        return self._round_durations(self.log_durations(self.encode_text(ids, mask, voices)), mask, speed)

    def _round_durations(self, logs: Tensor, mask: Tensor, speed: float | Tensor) -> Tensor:
        exact = (logs.double().exp() / speed).clamp(1, self.config.max_duration) * mask
        ends = exact.cumsum(dim=1).round().long()
        counts = ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1])).clamp(min=1) * mask
        last = mask.sum(dim=1, keepdim=True) - 1
        return counts.scatter_add(1, last, -counts.sum(dim=1, keepdim=True) % self.config.patch_size)

    # patches ----------------------------------------------------------------------------------------------------

    def _patches(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N / P, P * C)."""
        return x.unflatten(1, (-1, self.config.patch_size)).flatten(2)

    def _conditions(self, hidden: Tensor, text: Tensor, past: Tensor, blank: Tensor | None = None) -> Tensor:
        """What the head sees of each token, (B, N, cond_width).

        Args:
            hidden: backbone states (B, T, width) of T patches.
            text: ``cond_text`` of the text laid out in time, (B, T * P, cond_width).
            past: the patch before each, (B, T, P * D).
            blank: Bool (B, T), patches whose text and backbone are hidden; None: none.
        """
        known = self.cond_hidden(hidden).unflatten(-1, (self.config.patch_size, -1))  # (B, T, P, cond_width)
        known = known + text.unflatten(1, (-1, self.config.patch_size))
        if blank is not None:
            known = torch.where(blank[..., None, None], self.blank, known)
        return (known + self.cond_past(past).unflatten(-1, (self.config.patch_size, -1))).flatten(1, 2)

    def loss(self, tokens: Tokens, condition: Phonemes, *, noise: Noise | None = None) -> LossOutput:
        """Flow loss of the patches and error of the logarithms of the durations, one to one.

        Args:
            tokens: float (B, N, D) of the codec; N is the largest sum of durations.
            condition: with durations.
            noise: see :meth:`Generator.loss`.

        Raises:
            ValueError: there are no durations, or tokens of other shape than they tell.
        """
        noise, durations = noise or GlobalNoise(tokens.values.device), condition.durations
        if durations is None:
            raise ValueError("training needs the durations of the phonemes")
        if tokens.values.shape[1] != int(durations.sum(dim=1).max()):
            raise ValueError(f"durations of {int(durations.sum(dim=1).max())} tokens for {tokens.num_tokens} tokens")
        text = self.encode_text(condition.ids, condition.mask, condition.voices)
        spoken = condition.mask & (durations > 0)
        target = durations.clamp(1, self.config.max_duration).to(text.dtype).log()
        errors = functional.smooth_l1_loss(self.log_durations(text), target, reduction="none", beta=0.25)
        duration_loss = errors[spoken].mean()
        flow_loss = self._flow_loss(tokens.values, durations, self.align(text, durations), noise)
        return LossOutput(flow_loss + duration_loss,
                          {"flow_loss": flow_loss.detach(), "duration_loss": duration_loss.detach()})

    def _flow_loss(self, tokens: Tensor, durations: Tensor, aligned: Tensor, noise: Noise) -> Tensor:
        """Of tokens (B, N, D) and the text laid out in time (B, N, C)."""
        size = self.config.patch_size
        values = (tokens - self.token_mean) / self.token_std
        rows, count = len(values), values.shape[1] // size
        ends = durations.sum(1, keepdim=True)
        valid = torch.arange(count, device=values.device) * size < ends  # (B, T)
        share = self.config.context_noise * noise.uniform(rows, count, 1)
        patches = self._patches(values)
        noised = (1 - share) * patches + share * noise.normal(*patches.shape)
        past = torch.cat([self.start.expand(rows, 1, -1), noised[:, :-1]], dim=1)
        hidden = self._backbone(self.patch_in(past) + self.patch_text(self._patches(aligned)))
        blank = noise.uniform(rows, count) < self.config.condition_drop if self.training else None
        conditions = self._conditions(hidden, self.cond_text(aligned), past, blank)
        # All valid patches of the batch are rows of their own: the head spends nothing on padding.
        whole_patches = conditions.unflatten(1, (-1, size))[valid], values.unflatten(1, (-1, size))[valid]
        return self.token_head.loss(*whole_patches, noise=noise.parts((ends[:, 0] // size).tolist()))

    def _backbone(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, width), after the T' patches in the cache: each patch sees itself and ``window - 1`` before it."""
        start = 0 if cache is None else cache.length
        count = x.shape[1]
        table = sequence_rotary(MAX_PATCHES, self.config.width // self.config.num_heads)[start:start + count]
        query = torch.arange(start, start + count, device=x.device)[:, None]
        key = torch.arange(start + count, device=x.device)
        mask = (key <= query) & (key > query - self.config.window)
        return run_blocks(self.blocks, x, mask, table, None if cache is None else cache.layers, self.norm)

    # sampling ---------------------------------------------------------------------------------------------------

    def check_condition(self, condition: Phonemes) -> None:
        """Phonemes of the table, each row from its first place on; durations of whole patches, where given."""
        if condition.states is not None:  # it is planned, and was checked then
            return
        ids, mask, durations = condition.ids, condition.mask, condition.durations
        if ids.ndim != 2 or ids.dtype != torch.long or not ids.numel():
            raise ValueError(f"phonemes must be Long (B, L), got {ids.dtype} {tuple(ids.shape)}")
        if not 0 <= int(ids.min()) <= int(ids.max()) < self.config.num_symbols:
            raise ValueError(f"phonemes must lie in 0..{self.config.num_symbols - 1}, got "
                             f"{int(ids.min())}..{int(ids.max())}")
        if mask.shape != ids.shape or mask.dtype != torch.bool or not mask[:, 0].all() or (mask[:, 1:] > mask[:, :-1]
                                                                                          ).any():
            raise ValueError(f"the mask must be bool {tuple(ids.shape)}, each row True up to its own end")
        speeds = condition.speeds
        if speeds is not None and (speeds.shape != ids.shape[:1] or not (speeds > 0).all()):
            raise ValueError(f"speeds must be float ({len(ids)},) over 0, got {tuple(speeds.shape)}")
        self._check_voices(condition.voices, len(ids))
        if durations is None:
            return
        if durations.shape != ids.shape or durations.dtype != torch.long or int(durations.min()) < 0:
            raise ValueError(f"durations must be Long {tuple(ids.shape)} of at least 0")
        totals = durations.sum(dim=1)
        if durations[~mask].any() or (totals % self.config.patch_size).any() or not totals.all():
            raise ValueError(f"durations must be 0 behind the mask and sum to whole patches of "
                             f"{self.config.patch_size}, got sums of {totals.tolist()}")

    def _check_voices(self, voices: Tensor | None, rows: int) -> None:
        """Shares of the named voices for each row, where there are any."""
        count = len(self.accents)
        if voices is None:
            return
        if not count:
            raise ValueError("this generator has one voice without a name; leave voices out")
        if voices.shape != (rows, count) or not (voices >= 0).all() or (voices.sum(1) - 1).abs().max() > 1e-3:
            raise ValueError(f"voices must be float ({rows}, {count}) of at least 0 with the sum 1 in each row, got "
                             f"{tuple(voices.shape)}")

    @torch.no_grad()
    def plan(self, condition: Phonemes, *, sampler: SpeechSampler | None = None) -> Phonemes:
        """With durations, and the states of the text that they are told from."""
        condition, sampler = self._prepare(condition, sampler)
        with fitting_threads(self, self.places_at_once(len(condition))):
            return self._planned(condition, sampler)

    def _planned(self, condition: Phonemes, sampler: SpeechSampler) -> Phonemes:
        """Durations, and the states of the text that they were told from."""
        text = condition.states
        if text is None:
            text = self.encode_text(condition.ids, condition.mask, condition.voices)
        durations = condition.durations
        if durations is None:
            speed = sampler.speed
            if condition.speeds is not None:
                speed = speed * condition.speeds.double()[:, None]
            durations = self._round_durations(self.log_durations(text), condition.mask, speed)
        return replace(condition, durations=durations, states=text)

    def _generate(self, condition: Phonemes, *, noise: Noise, sampler: SpeechSampler,
                  callback: Callback | None) -> Tokens:
        return Tokens(*collect(self._steps(condition, noise, sampler, callback)))

    def _stream(self, condition: Phonemes, *, noise: Noise, sampler: SpeechSampler,
                callback: Callback | None) -> Iterator[Tokens]:
        """Patches float (B, P, D), with lengths P, or 0 for rows that have ended."""
        for values, alive in self._steps(condition, noise, sampler, callback):
            yield Tokens(values, alive.long() * values.shape[1])

    def _steps(self, condition: Phonemes, noise: Noise, sampler: SpeechSampler,
               callback: Callback | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Patches (B, P, D), and bool (B,), True for rows that have not ended.

        Raises:
            ValueError: a text of more than MAX_PATCHES patches.
        """
        config, rows = self.config, len(condition)
        condition = self._planned(condition, sampler)
        durations = condition.durations
        aligned = self.align(condition.states, durations)
        ends = durations.sum(dim=1) // config.patch_size  # patches of each row
        total = int(ends.max())
        if total > MAX_PATCHES:
            raise ValueError(f"the text takes {total} patches, over the limit of {MAX_PATCHES}; split it")
        patch_text, token_text = self.patch_text(self._patches(aligned)), self.cond_text(aligned)
        head_dim = config.width // config.num_heads
        dtype = self.dtype  # looks through all weights: once, not for each patch
        cache = KVCache(config.depth, rows, config.num_heads, total, head_dim, self.device, dtype)
        options = dict(guidance=sampler.guidance_scale, temperature=sampler.temperature, noise=noise,
                       **self.token_head.step_options(sampler.num_inference_steps))
        two = self.token_head.reads_null(sampler.guidance_scale)
        past = self.start.expand(rows, 1, -1)
        blank = torch.ones(rows, 1, dtype=torch.bool, device=self.device)
        with self.token_head.remember_times():
            for index in range(total):
                hidden = self._backbone(self.patch_in(past) + patch_text[:, index:index + 1], cache)
                part = token_text[:, index * config.patch_size:(index + 1) * config.patch_size]
                conditions = self._conditions(hidden, part, past)
                if two:
                    conditions = torch.cat([conditions, self._conditions(hidden, part, past, blank)])
                values = self.token_head.sample(conditions, **options)  # (B, P, D)
                past = self._blurred(self._patches(values), noise).to(dtype)
                yield values * self.token_std.float() + self.token_mean.float(), index < ends
                notify(callback, index + 1, total)

    def _blurred(self, patches: Tensor, noise: Noise) -> Tensor:
        """A patch as the next one sees it: mixed with a little noise, as in training."""
        share = self.config.sampling_noise
        return (1 - share) * patches + share * noise.normal(*patches.shape) if share else patches

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> Phonemes:
        generator, length = torch.Generator().manual_seed(seed), 6
        ids = torch.randint(1, self.config.num_symbols, (rows, length), generator=generator)
        mask = torch.arange(length) < torch.tensor([[length - row % 3] for row in range(rows)])
        durations = torch.randint(1, 4, (rows, length), generator=generator) * mask
        last = mask.sum(dim=1, keepdim=True) - 1
        missing = -durations.sum(dim=1, keepdim=True) % self.config.patch_size
        return Phonemes(ids, mask, durations.scatter_add(1, last, missing))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        lengths = self.example_condition(rows, seed).durations.sum(dim=1)
        shape = rows, int(lengths.max()), self.config.token_dim
        return Tokens(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), lengths)
