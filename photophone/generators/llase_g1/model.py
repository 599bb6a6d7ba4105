"""LLaSE-G1: speech enhancement, extraction, separation, echo cancellation and concealment of losses by one network.

Paper: arXiv 2503.00493. Official code: Kevin-naticl/LLaSE-G1, no licence stated. Weights: ASLP-lab/LLaSE-G1, none
stated either. Features of WavLM-Large (:mod:`photophone.generators.llase_g1.wavlm`, layer 6) of one or two recordings
become codes of X-Codec 2 of one or two, in one pass: the attention is causal, but no code is fed back. What to do is
not said, it follows from the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback, notify
from photophone.generators.base import Generator
from photophone.heads.base import check_temperature
from photophone.heads.categorical import CategoricalHead
from photophone.layers.llama_block import LlamaStack, convert_llama_keys
from photophone.layers.rotary import sequence_rotary
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys

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


class LLaSEG1(OriginalCheckpoint, Generator):
    """Features (B, T, F) of one or two recordings to codes Long (B, T).

    Args:
        feature_dim: F, the width of WavLM.
        width: of one input's embedding; the network is twice as wide.
        depth, num_heads: of the network.
        num_codes: of the codec.
        eps: of the RMS norms.
    """

    CONTAINERS = ("model_state_dict",)
    DROPPED_KEYS = tuple(f"{prefix}llama.{name}" for prefix in ("", "module.")
                         for name in ("model.embed_tokens.weight", "lm_head.weight"))  # of a text model, never used

    @register_to_config
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

    def forward(self, features: Tensor, other: Tensor | None = None, *, codes: Tensor | None = None,
                other_codes: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """The loss, a scalar: cross-entropy in nats, mean over codes, summed over the channels that have targets.

        Args:
            features, other: see :meth:`embed`.
            codes, other_codes: Long (B, T) of clean speech on the main and the second output, or None.
            mask: bool (B, T), True where codes count; None means all.

        Raises:
            ValueError: there are no targets.
        """
        if codes is None and other_codes is None:
            raise ValueError("training needs codes, other_codes, or both")
        hidden = self.hidden(features, other)
        losses = [head.loss(hidden, target, mask) for head, target in
                  ((self.main_head, codes), (self.other_head, other_codes)) if target is not None]
        return torch.stack(losses).sum()

    @torch.no_grad()
    def generate(self, features: Tensor, other: Tensor | None = None, *, noise: Noise | None = None,
                 lengths: Tensor | None = None, output: str = "other", temperature: float = 0.0,
                 callback: Callback | None = None) -> Tokens:
        """Codes of all frames in one pass.

        Args:
            features, other: see :meth:`embed`.
            noise: B rows; needed for a temperature above 0.
            lengths: Long (B,), valid frames of each row; what is behind changes nothing in front.
            output: of OUTPUTS, see TASKS.
            temperature: 0 takes the likeliest code, as the official code does.
            callback: called once, when it is done.

        Returns:
            Tokens, Long (B, T).

        Raises:
            ValueError: for an unknown output, features of another width, or a temperature without noise.
        """
        check_temperature(temperature)
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {OUTPUTS}, got {output!r}")
        for given in (features, other):
            if given is not None and (given.ndim != 3 or given.shape[2] != self.config.feature_dim):
                raise ValueError(f"features must be (B, T, {self.config.feature_dim}), got {tuple(given.shape)}")
        if temperature > 0 and noise is None:
            raise ValueError(f"temperature {temperature} needs a noise source; 0 needs none")
        hidden = self.hidden(features.to(self.device), None if other is None else other.to(self.device))
        head = self.main_head if output == "main" else self.other_head
        codes = head.sample(hidden, temperature=temperature, noise=noise)
        notify(callback, 1, 1)
        return Tokens(codes, lengths)
