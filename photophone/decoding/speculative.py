"""Speculative decoding of codes: several are proposed cheaply and judged by the model in one pass, without any change
of what is drawn.

Proposals come from a smaller model of the same codes (arXiv 2211.17192, 2302.01318) or from what followed the last
codes when they occurred before (n-gram lookup, as in arXiv 2304.04487). A proposal x is accepted with probability
min(1, p(x) / q(x)); the first that is not is replaced by a draw from max(p - q, 0), normalised, so that codes follow
the model's own distribution p exactly. At temperature 0 both p and q are certain: codes are those of plain decoding.

Continuous tokens have :mod:`photophone.generators.cspd.model`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.code_model import CodeModel
from photophone.decoding.loop import Callback, notify
from photophone.heads.base import check_temperature, is_guided
from photophone.kernels.sampling import draw_categorical, filter_logits
from photophone.kernels.solver import combine_guidance

Observe = Callable[[Tensor], None]


class _Rows:
    """A model, its cache with the guidance rows behind the others, and how its codes are drawn."""

    def __init__(self, model: CodeModel, condition: Any, spare: int, guidance: float, **filters: float) -> None:
        self.model, self.guidance, self.filters = model, guidance, filters
        condition = condition.to(model.device)
        self.prefix = model.prefix(condition)
        self.copies = 2 if is_guided(guidance) else 1
        if self.copies == 2:
            self.prefix = torch.cat([self.prefix, model.prefix(model.null_condition(condition))])
        self.cache = model.static_cache(len(self.prefix), spare)
        table = model.rotary().to(model.device)
        # proposals behind the last code are fed like others; what follows from them is not used
        self.rotary = torch.cat([table, table[-1:].expand(spare, -1, -1)])

    def first_law(self) -> Tensor:
        """Probabilities (B, 1, V) of the first code, from the condition."""
        return self._law(self.prefix, torch.zeros(len(self.prefix), dtype=torch.long, device=self.prefix.device), 1)

    def laws(self, codes: Tensor, numbers: Tensor) -> Tensor:
        """Probabilities (B, n, V) of what follows each of codes Long (B, n), the first of which is code ``numbers``."""
        x = self.model.token_embedding(codes).repeat(self.copies, 1, 1)
        return self._law(x, (self.model.prefix_length + numbers).repeat(self.copies), codes.shape[1])

    def _law(self, x: Tensor, start: Tensor, count: int) -> Tensor:
        self.cache.place(start)
        hidden = self.model.decode_step(x, self.rotary, self.cache)[:, -count:]
        logits = self.model.token_head.logits(hidden)
        if self.copies == 2:
            logits = combine_guidance(*logits.chunk(2), self.guidance)
        if self.filters["temperature"] == 0:
            return F.one_hot(logits.argmax(-1), logits.shape[-1]).float()
        return filter_logits(logits, **self.filters).softmax(-1)


class Proposer(ABC):
    """Where proposals come from."""

    @abstractmethod
    def propose(self, codes: Tensor, done: Tensor, count: int, noise: Noise | None) -> tuple[Tensor, Tensor | None]:
        """Proposals Long (B, count) and their probabilities (B, count, V), or None where they are certain.

        Args:
            codes: Long (B, M); row b has ``done[b]`` codes, at least one.
            noise: B rows, or None for greedy decoding.
        """


class NGramProposer(Proposer):
    """What followed the last codes when they occurred before; without such a place, the last code again.

    Args:
        longest: codes that are looked for, then fewer, down to one.
    """

    def __init__(self, longest: int = 3) -> None:
        if longest < 1:
            raise ValueError(f"an n-gram has at least one code, got {longest}")
        self.longest = longest

    def propose(self, codes: Tensor, done: Tensor, count: int, noise: Noise | None) -> tuple[Tensor, None]:
        rows = [self._continue(row[:length], count) for row, length in zip(codes.tolist(), done.tolist())]
        return torch.tensor(rows, device=codes.device), None

    def _continue(self, history: list[int], count: int) -> list[int]:
        for size in range(min(self.longest, len(history) - 1), 0, -1):
            for start in range(len(history) - size - 1, -1, -1):
                if history[start:start + size] == history[-size:]:
                    found = history[start + size:start + size + count]
                    return found + history[-1:] * (count - len(found))
        return history[-1:] * count


class DraftProposer(Proposer):
    """A smaller model of the same codes, drawn with the settings of the large one."""

    def __init__(self, rows: _Rows) -> None:
        self.rows = rows
        rows.first_law()  # its cache now holds the condition

    def propose(self, codes: Tensor, done: Tensor, count: int, noise: Noise | None) -> tuple[Tensor, Tensor]:
        previous, proposed, laws = codes.gather(1, done[:, None] - 1), [], []
        for index in range(count):
            laws.append(self.rows.laws(previous, done - 1 + index))
            previous = draw_from(laws[-1][:, 0], noise)[:, None]
            proposed.append(previous)
        self.rows.laws(previous, done - 1 + count)  # so that the cache has the last proposal, should it be accepted
        return torch.cat(proposed, dim=1), torch.cat(laws, dim=1)


def draw_from(law: Tensor, noise: Noise | None) -> Tensor:
    """One draw a row from probabilities (B, V), not necessarily normalised: Long (B,); without noise the likeliest."""
    return law.argmax(-1) if noise is None else draw_categorical(law.log(), noise)


def judge(proposed: Tensor, laws: Tensor, drafts: Tensor | None, noise: Noise | None) -> tuple[Tensor, Tensor]:
    """Accept proposals from the first on, and draw the code behind the last that is accepted.

    Args:
        proposed: Long (B, k).
        laws: probabilities (B, k + 1, V) of the model: before each proposal, and behind the last.
        drafts: those that proposals were drawn from, (B, k, V); None where they were certain.
        noise: B rows: uniform draws (B, k), then (B, V); None where all laws are certain.

    Returns:
        How many were accepted, Long (B,) in 0..k, and the code behind them, Long (B,).
    """
    count, vocabulary = proposed.shape[1], laws.shape[-1]
    if drafts is None:
        drafts = F.one_hot(proposed, vocabulary).to(laws.dtype)
    wanted, given = (law[:, :count].gather(-1, proposed[..., None])[..., 0] for law in (laws, drafts))
    uniform = torch.zeros_like(wanted) if noise is None else noise.uniform(*wanted.shape).to(wanted.device)
    accepted = (uniform * given < wanted).long().cumprod(dim=1).sum(dim=1)
    at = accepted[:, None, None].expand(-1, 1, vocabulary)
    law = laws.gather(1, at)[:, 0]
    rest = (law - F.pad(drafts, (0, 0, 0, 1)).gather(1, at)[:, 0]).clamp(min=0)
    # equal laws leave no rest, and reject nothing but by rounding
    return accepted, draw_from(torch.where(rest.sum(-1, keepdim=True) > 0, rest, law), noise)


@torch.no_grad()
def generate_speculatively(model: CodeModel, condition: Any, *, noise: Noise, draft: CodeModel | None = None,
                           num_proposals: int = 4, longest_ngram: int = 3, guidance_scale: float = 1.0,
                           temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
                           top_p_rule: str = "reach", callback: Callback | None = None,
                           observe: Observe | None = None) -> Tokens:
    """Sample codes with fewer passes of the model, from the same distribution as
    :meth:`photophone.LlamaGenGPT.generate`.

    Draws are others than those of ``generate`` with the same noise; at temperature 0 the codes are the same, up to
    logits that differ by rounding alone. A row does not depend on the others.

    Args:
        model: in eval mode.
        condition, noise: see the model's ``generate``.
        guidance_scale, temperature, top_k, top_p, top_p_rule: see the options of :class:`photophone.LlamaGenGPT`.
        draft: a model of the same grid and codes that proposes; None: n-grams do.
        num_proposals: codes that are proposed for each pass of the model.
        longest_ngram: see :class:`NGramProposer`.
        callback: called as ``callback(codes, total)`` with the codes of the slowest row after each pass.
        observe: called after each pass with how many of ``num_proposals`` each row accepted, Long (B,).

    Returns:
        Tokens, Long (B, N).

    Raises:
        ValueError: for settings out of range, or a draft that does not fit.
    """
    check_temperature(temperature)
    model.check_condition(condition)
    total = model.config.grid_size**2
    if not 1 <= num_proposals < total:
        raise ValueError(f"num_proposals must lie in 1..{total - 1}, below the codes of an image, got {num_proposals}")
    for name in ("grid_size", "num_codes"):
        if draft is not None and draft.config[name] != model.config[name]:
            raise ValueError(f"model and draft must agree in {name}, got {model.config[name]} and {draft.config[name]}")
    settings = dict(guidance=guidance_scale, temperature=temperature, top_k=top_k, top_p=top_p,
                    top_p_rule=top_p_rule)
    rows = _Rows(model, condition, num_proposals, **settings)
    proposer = NGramProposer(longest_ngram) if draft is None else DraftProposer(
        _Rows(draft, condition, num_proposals, **settings))
    source = noise if temperature else None
    codes = torch.zeros(len(condition), total + num_proposals + 1, dtype=torch.long, device=model.device)
    codes[:, 0] = draw_from(rows.first_law()[:, 0], source)
    done = torch.ones(len(condition), dtype=torch.long, device=model.device)
    order = torch.arange(num_proposals + 1, device=model.device)
    while (slowest := int(done.min())) < total:
        proposed, drafts = proposer.propose(codes, done, num_proposals, source)
        laws = rows.laws(torch.cat([codes.gather(1, done[:, None] - 1), proposed], dim=1), done - 1)
        accepted, behind = judge(proposed, laws, drafts, source)
        # what lies behind the new code is written over by the next pass
        new = torch.where(order < accepted[:, None], F.pad(proposed, (0, 1)), behind[:, None])
        codes.scatter_(1, done[:, None] + order, new)
        done = (done + accepted + 1).clamp(max=total)
        if observe is not None:
            observe(accepted)
        notify(callback, slowest, total)
    return Tokens(codes[:, :total])
