"""SpeechEnhancer: noisy speech to the tokens of clean speech, and to clean speech itself.

In the line of LLaSE-G1 (arXiv 2503.00493): continuous features of the noisy recording in, clean codec tokens out, one
parallel pass without feedback. Two points differ. The tokens are the continuous ones of
:class:`photophone.codecs.stream_codec.model.StreamCodec`, predicted by regression; and behind them a second half of the
backbone reads hidden states and predicted tokens, and filters the noisy spectrum with complex taps over neighbouring
frames (deep filtering, arXiv 1904.08369), so that the speaker's fine structure is kept instead of synthesised anew.

The backbone sees a bounded time to both sides, so a long recording can be worked on in overlapping pieces that give
exactly what the whole would give.

Code and weights: Apache-2.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.core.tokens import Tokens
from photophone.generators.base import LossOutput
from photophone.generators.enhancement import Criterion, squared_error
from photophone.generators.enhancer.band_filter import BandFilter
from photophone.layers.rows import map_equal_lengths

TOKEN_CENTRE = 0.75
"""Where a token lies, in tokens behind its first sample: the codec's first frames look ahead."""


class SpeechEnhancer(BandFilter):
    """Noisy speech (B, 1, T) to clean speech of the same length, and to clean tokens (B, ceil(T / token_hop), D).

    Args:
        sample_rate: in Hz.
        n_fft, hop_length: of the spectra.
        compression: power of the magnitudes in the features.
        context: frames to each side that the first convolution sees.
        channels: of the convolutions over frequency; each but the first halves the bins, as does the very input.
        squeeze: channels that are laid out as one vector a frame.
        width, hidden: channels of the backbone, and inside its MLPs.
        depth: blocks of the backbone.
        token_depth: those of them in front of the tokens.
        kernel_size: frames of the depthwise convolutions.
        dilations: of the blocks, repeated.
        causal: the backbone sees no later frames.
        taps: frames that the filter combines, centred.
        token_dim, token_hop: channels of a clean token, and samples it stands for.
    """

    def __init__(self, sample_rate: int = 16000, n_fft: int = 512, hop_length: int = 256, compression: float = 0.3,
                 context: int = 1, channels: list[int] = [32, 48, 64], squeeze: int = 24,  # noqa: B006 (config)
                 width: int = 256, hidden: int = 768, depth: int = 8, token_depth: int = 4, kernel_size: int = 7,
                 dilations: list[int] = [1, 2, 4, 8], causal: bool = False, taps: int = 3,  # noqa: B006
                 token_dim: int = 24, token_hop: int = 400) -> None:
        super().__init__()
        if not 0 < token_depth < depth or taps % 2 == 0:
            raise ValueError(f"need 0 < token_depth < depth and an odd number of taps, got {token_depth}, {depth} and "
                             f"{taps}")
        self.build_bands(n_fft, hop_length, channels, squeeze, width, 2 * context + 1)
        self.build_backbone(width, hidden, depth, kernel_size, dilations, causal)
        self.token_norm = nn.LayerNorm(width, eps=1e-6)
        self.to_token, self.from_token = nn.Linear(width, token_dim), nn.Linear(token_dim, width)
        self.build_taps(n_fft, channels, width, taps)
        self.register_buffer("token_mean", torch.zeros(token_dim))
        self.register_buffer("token_std", torch.ones(token_dim))
        self.initialise(taps // 2)

    @torch.no_grad()
    def fit_statistics(self, tokens: Tokens) -> None:
        """Normalise tokens by the mean and deviation of these clean ones, channel by channel."""
        values = tokens.values[tokens.mask]  # (M, token_dim)
        self.token_mean.copy_(values.mean(dim=0))
        self.token_std.copy_(values.std(dim=0).clamp(min=1e-3))

    @property
    def alignment(self) -> int:
        """Pieces must begin at multiples of so many samples: of a frame and of a token."""
        return math.lcm(self.config.hop_length, self.config.token_hop)

    @property
    def reach(self) -> int:
        """Samples to each side that an output sample depends on, at most; a multiple of :attr:`alignment`."""
        config = self.config
        frames = sum((config.kernel_size - 1) * config.dilations[i % len(config.dilations)]
                     for i in range(config.depth))
        frames = frames if config.causal else frames // 2
        ratio = -(-config.token_hop // config.hop_length)
        frames += config.context + config.taps // 2 + 4 * ratio + 2  # and what interpolation to tokens and back sees
        return -(-(frames * config.hop_length + config.n_fft) // self.alignment) * self.alignment

    # the way through -------------------------------------------------------------------------------------------

    def features(self, spectrum: Tensor) -> Tensor:
        """Compressed spectrum of neighbouring frames, (B, 6 * (2 context + 1), F, bins / 2)."""
        return self.with_neighbours(self.compressed(spectrum))

    def with_neighbours(self, parts: Tensor) -> Tensor:
        """Parts (B, 3, bins, F) with pairs of bins and neighbouring frames as channels; see :meth:`features`."""
        side = self.config.context
        return self.together(functional.pad(self.in_pairs(parts), (0, 0, side, side)), 2 * side + 1)

    def run(self, spectrum: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Spectrum (B, bins, F) of ``length`` samples to the clean spectrum and normalised clean tokens (B, N, D)."""
        raw, tokens = self.predict(self.features(spectrum), length)
        side = self.config.taps // 2
        return self.filtered(functional.pad(spectrum, (side, side)), raw), tokens

    def predict(self, features: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Features of ``length`` samples to the unbounded taps (B, 2 taps, F, bins) and normalised clean tokens."""
        x, skips = self.read_bands(features)
        depth = self.config.token_depth
        for block in self.blocks[:depth]:
            x = block(x)
        # Frame f is centred on sample f * hop, token n on sample (n + TOKEN_CENTRE) * token_hop. So token n lies at
        # frame (n + TOKEN_CENTRE) * token_hop / hop, and frame f at token f * hop / token_hop - TOKEN_CENTRE.
        hop, token_hop = self.config.hop_length, self.config.token_hop
        num_tokens = (length + token_hop - 1) // token_hop  # ONNX's division of negative numbers rounds towards zero
        tokens_per_frame, frames_per_token = hop / token_hop, token_hop / hop
        at_tokens = resample_frames(x, num_tokens, frames_per_token, TOKEN_CENTRE * token_hop / hop)
        tokens = self.to_token(self.token_norm(at_tokens.transpose(1, 2)))  # (B, N, D)
        known = self.from_token(tokens).transpose(1, 2)  # (B, width, N)
        x = x + resample_frames(known, x.shape[-1], tokens_per_frame, -TOKEN_CENTRE)
        for block in self.blocks[depth:]:
            x = block(x)
        return self.write_taps(x, skips), tokens.float()

    def enhance_with_tokens(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy speech (B, 1, T) to clean speech (B, 1, T) and normalised clean tokens (B, N, token_dim)."""
        length = noisy.shape[-1]
        spectrum, tokens = self.run(self.spectra.analyse(noisy[:, 0]), length)
        return self.spectra.synthesise(spectrum, length)[:, None], tokens

    def _enhance(self, audio: Tensor) -> Tensor:
        return self.enhance_with_tokens(audio)[0]

    @torch.no_grad()
    def predict_tokens(self, audio: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Clean tokens of noisy speech, float (B, ceil(T / token_hop), token_dim), which the codec decodes.

        Args:
            audio, lengths: see :meth:`enhance`.

        Raises:
            ValueError: see :meth:`check_audio`.
        """
        self.check_audio(audio, lengths)

        def tokens_last(part: Tensor) -> Tensor:
            return self.enhance_with_tokens(part)[1].transpose(1, 2)  # (b, D, N)

        made = map_equal_lengths(tokens_last, audio.to(self.device), lengths)
        values = made.transpose(1, 2) * self.token_std.float() + self.token_mean.float()
        counts = None if lengths is None else -(-lengths.to(self.device) // self.config.token_hop)
        return Tokens(values, counts, sample_rate=self.sample_rate)

    def loss(self, noisy: Tensor, clean: Tensor, tokens: Tokens | None = None, *, criterion: Criterion = squared_error,
             weights: Mapping[str, float] | None = None) -> LossOutput:
        made, predicted = self.enhance_with_tokens(noisy)
        errors = dict(criterion(made, clean))
        if tokens is not None:
            wanted = (tokens.values - self.token_mean) / self.token_std
            errors["tokens"] = functional.mse_loss(predicted, wanted.to(predicted))
        weights = weights or {}
        loss = sum(weights.get(name, 1.0) * error for name, error in errors.items())
        return LossOutput(loss, {name: error.detach() for name, error in errors.items()})

    def example_tokens(self, audio: Tensor, seed: int = 0) -> Tokens:
        shape = len(audio), -(-audio.shape[-1] // self.config.token_hop), self.config.token_dim
        return Tokens(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def resample_frames(x: Tensor, count: int, ratio: float, offset: float) -> Tensor:
    """Linear interpolation of frames (B, C, F) at places ``offset + ratio * i`` for i below ``count``: (B, C, count).

    Places outside take the first or last frame.
    """
    places = (offset + ratio * torch.arange(count, device=x.device, dtype=torch.float64)).clamp(0, x.shape[-1] - 1)
    first = places.floor().long().clamp(max=max(0, x.shape[-1] - 2))
    share = (places - first).to(x.dtype)
    second = (first + 1).clamp(max=x.shape[-1] - 1)
    return x[..., first] * (1 - share) + x[..., second] * share
