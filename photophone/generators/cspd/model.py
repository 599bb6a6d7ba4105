"""CSpD, continuous speculative decoding: a small MAR proposes tokens, a large one verifies several steps at once.

Paper: arXiv 2411.11925. Official code: MarkXCloud/CSpD, MIT. It has no weights of its own: both models are published
MARs (:mod:`photophone.generators.mar.model`), and nothing is trained.

Draft and target denoise each token with the same noise. The Gaussians of the last denoising step decide whether the
target accepts a proposal; a rejected token is drawn again from what the target has and the draft lacks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from photophone.core.noise import Noise, ReplayNoise
from photophone.core.tokens import Tokens
from photophone.decoding.continuous import guidance_progress, put_places, take_places
from photophone.decoding.loop import Callback, notify, reveal_order
from photophone.generators.base import Generator, LossOutput
from photophone.generators.conditions import ClassLabels
from photophone.generators.mar.model import MAR, MARSampler
from photophone.generators.sampler import option
from photophone.heads.base import is_guided
from photophone.loading.checkpoints import load_strict
from photophone.loading.saved import is_saved_model

RESIDUAL_ROUNDS = 100
"""Proposals for a rejected token; one that none of them replaces becomes zero, as in the official code."""


@dataclass
class LastStep:
    """What the acceptance rule knows of a denoised token, float32 (..., D) each.

    Attributes:
        mean, std: Gaussian of the last denoising step; ``std`` has the temperature.
        log_spread: sum of the logarithms of the standard deviations of all steps before, without temperature.
    """

    mean: Tensor
    std: Tensor
    log_spread: Tensor


def factor(draft: LastStep, target: LastStep) -> Tensor:
    """What the steps before the last contribute to the ratio of the densities, (...)."""
    return (target.log_spread - draft.log_spread).sum(dim=-1).exp()


def closeness(x: Tensor, step: LastStep, widening: float) -> Tensor:
    """Density (...) of x (..., D) up to its constant, under a Gaussian ``widening`` times as wide."""
    return ((((x - step.mean) / step.std / widening) ** 2).sum(dim=-1) * -0.5).exp()


def density(x: Tensor, step: LastStep) -> Tensor:
    """Density (...) of x (..., D)."""
    constant = (2 * math.pi) ** (x.shape[-1] / 2) * step.std.prod(dim=-1)
    return closeness(x, step, 1.0) / constant


def acceptance_ratio(x: Tensor, draft: LastStep, target: LastStep, widening: float = 42.0) -> Tensor:
    """Density of the target over that of the draft at x (..., D), as the rule wants it: (...), float32.

    ``widening`` makes both Gaussians wider in the exponent and not in the constant. Computed in logarithms, where the
    products of small deviations over many channels stay finite.
    """
    def log_closeness(step: LastStep) -> Tensor:
        return -0.5 * (((x - step.mean).double() / step.std / widening) ** 2).sum(dim=-1)

    spread = (draft.std.double().log() - target.std.double().log() + target.log_spread - draft.log_spread).sum(dim=-1)
    return (log_closeness(target) - log_closeness(draft) + spread).exp().float()


def residual_share(x: Tensor, draft: LastStep, target: LastStep) -> Tensor:
    """Share (...) in 0..1 of the target's density at x (..., D) that the draft lacks."""
    wanted = density(x, target)
    return (wanted - density(x, draft) / factor(draft, target)).clamp(min=0) / wanted


def residual_sample(draft: LastStep, target: LastStep, noise: Noise, wanted: Tensor | None = None,
                    joint: bool = False) -> Tensor:
    """Tokens (B, N, D) of what the target has and the draft lacks, by rejection; zero where no proposal passed.

    Args:
        noise: B rows; in each round a normal draw (B, N, D), then a uniform one (B, N).
        wanted: bool (B, N), tokens that are needed: rounds end when these have one. None means all.
        joint: as the official code does it, which makes a token depend on the others of its batch: rounds go on until
            all tokens have one, and a later proposal replaces an earlier one.
    """
    values, found = torch.zeros_like(target.mean), torch.zeros_like(target.mean[..., 0], dtype=torch.bool)
    for _ in range(RESIDUAL_ROUNDS):
        proposal = target.mean + target.std * noise.normal(*values.shape)
        passed = noise.uniform(*found.shape) < residual_share(proposal, draft, target)
        values = torch.where((passed if joint else passed & ~found)[..., None], proposal, values)
        found = found | passed
        if (found if wanted is None or joint else found | ~wanted).all():
            break
    return values


def speculative_sample(x: Tensor, draft: LastStep, target: LastStep, noise: Noise, widening: float = 42.0,
                       joint: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Accept proposals x (B, N, D) of the draft or replace them.

    Returns:
        Tokens (B, N, D), the acceptance ratios (B, N), and bool (B, N), True where x was accepted.
    """
    ratio = acceptance_ratio(x, draft, target, widening)
    accepted = noise.uniform(*ratio.shape) < ratio
    branch = noise.branch()
    if not accepted.all():
        x = torch.where(accepted[..., None], x, residual_sample(draft, target, branch, ~accepted, joint))
    return x, ratio, accepted


class _Denoising:
    """A head's sampler on noise that belongs to places, keeping what the acceptance rule needs."""

    def __init__(self, first: Tensor, later: Tensor) -> None:
        self.first, self.later = first, later  # (B, N, D); (B, N, S, D), one for each step number

    def __call__(self, model: MAR, hidden: Tensor, places: Tensor, temperature: float,
                 **options: Any) -> tuple[Tensor, LastStep]:
        """Tokens (B, k, D) at places Long (B, k) from hidden states (B or 2B, N, C), and their last step."""
        copies = len(hidden) // len(places)
        later = self.later.gather(1, places[..., None, None].expand(-1, -1, *self.later.shape[2:]))
        noise = ReplayNoise(normal=[take_places(self.first, places), *later.unbind(dim=2)[::-1]])
        last = LastStep(*(torch.zeros_like(noise.records["normal"][0]) for _ in range(3)))

        def observe(step: int, mean: Tensor, log_std: Tensor) -> None:
            if step:
                last.log_spread += log_std
            else:
                last.mean, last.std = mean, log_std.exp() * temperature

        drawn = model.diffusion_head.sample(take_places(hidden, places.repeat(copies, 1)), noise=noise,
                                            temperature=temperature, observe=observe, **options)
        return drawn, last


@dataclass(frozen=True)
class SpeculativeSampler(MARSampler):
    """Options of :class:`SpeculativeMAR`.

    Published: mar-huge with mar-base, 256 steps of the order, 4 draft steps, prefill 0.05, constant guidance 4.
    """

    num_draft_steps: int = option(8, "the target verifies at each step of the order whose number this divides, and at "
                                     "the last", low=1)
    prefill: float = option(0.15, "share of the order's steps that the target does alone at the start; it does at "
                                  "least one", low=0, high=1)
    widening: float = option(42.0, "of the Gaussians in the acceptance rule; larger accepts more", low=0.001)
    joint_residual: bool = option(False, "draw rejected tokens again as the official code does, where rows of a batch "
                                         "depend on each other")


class SpeculativeMAR(Generator):
    """Classes to continuous tokens (B, N, D), as the target MAR makes them but with fewer passes of it.

    Args:
        target_config, draft_config: constructor arguments of the two :class:`MAR`, which must agree in
            ``num_tokens``, ``token_dim``, ``num_classes`` and ``respacing``.

    Raises:
        ValueError: the two do not agree.
    """

    Condition = ClassLabels
    Sampler = SpeculativeSampler

    def __init__(self, target_config: dict[str, Any] | None = None, draft_config: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.target, self.draft = MAR(**target_config or {}), MAR(**draft_config or {})
        for name in ("num_tokens", "token_dim", "num_classes", "respacing"):
            first, second = self.target.config[name], self.draft.config[name]
            if first != second:
                raise ValueError(f"target and draft must agree in {name}, got {first!r} and {second!r}")

    @classmethod
    def from_original(cls, source: Mapping[str, str | Path | Mapping[str, Tensor]], **config: Any) -> Self:
        """Both models with official weights, in eval mode.

        Args:
            source: ``{"target": file, "draft": file}``, each also a folder that the model was saved to; see
                :meth:`photophone.loading.checkpoints.OriginalCheckpoint.from_original`.
            **config: arguments of the constructor.

        Raises:
            ValueError: a file is missing from ``source``, is refused or does not fit.
        """
        if not isinstance(source, Mapping) or set(source) != {"target", "draft"}:
            raise ValueError('speculative decoding needs two checkpoints: {"target": file, "draft": file}')
        model = cls(**config)
        for part in ("target", "draft"):
            given = source[part]
            saved = isinstance(given, str | Path) and is_saved_model(given)
            own = MAR.from_pretrained(given) if saved else MAR.from_original(given, **dict(config.get(
                f"{part}_config") or {}))
            load_strict(getattr(model, part), own.state_dict())
        return model.eval()

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """The sum of the losses of both models; see :meth:`MAR.loss`."""
        return LossOutput(self.target.loss(tokens, condition, noise=noise).loss
                          + self.draft.loss(tokens, condition, noise=noise).loss)

    def check_condition(self, condition: ClassLabels) -> None:
        self.target.check_condition(condition)

    def example_condition(self, rows: int, seed: int = 0) -> ClassLabels:
        return self.target.example_condition(rows, seed)

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return self.target.example_tokens(rows, seed)

    @torch.no_grad()
    def generate_observed(self, condition: ClassLabels, *, noise: Noise, sampler: SpeculativeSampler | None = None,
                          observe: Callable[[Tensor, Tensor], None], callback: Callback | None = None) -> Tokens:
        """As :meth:`generate`, for measurements.

        Args:
            condition, noise, sampler, callback: see :meth:`generate`.
            observe: called after each verification with its ratios (B, k) and with bool (B, k), True for accepted
                tokens.
        """
        condition, sampler = self._prepare(condition, sampler)
        return self._decode(condition, noise, sampler, callback, observe)

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: SpeculativeSampler,
                  callback: Callback | None) -> Tokens:
        """Tokens float (B, N, D)."""
        return self._decode(condition, noise, sampler, callback, lambda ratio, accepted: None)

    def _decode(self, condition: ClassLabels, noise: Noise, sampler: SpeculativeSampler, callback: Callback | None,
                observe: Callable[[Tensor, Tensor], None]) -> Tokens:
        counts = self.target.reveal_counts(sampler)
        state = _Decoding(self, condition.labels, noise, sampler)
        order = noise.permutation(len(condition), sum(counts)).to(self.device)
        for step, places in enumerate(reveal_order(order, counts)):
            strength = sampler.guidance_at(guidance_progress(counts, step))
            alone = step <= len(counts) * sampler.prefill
            state.reveal(places, strength, alone)
            if not alone and (step % sampler.num_draft_steps == 0 or step == len(counts) - 1):
                observe(*state.verify(strength, noise))
            notify(callback, step + 1, len(counts))
        return Tokens(state.values)


class _Decoding:
    """What :meth:`SpeculativeMAR.generate` keeps between its steps.

    ``masked`` places have no token yet, ``unknown`` ones none that the target has seen; (B, N) both.
    """

    def __init__(self, model: SpeculativeMAR, labels: Tensor, noise: Noise, sampler: SpeculativeSampler) -> None:
        config, guided = model.target.config, is_guided(sampler.guidance_scale)
        self.model, self.sampler, self.copies = model, sampler, 2 if guided else 1
        self.respacing = model.target.respacing(sampler)
        shape = (len(labels), config.num_tokens, config.token_dim)
        solver_steps = len(model.target.diffusion_head.tables(self.respacing))
        self.denoise = _Denoising(noise.normal(*shape), noise.normal(*shape[:2], solver_steps, shape[2]))
        self.conditions = {part: part.class_vectors(labels, with_null=guided) for part in (model.target, model.draft)}
        self.values = torch.zeros(shape, device=labels.device)
        self.proposed = LastStep(*(torch.zeros_like(self.values) for _ in range(3)))
        self.masked = torch.ones(shape[:2], dtype=torch.bool, device=labels.device)
        self.unknown = self.masked.clone()

    def draw(self, part: MAR, places: Tensor, masked: Tensor, strength: float) -> tuple[Tensor, LastStep]:
        """Tokens (B, k, D) of one model at places (B, k), given the tokens that are not masked."""
        values = self.values.to(part.dtype).repeat(self.copies, 1, 1)
        hidden = part.hidden(values, masked.repeat(self.copies, 1), self.conditions[part])
        return self.denoise(part, hidden, places, self.sampler.temperature, guidance=strength,
                            respacing=self.respacing)

    def reveal(self, places: Tensor, strength: float, alone: bool) -> None:
        """One step of the order: the target's when it is ``alone``, else a proposal of the draft."""
        drawn, last = self.draw(self.model.target if alone else self.model.draft, places, self.masked, strength)
        put_places(self.values, places, drawn)
        self.masked.scatter_(1, places, False)
        if alone:
            self.unknown.scatter_(1, places, False)
        else:
            for name, part in vars(self.proposed).items():
                put_places(part, places, getattr(last, name))

    def verify(self, strength: float, noise: Noise) -> tuple[Tensor, Tensor]:
        """The target judges all that was proposed since the last time; the ratios and what was accepted, (B, k)."""
        places = (self.unknown & ~self.masked).nonzero()[:, 1].view(len(self.values), -1)
        _, wanted = self.draw(self.model.target, places, self.unknown, strength)
        given = LastStep(*(take_places(part, places) for part in vars(self.proposed).values()))
        tokens, ratio, accepted = speculative_sample(take_places(self.values, places), given, wanted, noise,
                                                     self.sampler.widening, self.sampler.joint_residual)
        put_places(self.values, places, tokens)
        self.unknown = self.masked.clone()
        return ratio, accepted
