"""What the enhancers of this folder share: a spectrum goes through convolutions over frequency into a backbone over
time, and back out as complex taps that filter it (deep filtering, arXiv 1904.08369)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.generators.enhancement import Enhancer
from photophone.layers.constants import ConstantsModule
from photophone.layers.convnext import ConvNeXtBlock

SMALLEST = 1e-5
"""Magnitudes below count as silence in the features."""
LARGEST_TAP = 2.0
KINDS = 6
"""Channels of a frame in the features: pairs of bins; real, imaginary, magnitude."""


class Spectra(ConstantsModule):
    """Complex spectra with the root of a Hann window on both ways and frames centred on multiples of the hop.

    Args:
        n_fft, hop_length: samples of a frame and between frames.
    """

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.add_constant("window", torch.hann_window(n_fft, dtype=torch.float64).sqrt().float())

    def analyse(self, audio: Tensor) -> Tensor:
        """Audio (B, T) to its spectrum (B, n_fft / 2, F) without the constant, F = ceil(T / hop) + 1."""
        audio = functional.pad(audio.float(), (0, -audio.shape[-1] % self.hop_length))
        return torch.stft(audio, self.n_fft, self.hop_length, window=self.window, pad_mode="constant",
                          return_complex=True)[:, 1:]

    def synthesise(self, spectrum: Tensor, length: int) -> Tensor:
        """The inverse, (B, length); the constant is zero."""
        return torch.istft(functional.pad(spectrum, (0, 0, 1, 0)), self.n_fft, self.hop_length, window=self.window,
                           length=length)


class BandBlock(nn.Module):
    """A convolution over frequency (B, C, F, bins), GELU in front where it is not the first.

    Args:
        channels, out_channels: of input and output.
        stride: bins per output bin; below 0 the output has ``-stride`` times as many.
        first: no GELU in front.
    """

    def __init__(self, channels: int, out_channels: int, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        self.first, self.up = first, max(1, -stride)
        self.conv = nn.Conv2d(channels, out_channels * self.up, (1, 5), (1, max(1, stride)), padding=(0, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x if self.first else functional.gelu(x))
        if self.up == 1:
            return y
        rows, channels, frames, bins = y.shape
        y = y.reshape(rows, channels // self.up, self.up, frames, bins)
        return y.permute(0, 1, 3, 4, 2).reshape(rows, channels // self.up, frames, bins * self.up)


class BandFilter(Enhancer):
    """An enhancer whose network is built by :meth:`build_bands` and :meth:`build_backbone`.

    Its config has ``sample_rate``, ``hop_length``, ``compression`` and ``taps``.
    """

    trains = True

    def build_bands(self, n_fft: int, hop_length: int, channels: Sequence[int], squeeze: int, width: int,
                    frames: int) -> None:
        """The way in, ``spectra`` to ``embed``; the first convolution sees so many ``frames``.

        Raises:
            ValueError: bins that cannot be halved so often.
        """
        bins = n_fft // 2
        if bins % 2 ** len(channels):
            raise ValueError(f"{bins} bins cannot be halved {len(channels)} times; choose another n_fft or fewer "
                             "channels")
        self.spectra = Spectra(n_fft, hop_length)
        self.down = nn.ModuleList([BandBlock(KINDS * frames, channels[0], first=True)])
        self.down.extend(BandBlock(a, b, 2) for a, b in zip(channels, channels[1:]))
        self.to_squeezed = nn.Conv2d(channels[-1], squeeze, 1)
        self.embed = nn.Linear(squeeze * (bins // 2 ** len(channels)), width)

    def build_backbone(self, width: int, hidden: int, depth: int, kernel_size: int, dilations: Sequence[int],
                       causal: bool) -> None:
        """``blocks`` over time."""
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(width, hidden, kernel_size, causal=causal, layer_scale=1 / depth,
                          dilation=dilations[index % len(dilations)]) for index in range(depth))

    def build_taps(self, n_fft: int, channels: Sequence[int], width: int, taps: int) -> None:
        """The way out, ``final_norm`` to ``to_taps``."""
        self.final_norm = nn.LayerNorm(width, eps=1e-6)
        self.unsqueeze = nn.Linear(width, channels[-1] * (n_fft // 2 // 2 ** len(channels)))
        self.up = nn.ModuleList(BandBlock(b, a, -2) for a, b in zip(channels[-2::-1], channels[:0:-1]))
        self.to_taps = BandBlock(channels[0], 2 * taps, -2)

    def initialise(self, present: int) -> None:
        """Random weights of the blocks; the taps begin as half of the input, at tap ``present``."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        last = self.to_taps.conv
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        last.bias.data.view(-1, 2)[present] = math.atanh(0.5 / LARGEST_TAP)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.config.sample_rate

    def compressed(self, spectrum: Tensor) -> Tensor:
        """A spectrum (B, bins, F) with compressed magnitude: real and imaginary part, magnitude, (B, 3, bins, F)."""
        magnitude = spectrum.abs().clamp(min=SMALLEST)
        scaled = spectrum * magnitude ** (self.config.compression - 1)
        return torch.stack([scaled.real, scaled.imag, magnitude ** self.config.compression], dim=1)

    @staticmethod
    def in_pairs(parts: Tensor) -> Tensor:
        """Parts (B, 3, bins, F) with pairs of bins as channels: (B, KINDS, F, bins / 2)."""
        rows, _, bins, frames = parts.shape
        parts = parts.reshape(rows, 3, bins // 2, 2, frames).permute(0, 1, 3, 4, 2)
        return parts.reshape(rows, KINDS, frames, bins // 2)

    def together(self, padded: Tensor, count: int) -> Tensor:
        """Frames (B, KINDS, F + count - 1, bins / 2), ``count`` of them as the channels of one: (B, KINDS * count, F,
        bins / 2)."""
        frames = padded.shape[2] - count + 1
        return torch.cat([padded[:, :, i:i + frames] for i in range(count)], dim=1).to(self.dtype)

    def read_bands(self, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features of :meth:`together` to vectors (B, width, F), and what the way out needs."""
        x = features.contiguous(memory_format=torch.channels_last)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.to_squeezed(functional.gelu(x))  # (B, squeeze, F, low bins)
        return self.embed(x.permute(0, 2, 1, 3).flatten(2)).transpose(1, 2), skips

    def write_taps(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Vectors (B, width, F) and what :meth:`read_bands` kept to unbounded taps (B, 2 taps, F, bins)."""
        skips = list(skips)
        y = self.unsqueeze(self.final_norm(x.transpose(1, 2)))  # (B, F, channels * low bins)
        y = y.unflatten(-1, (skips[-1].shape[1], -1)).transpose(1, 2)  # (B, channels, F, low bins)
        for block in self.up:
            y = block((y + skips.pop()).contiguous(memory_format=torch.channels_last))
        return self.to_taps(y + skips.pop())

    def filtered(self, padded: Tensor, raw: Tensor) -> Tensor:
        """Spectrum (B, bins, F + taps - 1) through complex taps, of which ``raw`` (B, 2 taps, F, bins) is the unbounded
        form: (B, bins, F)."""
        taps, frames = self.config.taps, raw.shape[2]
        weights = LARGEST_TAP * torch.tanh(raw.float()).transpose(2, 3)  # (B, 2 taps, bins, F)
        made = torch.zeros_like(padded[..., :frames])
        for tap in range(taps):
            made = made + torch.complex(weights[:, tap], weights[:, taps + tap]) * padded[..., tap:tap + frames]
        return made
