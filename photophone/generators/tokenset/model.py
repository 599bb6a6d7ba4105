"""TokenSet's DiT: classes to sets of codes, by fixed-sum discrete diffusion of how often each code is in the set.

Paper: "Tokenize Image as a Set" (arXiv 2503.16425). Official code: Gengzigang/TokenSet, MIT; parts derive from DiT.
Weights: under the licence of the code, none stated apart; trained on ImageNet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from photophone.core.limits import MAX_GUIDANCE_SCALE
from photophone.core.noise import GlobalNoise, Noise
from photophone.core.tokens import Tokens
from photophone.decoding.fixed_sum import (
    LEAST_SPREAD,
    CountDraw,
    codes_of,
    count_codes,
    decode_fixed_sum,
    draw_near,
    spread_units,
)
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import LossOutput
from photophone.generators.classes import ClassGenerator, example_codes
from photophone.generators.conditions import ClassLabels
from photophone.generators.sampler import Sampler, guidance_option, option, steps_option, top_k_option
from photophone.heads.base import is_guided
from photophone.kernels.solver import combine_guidance
from photophone.layers.adaln import AdaLNFinalLayer
from photophone.layers.adaln_block import AdaLNBlock
from photophone.layers.embeddings import TimestepEmbedding
from photophone.layers.transformer import Attention, FeedForward
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

FIRST_TIME = 1e-5
"""Of training."""
MAX_STAGE_GUIDANCE = 100.0


@dataclass(frozen=True)
class TokenSetSampler(Sampler):
    """Options of :class:`TokenSetDiT`.

    Published: 25 steps with guidance 4, 50 and 55 in the three thirds; for looks top_k 2, ``sharp`` and adjust_from 1.
    Guidance acts on probabilities, not on logits, so that its numbers are large.
    """

    num_inference_steps: int = steps_option(25, "steps from a random set to that of a picture")
    guidance_scale: float = guidance_option(MAX_GUIDANCE_SCALE)
    guidance_stages: str = option("4,50,55", "guidance in equal parts of the steps, separated by commas, in the place "
                                             "of guidance_scale unless that is 1; empty: none")
    top_k: int = top_k_option()
    top_p: float = option(0.8, "predicted counts come from the likeliest ones up to the one that passes this, without "
                               "top_k", low=0.01, high=1)
    sharp: bool = option(False, "the next sets come from the top_k likeliest counts too")
    adjust_from: float = option(0.65, "time 0 to 1 from which predicted counts get the right sum", low=0, high=1)
    spread_until: float = option(0.8, "share of the steps at which the spread of the next sets is half gone", low=0,
                                 high=1)
    spread_steepness: float = option(100.0, "how suddenly the spread goes; 0 keeps it", low=0, high=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stages()
        if self.sharp and not self.top_k:
            raise ValueError("sharp=True draws from the top_k likeliest counts; give a top_k of at least 1")

    def stages(self) -> list[float]:
        """The numbers of ``guidance_stages``.

        Raises:
            ValueError: what is no list of numbers from 0 to MAX_STAGE_GUIDANCE.
        """
        try:
            numbers = [float(part) for part in self.guidance_stages.split(",") if part.strip()]
        except ValueError:
            numbers = [math.nan]
        if not all(0 <= number <= MAX_STAGE_GUIDANCE for number in numbers):
            raise ValueError(f"guidance_stages must be numbers from 0 to {MAX_STAGE_GUIDANCE:g} with commas between "
                             f"them, got {self.guidance_stages!r}")
        return numbers

    def guidance_at(self, time: float) -> float:
        """Strength of guidance at a time 0..1; 1 is none."""
        stages = self.stages()
        if not stages or not is_guided(self.guidance_scale):
            return self.guidance_scale
        return [number for index, number in enumerate(stages) if time >= index / len(stages)][-1]

    def sharpness(self, done: float) -> float:
        """Factor on the spread when a share of the steps is done."""
        if not self.spread_steepness:
            return 1.0
        return 1 / (1 + math.exp(min(self.spread_steepness * (done - self.spread_until), 700.0)))


class TokenSetDiT(OriginalCheckpoint, ClassGenerator):
    """Classes to codes Long (B, S) in rising order: sets, in which a code may be several times.

    The sequence has one place for each of the K codes, which is told how often the code is in the set.

    Args:
        num_tokens, num_codes: S and K, of the tokenizer.
        num_classes: classes; one more row is the null class.
        width, depth, num_heads, mlp_ratio: sizes of the transformer.
        label_drop: share of training labels replaced by the null class.
    """

    Sampler = TokenSetSampler
    CONTAINERS = ("ema",)

    def __init__(self, num_tokens: int = 128, num_codes: int = 4096, num_classes: int = 1000, width: int = 768,
                 depth: int = 12, num_heads: int = 12, mlp_ratio: float = 4.0, label_drop: float = 0.1) -> None:
        super().__init__()
        self.count_embedding = nn.Embedding(max(num_codes, num_tokens) + 1, width)
        self.positions = nn.Parameter(torch.zeros(num_codes, width))
        self.t_embedder = TimestepEmbedding(width)
        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.blocks = nn.ModuleList(
            AdaLNBlock(Attention(width, num_heads), FeedForward(width, mlp_ratio), width) for _ in range(depth))
        self.final_layer = AdaLNFinalLayer(width, num_tokens + 1)
        nn.init.normal_(self.class_embedding.weight, std=0.02)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        return rename_keys(convert_vit_keys(drop_leading_axes(state, ("pos_embed",))), [
            (r"^x_embedder\.embedding_table\.", "count_embedding."), (r"^pos_embed$", "positions"),
            (r"^y_embedder\.embedding_table\.", "class_embedding."),
            (r"^(blocks\.\d+)\.adaLN_modulation\.", r"\1.modulation.")])

    def logits(self, counts: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, K, S + 1) of the counts of the data.

        Args:
            counts: Long (B, K).
            times: (B,) in 0..1, which the network is told unscaled.
            labels: Long (B,) in 0..num_classes, the last for the null class.
        """
        x = self.count_embedding(counts) + self.positions
        condition = (self.t_embedder(times) + self.class_embedding(labels))[:, None]
        for block in self.blocks:
            x = block(x, condition)
        return self.final_layer(x, condition)

    def probabilities(self, counts: Tensor, time: float, labels: Tensor, guidance: float) -> Tensor:
        """Guided probabilities (B, K, S + 1) in float32; guidance acts on them, and what falls below 0 becomes 0."""
        both, copies = labels, 1
        if is_guided(guidance):
            both, copies = torch.cat([labels, self.null_labels(labels)]), 2
        times = torch.full((len(both),), time, device=counts.device)
        made = self.logits(counts.repeat(copies, 1), times, both).float().softmax(dim=-1)
        if copies == 1:
            return made
        mixed = combine_guidance(*made.chunk(2), guidance).clamp(min=0)
        return mixed / mixed.sum(dim=-1, keepdim=True)

    def start(self, rows: int, noise: Noise) -> Tensor:
        """Random sets as counts Long (rows, K)."""
        return spread_units(noise.uniform(rows, self.config.num_codes).to(self.device), self.config.num_tokens)

    def noised(self, counts: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Training input of counts Long (B, K): whole counts on the way from a random set to them, and times (B,)."""
        start = self.start(len(counts), noise)
        times = noise.uniform(len(counts), 1).to(counts.device) * (1 - FIRST_TIME) + FIRST_TIME
        place = times * counts + (1 - times) * start
        spread = (start - counts).abs() / 4 + LEAST_SPREAD
        return draw_near(place, spread, self.config.num_tokens, 1.0, CountDraw(), noise), times[:, 0]

    def loss(self, tokens: Tokens, condition: ClassLabels, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats of how often each code is in the set, mean over all K; tokens Long (B, S)."""
        noise = noise or GlobalNoise(tokens.values.device)
        counts = count_codes(tokens.values, self.config.num_codes)
        states, times = self.noised(counts, noise)
        logits = self.logits(states, times.to(self.dtype), self.drop_labels(condition.labels, noise))
        return LossOutput(nn.functional.cross_entropy(logits.flatten(0, 1), counts.flatten()))

    def places_at_once(self, rows: int) -> int:
        return rows * self.config.num_codes

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        return example_codes(rows, self.config.num_tokens, self.config.num_codes, seed)

    def _generate(self, condition: ClassLabels, *, noise: Noise, sampler: TokenSetSampler,
                  callback: Callback | None) -> Tokens:
        labels, total, steps = condition.labels, self.config.num_tokens, sampler.num_inference_steps
        top_k = min(sampler.top_k, total)  # of the counts 0..total - 1 of the next sets

        def predict(counts: Tensor, time: float) -> Tensor:
            return self.probabilities(counts, time, labels, sampler.guidance_at(time))

        made = decode_fixed_sum(
            predict, self.start(len(labels), noise), total, steps, noise=noise, sharpness=sampler.sharpness,
            prediction=CountDraw(top_k, sampler.top_p, sampler.adjust_from),
            transition=CountDraw(top_k, adjust_from=sampler.adjust_from) if sampler.sharp else CountDraw())
        for step, (_, state) in enumerate(made):
            counts = state
            notify(callback, step + 1, steps)
        return Tokens(codes_of(counts, total))
