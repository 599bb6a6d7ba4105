"""TASTE's spoken language model: a Llama that goes on with text and with the codes of its words at once.

Paper: TASTE (arXiv 2504.07053). Origin: github.com/mtkresearch/TASTE-SpokenLM, no licence at its root.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import Generator, LossOutput
from photophone.generators.taste.config import spoken_lm_config
from photophone.generators.taste.fusion import WeightedFusion
from photophone.generators.taste.layout import (
    IGNORED,
    ContinuationSampler,
    SpokenPrompt,
    last_before,
    late_codes,
    piece_tables,
)
from photophone.generators.taste.quantizer import WordQuantizer, convert_quantizer
from photophone.generators.taste.text_llama import TextLlama
from photophone.kernels.sampling import draw_categorical
from photophone.layers.left_padding import pad_left
from photophone.layers.lengths import length_mask, masked_mean
from photophone.layers.llama_block import convert_llama_keys
from photophone.layers.normal import normal_kl
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.loading.lora import merge_lora

HIDDEN = -1e5
"""Logit of ids that never come."""
LORA_SCALE = 2.0
"""Of the published LoRA: alpha 128 over rank 64."""
REFERENCE_SHARE = 0.9
"""Of the text loss: the divergence from the model that was there before."""


class TasteSpokenLM(OriginalCheckpoint, Generator):
    """Text and codes of its words to text and codes that follow: Long (B, 1 + Q, N).

    The first row of a result are ids of text; the others codes, ``IGNORED`` (-1) at ids that begin no word.

    Args:
        vocab_size, width, depth, num_heads, num_kv_heads, hidden, eps, rotary_base, rotary_scaling, rounded: of
            :class:`photophone.generators.taste.text_llama.TextLlama`.
        start: id in front of every text.
        end: id that never comes.
        unit_dim, code_dim, codebook_size, num_levels: of the quantizer of
            :class:`photophone.generators.taste.tower.TasteTower`.
        delay, by_word: see :func:`photophone.generators.taste.layout.late_codes`.
        text_share: of the loss; the rest is that of the codes.
        max_length: positions of a sequence.
    """

    Condition = SpokenPrompt
    Sampler = ContinuationSampler
    DROPPED_KEYS = ("speech_decoder.*", "audio_tower.audio_joint_encoder_segmenter.*", "*vq.rvq.mlps.*",
                    "*_codebook.initted", "*.rotary_emb.inv_freq")
    """Other parts of TASTE, networks that no mode runs, tables."""

    def __init__(self, vocab_size: int = 128_256, width: int = 2048, depth: int = 16, num_heads: int = 32,
                 num_kv_heads: int = 8, hidden: int = 8192, eps: float = 1e-5, rotary_base: float = 500_000.0,
                 rotary_scaling: dict | None = None, rounded: bool = True, start: int = 128_000, end: int = 128_001,
                 unit_dim: int = 1280, code_dim: int = 256, codebook_size: int = 512, num_levels: int = 4,
                 delay: int = 1, by_word: bool = True, text_share: float = 0.5, max_length: int = 8192) -> None:
        super().__init__()
        self.llama = TextLlama(vocab_size, width, depth, num_heads, num_kv_heads, hidden, eps, rotary_base,
                               rotary_scaling, rounded)
        self.unit_proj = nn.Linear(unit_dim, width)
        self.fusion = WeightedFusion(start=(-2.0, 2.0))
        self.no_text, self.no_unit = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(unit_dim))
        self.to_code = nn.Linear(width, code_dim)
        self.code_log_var = nn.Parameter(torch.zeros(code_dim))
        self.quantizer = WordQuantizer(unit_dim, code_dim, codebook_size, num_levels).requires_grad_(False)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`photophone.generators.taste.config.spoken_lm_config`."""
        return spoken_lm_config(official)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of all of TASTE; its LoRA becomes part of the Llama."""
        state = merge_lora(rename_keys(state, [(r"^spoken_lm\.language_model\.(base_model\.model\.)?", "llama.")]),
                           LORA_SCALE)
        head, table = state.pop("llama.lm_head.weight", None), state.get("llama.model.embed_tokens.weight")
        if head is not None and table is not None and not table.is_meta and not torch.equal(head, table):
            raise ValueError("lm_head.weight is not the embedding of the ids, as it is in Llama 3.2")
        state = convert_llama_keys(rename_keys(state, [(r"^llama\.model\.embed_tokens\.", "llama.embedding.")]),
                                   "llama.model.", "llama.backbone.")
        return rename_keys(convert_quantizer(state, "audio_tower.vq.rvq.", "quantizer."), [
            (r"^spoken_lm\.fuse_for_bridge_in_llm\.linear\.", "unit_proj."),
            (r"^spoken_lm\.fuse_for_bridge_in_llm\.", "fusion."),
            (r"^spoken_lm\.extract_for_bridge_out_llm\.fc_mu\.", "to_code."),
            (r"^spoken_lm\.extract_for_bridge_out_llm\.b_logvar$", "code_log_var"),
            (r"^spoken_lm\.pad_text_unit_embed$", "no_text"), (r"^spoken_lm\.pad_audio_unit_embed$", "no_unit")])

    # what both training and sampling do -------------------------------------------------------------------------

    def sequences(self, ids: Tensor, codes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (B, M, C), mask bool (B, M), and codes Long (B, M, Q) that each place is to tell.

        Args:
            ids: Long (B, N).
            codes: Long (B, N, Q), ``IGNORED`` where no word begins.
            lengths: Long (B,).
        """
        delay = self.config.delay
        late = late_codes(codes, lengths, delay, self.config.by_word)
        places = torch.arange(late.shape[1], device=ids.device)
        text = self.llama.embedding(F.pad(ids, (0, delay)))
        text = torch.where((places < lengths[:, None])[..., None], text, self.no_text)
        rows = torch.cat([self.start_row(len(ids)), self.fuse(text, self.units(late))], dim=1)
        told = F.pad(late, (0, 0, 0, 1), value=IGNORED)
        mask = length_mask(lengths + delay + 1, rows.shape[1])
        if delay == 0:  # the authors leave the last place out here
            rows, mask, told = rows[:, :-1], length_mask(lengths, rows.shape[1] - 1), told[:, :-1]
        return rows, mask, told

    def start_row(self, rows: int) -> Tensor:
        """The begin of texts, (B, 1, C)."""
        return self.llama.embedding.weight[self.config.start].expand(rows, 1, -1)

    def units(self, late: Tensor) -> Tensor:
        """Units (B, M, unit_dim) of codes (B, M, Q): each is held until the next; before the first a learned one."""
        last = last_before(late)
        held = late.gather(1, last.clamp(min=0)[..., None].expand_as(late))
        return torch.where((last >= 0)[..., None], self.quantizer.decode(held), self.no_unit)

    def fuse(self, text: Tensor, units: Tensor) -> Tensor:
        """Embedded ids (B, M, C) and units (B, M, unit_dim) as inputs."""
        return self.fusion(self.unit_proj(units.to(text)), text)

    def code_values(self, states: Tensor, noise: Noise | None = None) -> Tensor:
        """Values (..., code_dim) in the space of the codes of states (..., C).

        Args:
            noise: of draws; None: a deviation above the mean everywhere, as the authors have it.
        """
        mean, spread = self.to_code(states), (0.5 * self.code_log_var).exp()
        return mean + spread * (1.0 if noise is None else noise.normal(*mean.shape).to(mean))

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, tokens: Tokens, condition: SpokenPrompt, *, noise: Noise | None = None) -> LossOutput:
        """See :meth:`joint_loss`; without the model that was there before.

        Args:
            tokens: whole sequences Long (B, 1 + Q, N), ids of text and codes, ``IGNORED`` where no word begins.
            condition: the same clips; not read.
            noise: of the code's values, in training.
        """
        return self.joint_loss(tokens, noise=noise)

    def joint_loss(self, tokens: Tokens, reference: Tensor | None = None, counted: Tensor | None = None,
                   noise: Noise | None = None) -> LossOutput:
        """Loss of text and codes.

        Args:
            tokens, noise: see :meth:`loss`.
            reference: logits (B, N, vocab_size) of the Llama as it was, of the same text behind its begin, which the
                text stays close to.
            counted: bool (B, N), ids that are learned; None: all of each row.
        """
        ids, codes = tokens.values[:, 0], tokens.values[:, 1:].transpose(1, 2)
        x, mask, told = self.sequences(ids, codes, tokens.mask.sum(dim=1))
        states = self.llama.states(x, mask)
        counted = tokens.mask if counted is None else counted
        logits = self.llama.logits(states[:, :ids.shape[1]])
        text = self.text_loss(logits[counted], ids[counted], None if reference is None else reference[counted])
        noise = (noise or GlobalNoise(ids.device)) if self.training else None
        values = self.code_loss(states, told, noise)
        share = self.config.text_share
        return LossOutput(share * text + (1 - share) * values,
                          {"text_loss": text.detach(), "code_loss": values.detach()})

    def text_loss(self, logits: Tensor, ids: Tensor, reference: Tensor | None = None) -> Tensor:
        """Cross-entropy in nats of ids Long (M,); with reference logits (M, V) most of it is the divergence of the
        logits (M, V) from them."""
        wrong = F.cross_entropy(logits, ids)
        if reference is None:
            return wrong
        moved = F.kl_div(logits.log_softmax(dim=-1), reference.log_softmax(dim=-1), reduction="batchmean",
                         log_target=True)
        return REFERENCE_SHARE * moved + (1 - REFERENCE_SHARE) * wrong

    def code_loss(self, states: Tensor, told: Tensor, noise: Noise | None = None) -> Tensor:
        """Squared error and divergence of the values of codes Long (B, M, Q), mean over their channels."""
        counted = told[..., 0] >= 0
        wanted = self.quantizer.code_sum(told).to(states)
        error = (self.code_values(states, noise) - wanted).square()
        spread = normal_kl(self.to_code(states), self.code_log_var, wanted)
        return masked_mean(0.5 * error + 0.5 * spread, counted)

    # sampling ---------------------------------------------------------------------------------------------------

    def check_condition(self, condition: SpokenPrompt) -> None:
        """See :meth:`SpokenPrompt.check`."""
        config = self.config
        condition.check(config.vocab_size, config.num_levels, config.codebook_size)

    def prompts(self, condition: SpokenPrompt) -> list[Tensor]:
        """What stands in front of the first new id of each row, (P, C)."""
        lengths = condition.lengths.tolist()
        if condition.codes is None:
            text = self.llama.embedding(condition.ids)
            return [row[:count] for row, count in zip(text, lengths)]
        rows, _, _ = self.sequences(condition.ids, condition.codes, condition.lengths)
        return [row[:1 + count] for row, count in zip(rows, lengths)]

    def known_codes(self, condition: SpokenPrompt) -> list[list[Tensor | None]]:
        """Codes (Q,) that are still to come behind each prompt, as they are held at the ``delay`` places behind it;
        None: unknown."""
        delay = self.config.delay
        if condition.codes is None:
            return [[None] * delay for _ in range(len(condition))]
        late = late_codes(condition.codes, condition.lengths, delay, self.config.by_word)
        last = last_before(late).tolist()
        return [[None if last[row][place] < 0 else late[row, last[row][place]] for place in range(count, count + delay)]
                for row, count in enumerate(condition.lengths.tolist())]

    def filtered(self, logits: Tensor, history: list[list[int]], banned: Tensor, sampler: ContinuationSampler
                 ) -> Tensor:
        """Logits (B, V) that ids are drawn from: filter, then penalty for repeats, then temperature."""
        logits = logits.masked_fill(banned, HIDDEN)
        ordered, order = logits.sort(dim=-1, descending=True)
        passed = ordered.softmax(dim=-1).cumsum(dim=-1) > sampler.text_top_p
        passed[:, 0] = False
        logits = logits.masked_fill(torch.zeros_like(passed).scatter(-1, order, passed), float("-inf"))
        for row, before in zip(logits, history, strict=True):
            seen = torch.tensor(sorted(set(before)), dtype=torch.long, device=row.device)
            values = row[seen]
            row[seen] = torch.where(values < 0, values * sampler.repetition_penalty,
                                    values / sampler.repetition_penalty)
        return logits / sampler.text_temperature

    def _generate(self, condition: SpokenPrompt, *, noise: Noise, sampler: ContinuationSampler,
                  callback: Callback | None) -> Tokens:
        """Long (B, 1 + Q, N). Codes are the nearest of what is predicted; nothing is drawn for them."""
        x, mask = pad_left(self.prompts(condition))
        steps = sampler.max_ids + self.config.delay
        if x.shape[1] + steps > self.config.max_length:
            raise ValueError(f"a prompt of {x.shape[1]} positions and {steps} more do not fit the model's "
                             f"{self.config.max_length}; shorten the text, or lower max_ids")
        cache = self.llama.cache(len(x), x.shape[1] + steps)
        counts = condition.lengths.tolist()
        rows = [_Row(self.config.delay, self.config.by_word, condition.ids[row, :count].tolist(), known, sampler)
                for row, (count, known) in enumerate(zip(counts, self.known_codes(condition)))]
        for step in range(steps):
            states = self.llama.states(x, mask, cache)[:, -1]
            logits = self.filtered(self.llama.logits(states), [row.history for row in rows], condition.banned, sampler)
            pick = logits.argmax(dim=-1) if sampler.text_top_p == 0 else draw_categorical(logits, noise)
            codes = self.quantizer.encode_codes(self.code_values(states)[:, None])[:, 0]
            opens, stops = condition.opens[pick].tolist(), condition.stops[pick].tolist()
            for index, row in enumerate(rows):
                row.take(int(pick[index]), opens[index], stops[index], codes[index])
            notify(callback, step + 1, steps)
            if all(row.done for row in rows):
                break
            x = self.fuse(self.llama.embedding(pick), torch.stack([self.held_unit(row.held) for row in rows]))[:, None]
            mask = F.pad(mask, (0, 1), value=True)
        return joined(rows, self.config.num_levels, self.device)

    def held_unit(self, codes: Tensor | None) -> Tensor:
        """The unit (unit_dim,) of codes (Q,); of None a learned one."""
        return self.no_unit if codes is None else self.quantizer.decode(codes[None, None])[0, 0]

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> SpokenPrompt:
        """Text of four or five ids, of which every other begins a word."""
        made, config = self.example_tokens(rows, seed), self.config
        pieces = [" a" if index % 2 else "b." for index in range(config.vocab_size)]
        return SpokenPrompt(made.values[:, 0], made.lengths, made.values[:, 1:].transpose(1, 2),
                            **piece_tables(pieces, config.start, config.end))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Text of four or five ids, of which every other begins a word."""
        generator, config = torch.Generator().manual_seed(seed), self.config
        ids = torch.randint(0, config.start, (rows, 1, 5), generator=generator)
        codes = torch.randint(0, config.codebook_size, (rows, config.num_levels, 5), generator=generator)
        codes[..., 1::2] = IGNORED
        return Tokens(torch.cat([ids, codes], dim=1), torch.tensor([5 - row % 2 for row in range(rows)]))


@dataclass
class _Row:
    """One row being continued.

    Args:
        delay, by_word: words, or ids, by which codes are late.
        history: ids so far, those of the prompt too.
        known: codes (Q,) that are still to come when the text goes on.
        sampler: says when the text ends.

    Attributes:
        ids, codes: of the new text.
        places: of the ids that codes are told of, at each word or step so far; None: of none.
        words: that have begun.
        held: codes that the next input has; None: a learned unit.
        late: steps behind the text that are left; None: it goes on.
    """

    delay: int
    by_word: bool
    history: list[int]
    known: list[Tensor | None]
    sampler: ContinuationSampler
    ids: list[int] = field(default_factory=list)
    codes: list[Tensor | None] = field(default_factory=list)
    places: list[int | None] = field(default_factory=list)
    words: int = 0
    held: Tensor | None = None
    late: int | None = None

    @property
    def done(self) -> bool:
        """Text and all its codes are there."""
        return self.late == 0

    def take(self, pick: int, opens: bool, stops: bool, codes: Tensor) -> None:
        """What a step picked."""
        if self.done:
            return
        words, most = self.words, self.sampler.extra_words
        self.history.append(pick)
        goes_on, begins = self.late is None, opens or not words or self.late is not None
        if goes_on:
            self.ids.append(pick)
            self.codes.append(None)
        self.words += begins
        if begins or not self.by_word:
            self.tell(len(self.ids) - 1 if begins and goes_on else None, codes)
        if self.late is not None:
            self.late -= 1
        elif words >= 3 * most or words >= most and stops or len(self.ids) >= self.sampler.max_ids:
            self.late = self.delay

    def tell(self, place: int | None, codes: Tensor) -> None:
        """A word or step comes, or what is late goes on behind the text: the codes (Q,) are those of an earlier one.

        Args:
            place: of the id that begins a word here; None: none does.
        """
        told = len(self.places) - self.delay
        self.places.append(place)
        if told < 0:
            self.held = self.known[len(self.places) - 1]
        elif self.places[told] is not None:
            self.codes[self.places[told]] = self.held = codes


def joined(rows: list[_Row], num_levels: int, device: torch.device) -> Tokens:
    """Ids and codes of rows as Long (B, 1 + Q, N)."""
    lengths = torch.tensor([len(row.ids) for row in rows], device=device)
    values = torch.full((len(rows), 1 + num_levels, int(lengths.max())), IGNORED, device=device)
    for made, row in zip(values, rows, strict=True):
        made[0] = 0
        made[0, :len(row.ids)] = torch.tensor(row.ids, device=device)
        for place, codes in enumerate(row.codes):
            if codes is not None:
                made[1:, place] = codes
    return Tokens(values, None if int(lengths.min()) == values.shape[2] else lengths)
