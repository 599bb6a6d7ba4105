"""Encoders of speech tokens in CosyVoice's flow: from embedded tokens (B, N, C) to the mean mel frames (B, F, mel).

Each knows how many frames it makes of tokens and whether it can go on piece by piece, so the flow asks and never needs
to know which one it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photophone.generators.cosyvoice.chunked import Sight
from photophone.generators.cosyvoice.conformer import ConformerEncoder, Lookahead, UpsampleConformer

EDGE_TOKENS = 20
"""Tokens at both ends of long speech that are stretched to frames apart, so overlapping windows agree there."""
MEL_RATE = (22050, 256)
"""Samples per second and per frame of CosyVoice 1."""


class TokenEncoder(nn.Module, ABC):
    """What the flow needs of an encoder.

    Attributes:
        RATE: the setting of the flow that tells its frames, "token_rate" or "frame_ratio"; it is the third argument of
            the constructor, behind the width of the input and the mel bands.
        streams: it can go on where the last piece ended.
        chunk: tokens that see each other in attention by chunks; None without attention.
        ahead: tokens ahead that a token sees, where it streams.
    """

    RATE: ClassVar[str]
    streams: ClassVar[bool]
    chunk: int | None = None
    ahead: int = 0

    @abstractmethod
    def frames(self, tokens: int) -> int:
        """Mel frames of so many tokens."""

    def total_frames(self, prompt: int, prompt_frames: int, tokens: int) -> int:
        """Mel frames of a prompt of ``prompt`` tokens and ``prompt_frames`` frames with ``tokens`` of speech behind."""
        return prompt_frames + self.frames(tokens)

    @abstractmethod
    def mean_frames(self, x: Tensor, prompt: int, prompt_frames: int, sight: Sight,
                    following: Tensor | None = None) -> Tensor:
        """Mean frames (B, F, mel) of a prompt and of speech.

        Args:
            x: embedded tokens (B, N, C), the first ``prompt`` of them of the prompt.
            prompt_frames: mel frames that the prompt has.
            sight: what tokens see of each other, where there is attention.
            following: embedded tokens (B, ahead, C) behind x, where it streams; None: x ends.
        """

    @abstractmethod
    def train_frames(self, x: Tensor, mask: Tensor, frames: int, sight: Sight) -> Tensor:
        """Mean frames (B, ``frames``, mel) of padded rows x (B, N, C); ``mask`` bool (B, N) is False at padding."""


class FrameRegulator(nn.Module):
    """Stretches frames (B, N, C) to the mel rate by interpolation, then convolutions smooth them.

    Args:
        channels: C.
        depth: convolutions of three frames, each with a norm over ``groups`` of channels and Mish.
        groups: of the norms.
        mode: of the interpolation, "linear" or "nearest".
    """

    def __init__(self, channels: int, depth: int = 4, groups: int = 1, mode: str = "linear") -> None:
        super().__init__()
        self.mode = mode
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Conv1d(channels, channels, 3, padding=1), nn.GroupNorm(groups, channels), nn.Mish()]
        self.model = nn.Sequential(*layers, nn.Conv1d(channels, channels, 1))

    def forward(self, parts: list[tuple[Tensor, int]]) -> Tensor:
        """Parts (B, N, C) of one signal, each stretched to its own number of frames, to (B, F, C)."""
        stretched = [F.interpolate(part.transpose(1, 2), size=size, mode=self.mode)
                     for part, size in parts if part.shape[1]]
        return self.model(torch.cat(stretched, dim=2)).transpose(1, 2)


class RegulatedEncoder(TokenEncoder):
    """CosyVoice 1: a conformer, then :class:`FrameRegulator`. It sees the whole signal.

    Args:
        in_dim: C.
        mel_dim: channels of the result.
        token_rate: tokens per second.
        dim, num_heads, hidden, depth, key_bias: of the conformer.
        regulator_depth, regulator_groups: of the regulator.
    """

    RATE = "token_rate"
    MODE = "linear"
    streams = False

    def __init__(self, in_dim: int, mel_dim: int, token_rate: float, *, dim: int = 512, num_heads: int = 8,
                 hidden: int = 2048, depth: int = 6, key_bias: bool = True, regulator_depth: int = 4,
                 regulator_groups: int = 1) -> None:
        super().__init__()
        self.token_rate = token_rate
        self.conformer = ConformerEncoder(in_dim, dim, num_heads, hidden, depth, key_bias)
        self.proj = nn.Linear(dim, mel_dim)
        self.regulator = FrameRegulator(mel_dim, regulator_depth, regulator_groups, self.MODE)

    def frames(self, tokens: int) -> int:
        """Rounded down as the authors do it, whose order of operations matters."""
        return int(tokens / self.token_rate * MEL_RATE[0] / MEL_RATE[1])

    def mean_frames(self, x: Tensor, prompt: int, prompt_frames: int, sight: Sight,
                    following: Tensor | None = None) -> Tensor:
        """The prompt becomes ``prompt_frames`` frames, the speech frames at the mel rate; it always sees everything."""
        h = self.proj(self.conformer(x, Sight()))
        speech = h[:, prompt:]
        total, edge = self.frames(speech.shape[1]), self.frames(EDGE_TOKENS)
        parts = [(speech, total)]
        if speech.shape[1] > 2 * EDGE_TOKENS:
            parts = [(speech[:, :EDGE_TOKENS], edge), (speech[:, EDGE_TOKENS:-EDGE_TOKENS], total - 2 * edge),
                     (speech[:, -EDGE_TOKENS:], edge)]
        return self.regulator([(h[:, :prompt], prompt_frames), *parts])

    def train_frames(self, x: Tensor, mask: Tensor, frames: int, sight: Sight) -> Tensor:
        """All tokens of a row are stretched to ``frames`` together."""
        return self.regulator([(self.proj(self.conformer(x, sight, mask)), frames)])


class BlockEncoder(RegulatedEncoder):
    """GLM-4-Voice: tokens see those before them and those of their own block, and each frame stands for one token.

    Prompt and speech are one sequence, whose frames follow from the number of all its tokens, however many frames the
    prompt has.

    Args:
        in_dim, mel_dim, token_rate: of :class:`RegulatedEncoder`.
        block: tokens of a block.
        config: further arguments of :class:`RegulatedEncoder`.
    """

    MODE = "nearest"

    def __init__(self, in_dim: int, mel_dim: int, token_rate: float, *, block: int = 10, **config: Any) -> None:
        super().__init__(in_dim, mel_dim, token_rate, **config)
        self.sight = Sight(block)

    def total_frames(self, prompt: int, prompt_frames: int, tokens: int) -> int:
        """Of all tokens together."""
        return self.frames(prompt + tokens)

    def mean_frames(self, x: Tensor, prompt: int, prompt_frames: int, sight: Sight,
                    following: Tensor | None = None) -> Tensor:
        """Prompt and speech alike, by blocks whatever ``sight`` is."""
        return self.regulator([(self.proj(self.conformer(x, self.sight)), self.frames(x.shape[1]))])

    def train_frames(self, x: Tensor, mask: Tensor, frames: int, sight: Sight) -> Tensor:
        """As in the base, by blocks whatever ``sight`` is."""
        return super().train_frames(x, mask, frames, self.sight)


class UpsampleEncoder(TokenEncoder):
    """CosyVoice 2: a causal conformer at two rates; ``chunk`` tokens see each other and what lies before.

    Args:
        in_dim, mel_dim: C and the channels of the result.
        frame_ratio: mel frames a token.
        chunk: tokens of a chunk.
        ahead: tokens ahead that a token sees.
        dim, num_heads, hidden, depth, up_depth, key_bias: of
            :class:`photophone.generators.cosyvoice.conformer.UpsampleConformer`.
    """

    RATE = "frame_ratio"
    streams = True

    def __init__(self, in_dim: int, mel_dim: int, frame_ratio: int, *, chunk: int = 25, ahead: int = 3,
                 dim: int = 512, num_heads: int = 8, hidden: int = 2048, depth: int = 6, up_depth: int = 4,
                 key_bias: bool = True) -> None:
        super().__init__()
        self.frame_ratio, self.chunk, self.ahead = frame_ratio, chunk, ahead
        self.conformer = UpsampleConformer(in_dim, dim, num_heads, hidden, depth, up_depth, ahead, frame_ratio,
                                           key_bias)
        self.proj = nn.Linear(dim, mel_dim)

    def frames(self, tokens: int) -> int:
        """So many a token."""
        return tokens * self.frame_ratio

    def mean_frames(self, x: Tensor, prompt: int, prompt_frames: int, sight: Sight,
                    following: Tensor | None = None) -> Tensor:
        """Prompt and speech alike."""
        return self.proj(self.conformer(x, sight, context=following))

    def train_frames(self, x: Tensor, mask: Tensor, frames: int, sight: Sight) -> Tensor:
        """Padding is out of sight."""
        return self.proj(self.conformer(x, sight, mask))[:, :frames]


class LookaheadEncoder(TokenEncoder):
    """CosyVoice 3: convolutions that see ``ahead`` tokens ahead; each token then stands for its frames.

    Args:
        in_dim: C, which is also the number of mel channels.
        mel_dim: must be C.
        frame_ratio: mel frames a token.
        ahead, hidden: of :class:`photophone.generators.cosyvoice.conformer.Lookahead`.
    """

    RATE = "frame_ratio"
    streams = True

    def __init__(self, in_dim: int, mel_dim: int, frame_ratio: int, *, ahead: int = 3, hidden: int = 1024) -> None:
        super().__init__()
        if in_dim != mel_dim:
            raise ValueError(f"this encoder has no projection: input_dim {in_dim} must equal mel_dim {mel_dim}")
        self.frame_ratio, self.ahead = frame_ratio, ahead
        self.lookahead = Lookahead(in_dim, hidden, ahead)

    def frames(self, tokens: int) -> int:
        """So many a token."""
        return tokens * self.frame_ratio

    def mean_frames(self, x: Tensor, prompt: int, prompt_frames: int, sight: Sight,
                    following: Tensor | None = None) -> Tensor:
        """Prompt and speech alike; there is no attention whose sight could be limited."""
        return self.lookahead(x, following).repeat_interleave(self.frame_ratio, dim=1)

    def train_frames(self, x: Tensor, mask: Tensor, frames: int, sight: Sight) -> Tensor:
        """The padding of x is zero, and so is what its convolutions see behind the end."""
        return self.mean_frames(x, 0, 0, sight)[:, :frames]


ENCODERS: dict[str, type[TokenEncoder]] = {"regulated": RegulatedEncoder, "blocks": BlockEncoder,
                                           "upsample": UpsampleEncoder, "lookahead": LookaheadEncoder}
