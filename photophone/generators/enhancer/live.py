"""LiveEnhancer: noisy speech to clean speech while it comes in.

The network of :class:`photophone.generators.enhancer.model.SpeechEnhancer` without later frames: the first convolution,
the backbone and the taps see the frame that has just ended and those before it. There are no tokens; where they were, a
narrow waist is left of them. A frame is 32 ms and begins 16 ms after the one before it, so a sample goes out 32 ms
after it came in, at most.

A recording that is still going on has no level of its own yet. So the features are brought to one level by a follower
of the loud parts so far; the taps filter the spectrum as it came, and its level stays.

Code and weights: Apache-2.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from photophone.core.tokens import Tokens
from photophone.generators.base import LossOutput
from photophone.generators.enhancement import LEVEL, Criterion, squared_error
from photophone.generators.enhancer.band_filter import KINDS, BandFilter
from photophone.generators.enhancer.model import SpeechEnhancer
from photophone.layers.streaming import StreamingLayer, StreamMemory

ATTACK_SECONDS, RELEASE_SECONDS = 0.2, 4.0
"""In which the follower of the level goes most of the way to louder and to quieter frames."""
START_FRAMES, START_POWER = 31, 3
"""At first it goes faster to quieter frames: after n frames its rate is at least START_POWER / (START_FRAMES + n)."""
LOUD_SHARE = 0.7
"""Level of the loud parts of speech, as enhancers mean it, in what the follower finds in it."""
LARGEST_GAIN = 30.0


class LevelFollower(StreamingLayer):
    """Powers of frames (B, F) to gains that bring the loud parts so far to ``LEVEL``; it begins with a gain of about 1.

    Args:
        frame_seconds: between frames.
    """

    def __init__(self, frame_seconds: float) -> None:
        super().__init__()
        self.rates = [1 - math.exp(-frame_seconds / seconds) for seconds in (ATTACK_SECONDS, RELEASE_SECONDS)]

    def initial_state(self, batch_size: int) -> np.ndarray:
        """Power of the level, and frames so far, float64 (2, batch_size)."""
        return np.stack([np.full(batch_size, (LEVEL / LOUD_SHARE) ** 2), np.zeros(batch_size)])

    @torch.no_grad()
    def forward(self, powers: Tensor) -> Tensor:
        """Float (B, F) to gains float32 (B, F)."""
        level, age = self.initial_state(len(powers)) if self.stream_state is None else self.stream_state
        rise, slow = self.rates
        levels = np.empty(tuple(powers.shape))
        for index, power in enumerate(powers.double().cpu().numpy().T):
            fall = np.clip(START_POWER / (START_FRAMES + age), slow, rise)
            level = level + np.where(power > level, rise, fall) * (power - level)
            age = age + 1
            levels[:, index] = level
        if self.stream_state is not None:
            self.stream_state = np.stack([level, age])
        gains = (LEVEL / LOUD_SHARE / np.sqrt(levels.clip(min=1e-12))).clip(max=LARGEST_GAIN)
        return torch.from_numpy(gains.astype(np.float32)).to(powers.device)


class PastFrames(StreamingLayer):
    """Frames (B, channels, F, bins) with those before them, zeros at first: (B, channels, count + F, bins).

    Args:
        count: frames before.
        channels, bins: of a frame.
    """

    def __init__(self, count: int, channels: int, bins: int) -> None:
        super().__init__()
        self.count, self.channels, self.bins = count, channels, bins

    def initial_state(self, batch_size: int) -> Tensor:
        """Zeros (batch_size, channels, count, bins)."""
        return torch.zeros(batch_size, self.channels, self.count, self.bins)

    def forward(self, x: Tensor) -> Tensor:
        past = self.initial_state(len(x)) if self.stream_state is None else self.stream_state
        x = torch.cat([past.to(x), x], dim=2)
        if self.stream_state is not None:
            self.stream_state = x[:, :, x.shape[2] - self.count:]
        return x


class LiveEnhancer(BandFilter):
    """Noisy speech (B, 1, T) to clean speech of the same length, as a whole or by :meth:`stream`.

    Args:
        sample_rate: in Hz.
        n_fft, hop_length: of the spectra; the delay is that of a frame.
        compression: power of the magnitudes in the features.
        context: frames before each that the first convolution sees.
        channels: of the convolutions over frequency; each but the first halves the bins, as does the very input.
        squeeze: channels that are laid out as one vector a frame.
        width, hidden: channels of the backbone, and inside its MLPs.
        depth: blocks of the backbone.
        waist, waist_depth: channels that are added back after so many of the blocks.
        kernel_size: frames of the depthwise convolutions.
        dilations: of the blocks, repeated.
        taps: frames that the filter combines, up to the present one.
        mix: share of the clean speech in the output that these weights are best with, which pipelines take by default.
    """

    streams = True

    def __init__(self, sample_rate: int = 16000, n_fft: int = 512, hop_length: int = 256, compression: float = 0.3,
                 context: int = 2, channels: list[int] = [16, 32, 48], squeeze: int = 16,  # noqa: B006 (config)
                 width: int = 192, hidden: int = 576, depth: int = 8, waist: int = 24, waist_depth: int = 4,
                 kernel_size: int = 7, dilations: list[int] = [1, 2, 4, 8], taps: int = 3,  # noqa: B006
                 mix: float = 1.0) -> None:
        super().__init__()
        if not 0 <= mix <= 1:
            raise ValueError(f"mix must be between 0 and 1, got {mix}")
        if not 0 < waist_depth < depth:
            raise ValueError(f"need 0 < waist_depth < depth, got {waist_depth} and {depth}")
        if n_fft != 2 * hop_length:
            raise ValueError(f"a frame must be two hops long, got n_fft {n_fft} and hop_length {hop_length}")
        self.level = LevelFollower(hop_length / sample_rate)
        self.past_features = PastFrames(context, KINDS, n_fft // 4)
        self.past_spectrum = PastFrames(taps - 1, 2, n_fft // 2)
        self.build_bands(n_fft, hop_length, channels, squeeze, width, context + 1)
        self.build_backbone(width, hidden, depth, kernel_size, dilations, causal=True)
        self.waist_norm = nn.LayerNorm(width, eps=1e-6)
        self.to_waist, self.from_waist = nn.Linear(width, waist), nn.Linear(waist, width)
        self.build_taps(n_fft, channels, width, taps)
        self.initialise(taps - 1)

    @classmethod
    def from_offline(cls, model: SpeechEnhancer) -> Self:
        """The network of an enhancer that sees later frames, without them: what its convolutions over time weigh the
        later frames with goes to the present one.

        Raises:
            ValueError: the model has more than one frame of context, or other than three taps.
        """
        config = model.config
        if (config.context, config.taps, config.causal) != (1, 3, False):
            raise ValueError(f"needs context 1, 3 taps and a backbone that sees both sides, got {config.context}, "
                             f"{config.taps} and causal={config.causal}")
        same = ("sample_rate", "n_fft", "hop_length", "compression", "channels", "squeeze", "width", "hidden", "depth",
                "kernel_size", "dilations")
        made = cls(**{key: config[key] for key in same}, context=2, taps=3, waist=config.token_dim,
                   waist_depth=config.token_depth)
        state = {}
        for key, weight in model.state_dict().items():
            if key in ("token_mean", "token_std"):  # they are of the tokens alone
                continue
            own = re.sub(r"token(_norm)?(?=\.)", r"waist\1", key)
            state[own] = _without_later_frames(key, weight)
        made.load_state_dict(state)
        return made

    @property
    def delay(self) -> int:
        """Samples by which the output of a stream lies behind its input."""
        return self.config.n_fft

    @property
    def reach(self) -> int:
        """Samples before a piece that it depends on, but for the level, which has no end."""
        config = self.config
        frames = sum((config.kernel_size - 1) * config.dilations[i % len(config.dilations)]
                     for i in range(config.depth))
        return (frames + config.context + config.taps + 2) * config.hop_length

    @property
    def fade_seconds(self) -> float:
        """Pieces that are made apart have levels of their own."""
        return 0.02

    @property
    def alignment(self) -> int:
        """Pieces must begin at multiples of so many samples."""
        return self.config.hop_length

    def filter_frames(self, spectrum: Tensor) -> Tensor:
        """Spectrum (B, bins, F) of the next frames to the clean one."""
        powers = spectrum.detach().abs().square().sum(dim=1) * (4 / self.config.n_fft ** 2)  # (B, F), of samples
        gains = self.level(powers)
        features = self.past_features(self.in_pairs(self.compressed(spectrum * gains[:, None])))
        x, skips = self.read_bands(self.together(features, self.config.context + 1))
        depth = self.config.waist_depth
        for block in self.blocks[:depth]:
            x = block(x)
        x = x + self.from_waist(self.to_waist(self.waist_norm(x.transpose(1, 2)))).transpose(1, 2)
        for block in self.blocks[depth:]:
            x = block(x)
        parts = torch.view_as_real(spectrum).permute(0, 3, 2, 1)  # (B, 2, F, bins)
        padded = self.past_spectrum(parts).permute(0, 3, 2, 1).contiguous()  # (B, bins, taps - 1 + F, 2)
        return self.filtered(torch.view_as_complex(padded), self.write_taps(x, skips))

    def _enhance(self, audio: Tensor) -> Tensor:
        spectrum = self.filter_frames(self.spectra.analyse(audio[:, 0]))
        return self.spectra.synthesise(spectrum, audio.shape[-1])[:, None]

    def loss(self, noisy: Tensor, clean: Tensor, tokens: Tokens | None = None, *, criterion: Criterion = squared_error,
             weights: Mapping[str, float] | None = None) -> LossOutput:
        errors = dict(criterion(self._enhance(noisy), clean))
        loss = sum((weights or {}).get(name, 1.0) * error for name, error in errors.items())
        return LossOutput(loss, {name: error.detach() for name, error in errors.items()})

    def stream(self, rows: int = 1) -> EnhancementStream:
        """A stream of ``rows`` signals from its beginning; streams of one model do not disturb each other."""
        return EnhancementStream(self, rows)


class EnhancementStream:
    """Signals that go through a :class:`LiveEnhancer` in chunks of any size: what comes out, put together, is what
    :meth:`LiveEnhancer.enhance` makes of the whole.

    Args:
        model: the enhancer, in eval mode.
        rows: signals.
    """

    def __init__(self, model: LiveEnhancer, rows: int = 1) -> None:
        self.model, self.hop = model, model.config.hop_length
        self.memory = StreamMemory(model, rows)
        self.held = torch.zeros(rows, self.hop)  # at first the silence before the signal
        self.tail: Tensor | None = None  # second half of the last frame; None before the first
        self.taken = self.given = 0

    @torch.no_grad()
    def push(self, audio: Tensor) -> Tensor:
        """The next samples float (rows, n), n from 0 on, to those that are ready, float32 (rows, m).

        Raises:
            ValueError: another shape, or samples that are not finite.
        """
        if audio.dim() != 2 or len(audio) != len(self.held) or not audio.is_floating_point():
            raise ValueError(f"a chunk must be float ({len(self.held)}, n), got {audio.dtype} {tuple(audio.shape)}")
        if not torch.isfinite(audio).all():
            raise ValueError("a chunk holds NaN or infinite samples")
        self.taken += audio.shape[1]
        return self._advance(audio.float())

    @torch.no_grad()
    def finish(self) -> Tensor:
        """The rest, float32 (rows, m), where nothing more comes."""
        rest = self.taken - self.given
        padding = -self.taken % self.hop + self.hop
        return self._advance(torch.zeros(len(self.held), padding))[:, :rest]

    def _advance(self, audio: Tensor) -> Tensor:
        self.held = torch.cat([self.held, audio], dim=1)
        hop, count = self.hop, self.held.shape[1] // self.hop - 1
        if not count:
            return self.held[:, :0]
        window, device = self.model.spectra.window, self.model.device
        frames = self.held[:, :(count + 1) * hop].unfold(1, 2 * hop, hop).to(device) * window  # (rows, count, n_fft)
        self.held = self.held[:, count * hop:]
        spectrum = torch.fft.rfft(frames)[..., 1:].transpose(1, 2)  # (rows, bins, count)
        with self.memory.resume():
            clean = self.model.filter_frames(spectrum)
        made = torch.fft.irfft(torch.nn.functional.pad(clean.transpose(1, 2), (1, 0)), 2 * hop) * window
        made = made.float().cpu()
        first, second = made[..., :hop], made[..., hop:]
        if self.tail is None:  # the first half of the first frame lies before the signal
            ready = first[:, 1:] + second[:, :-1]
        else:
            ready = first + torch.cat([self.tail[:, None], second[:, :-1]], dim=1)
        self.tail = second[:, -1]
        ready = ready.flatten(1)
        self.given += ready.shape[1]
        return ready


def _without_later_frames(key: str, weight: Tensor) -> Tensor:
    """A weight of :class:`SpeechEnhancer` for one that sees as many frames, all of them earlier or present."""
    moved = torch.zeros_like(weight)
    if key.startswith("blocks") and key.endswith("dwconv.weight"):  # (C, 1, kernel), centred
        half = weight.shape[-1] // 2
        moved[..., half:] = weight[..., :half + 1]
        moved[..., -1] += weight[..., half + 1:].sum(dim=-1)
    elif key == "down.0.conv.weight":  # (C, 3 frames of KINDS, 1, 5)
        moved[:, KINDS:] = weight[:, :2 * KINDS]
        moved[:, -KINDS:] += weight[:, 2 * KINDS:]
    elif key.startswith("to_taps.conv"):  # (2 parts of 3 taps of 2 bins, ...)
        old, new = (part.unflatten(0, (2, 3, 2)) for part in (weight, moved))
        new[:, 1:] = old[:, :2]
    else:
        return weight
    return moved
