"""LLaSE-G1: speech enhancement, extraction, separation, echo cancellation and concealment of losses by one network.

Paper: arXiv 2503.00493. Official code: Kevin-naticl/LLaSE-G1, no licence stated. Weights: ASLP-lab/LLaSE-G1, none
stated either. Features of WavLM-Large (:mod:`photophone.generators.llase_g1.wavlm`, layer 6) of one or two recordings
become codes of X-Codec 2 of one or two, in one pass: the attention is causal, but no code is fed back. What to do is
not said, it follows from the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import Generator, LossOutput
from photophone.generators.conditions import Condition
from photophone.generators.sampler import Sampler, option, temperature_option
from photophone.heads.categorical import CategoricalHead
from photophone.layers.llama_block import LlamaStack, convert_llama_keys
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

EXAMPLE_FRAMES = 6
OUTPUTS = ("main", "other")
"""Which codes: those of the main input's own channel, or of the second one, which enhancement uses."""
KEYS = [(r"^audio_linear_y\.", "main_in."), (r"^audio_linear_x\.", "other_in."),
        (r"^predict_layer_y\.", "main_head.linear."), (r"^predict_layer_x\.", "other_head.linear.")]


@dataclass(frozen=True)
class Task:
    """How one task uses the network.

    Args:
        main, other: what the inputs are; ``other`` is None where there is no second one.
        output: of OUTPUTS.
        scaled: recordings are divided by their peak before WavLM reads them.
        passes: how often the network runs; from the second pass on it reads what it made.
        keeps_other: the second input stays in later passes.
    """

    main: str
    other: str | None
    output: str
    scaled: bool
    passes: int = 1
    keeps_other: bool = False


TASKS = {"enhance": Task("noisy speech", None, "other", True),
         "conceal": Task("speech with lost packets", None, "other", True),
         "separate": Task("two voices", "the first result, in the second pass", "other", True, passes=2),
         "cancel_echo": Task("microphone", "loudspeaker", "other", False),
         "extract": Task("several voices", "the wanted voice alone", "main", False, keeps_other=True)}
"""The tasks of the paper, with the official settings."""


@dataclass(frozen=True)
class RecordingFeatures(Condition):
    """Features of one or two recordings.

    Args:
        features: float (B, T, F) of the main recording.
        other: float (B, T', F) of a second one, or None.
        lengths: Long (B,), valid frames of each row; what is behind changes nothing in front. None: all.
    """

    features: Tensor
    other: Tensor | None = None
    lengths: Tensor | None = None


@dataclass(frozen=True)
class LLaSESampler(Sampler):
    """Options of :class:`LLaSEG1`."""

    output: str = option("other", "whose codes are made, see TASKS: of the main recording's own channel, or of the "
                                  "other one", choices=OUTPUTS)
    temperature: float = temperature_option(0.0)


class LLaSEG1(OriginalCheckpoint, Generator):
    """Features (B, T, F) of one or two recordings to codes Long (B, T).

    Args:
        feature_dim: F, the width of WavLM.
        width: of one input's embedding; the network is twice as wide.
        depth, num_heads: of the network.
        num_codes: of the codec.
        eps: of the RMS norms.
    """

    Condition = RecordingFeatures
    Sampler = LLaSESampler
    CONTAINERS = ("model_state_dict",)
    DROPPED_KEYS = tuple(f"{prefix}llama.{name}" for prefix in ("", "module.")
                         for name in ("model.embed_tokens.weight", "lm_head.weight"))  # of a text model, never used

    def __init__(self, feature_dim: int = 1024, width: int = 1024, depth: int = 16, num_heads: int = 16,
                 num_codes: int = 65536, eps: float = 1e-6) -> None:
        super().__init__()
        self.main_in, self.other_in = (nn.Linear(feature_dim, width) for _ in range(2))
        self.transformer = LlamaStack(2 * width, num_heads, 4 * width, depth, eps, rotary_halves=True)
        self.main_head, self.other_head = (CategoricalHead(2 * width, num_codes) for _ in range(2))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; those of the published file begin with ``module.``."""
        state = rename_keys(state, [(r"^module\.", "")])
        return rename_keys(convert_llama_keys(state, "llama.model.", "transformer."), KEYS)

    def embed(self, features: Tensor, other: Tensor | None = None) -> Tensor:
        """Features (B, T, F) and of a second recording (B, T', F) to (B, max(T, T'), 2 width).

        A shorter recording is followed by zeros; one that is not there is taken as zero features, which the bias of its
        layer makes something else.
        """
        main = self.main_in(features.to(self.dtype))
        other = self.other_in(torch.zeros_like(features, dtype=self.dtype) if other is None else other.to(self.dtype))
        length = max(main.shape[1], other.shape[1])
        main, other = (functional.pad(x, (0, 0, 0, length - x.shape[1])) for x in (main, other))
        return torch.cat([other, main], dim=-1)

    def hidden(self, features: Tensor, other: Tensor | None = None) -> Tensor:
        """States (B, T, 2 width) of :meth:`embed`."""
        embedded = self.embed(features, other)
        length, head_dim = embedded.shape[1], self.transformer.blocks[0].attention.head_dim
        mask = torch.ones(length, length, dtype=torch.bool, device=embedded.device).tril()
        return self.transformer(embedded, mask, sequence_rotary(length, head_dim, device=embedded.device))

    def loss(self, tokens: Tokens, condition: RecordingFeatures, *, noise: Noise | None = None) -> LossOutput:
        """Cross-entropy in nats, mean over the codes of each output, summed over the outputs.

        Args:
            tokens: Long (B, 2, T), the codes of clean speech on the main and on the other output; below 0 where there
                are none.
            condition: of T frames.
            noise: not drawn from.

        Raises:
            ValueError: there are no codes, or not of two outputs.
        """
        if tokens.values.ndim != 3 or tokens.values.shape[1] != len(OUTPUTS) or tokens.is_continuous:
            raise ValueError(f"training needs codes Long (B, {len(OUTPUTS)}, T), got {tuple(tokens.values.shape)}")
        valid = (tokens.values >= 0) & tokens.mask[:, None]
        if not valid.any():
            raise ValueError("training needs codes of one output at least")
        hidden = self.hidden(condition.features, condition.other)
        losses = [head.loss(hidden, codes, counted) for head, codes, counted in
                  zip((self.main_head, self.other_head), tokens.values.unbind(1), valid.unbind(1), strict=True)]
        metrics = {f"{output}_loss": loss.detach() for output, loss in zip(OUTPUTS, losses, strict=True)}
        return LossOutput(torch.stack(losses).sum(), metrics)

    def check_condition(self, condition: RecordingFeatures) -> None:
        """Features of the model's width, and lengths that fit."""
        features, width = condition.features, self.config.feature_dim
        for given in (features, condition.other):
            if given is not None and (given.ndim != 3 or given.shape[2] != width or len(given) != len(features)):
                raise ValueError(f"features must be (B, T, {width}), got {tuple(given.shape)}")
        Tokens(features, condition.lengths)  # refuses lengths that do not fit

    def _generate(self, condition: RecordingFeatures, *, noise: Noise, sampler: LLaSESampler,
                  callback: Callback | None) -> Tokens:
        """Codes Long (B, T) of all frames in one pass."""
        hidden = self.hidden(condition.features, condition.other)
        head = self.main_head if sampler.output == "main" else self.other_head
        codes = head.sample(hidden, temperature=sampler.temperature, noise=noise)
        notify(callback, 1, 1)
        return Tokens(codes, condition.lengths)

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_condition(self, rows: int, seed: int = 0) -> RecordingFeatures:
        """Six frames, and of a second recording four."""
        generator, width = torch.Generator().manual_seed(seed), self.config.feature_dim
        features, other = (torch.randn(rows, frames, width, generator=generator) for frames in (EXAMPLE_FRAMES, 4))
        return RecordingFeatures(features, other, torch.tensor([EXAMPLE_FRAMES - row % 2 for row in range(rows)]))

    def example_tokens(self, rows: int, seed: int = 0) -> Tokens:
        """Codes of both outputs."""
        shape, generator = (rows, len(OUTPUTS), EXAMPLE_FRAMES), torch.Generator().manual_seed(seed)
        codes = torch.randint(0, self.config.num_codes, shape, generator=generator)
        return Tokens(codes, torch.tensor([EXAMPLE_FRAMES - row % 2 for row in range(rows)]))
