"""Parts of the HiFT vocoder: residual blocks, pitch predictor, and the trunk from mel frames and a source to samples.

Papers: HiFTNet (arXiv 2309.09493), HiFi-GAN (2010.05646), BigVGAN (2206.04658); streaming form of CosyVoice 3
(2505.17589).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from photophone.layers.constants import ConstantsModule
from photophone.layers.istft import ISTFT
from photophone.layers.snake import Snake

MAX_MAGNITUDE = 100.0
POST_KERNEL = 7
POST_SLOPE = 0.01


class PaddedConv1d(nn.Conv1d):
    """A convolution (B, C, T) -> (B, C', T') with ``before`` and ``after`` zeros around the signal."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, before: int, after: int = 0, *,
                 stride: int = 1, dilation: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, dilation=dilation)
        self.around = before, after

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to (B, C', T')."""
        return super().forward(F.pad(x, self.around))


def same_conv(in_channels: int, out_channels: int, kernel_size: int, causal: bool, dilation: int = 1) -> nn.Module:
    """A weight-normalised convolution that keeps the length; it sees no later samples if ``causal``."""
    reach = (kernel_size - 1) * dilation
    before = reach if causal else reach // 2
    return weight_norm(PaddedConv1d(in_channels, out_channels, kernel_size, before, reach - before, dilation=dilation))


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution behind Snake, each with a residual: (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], causal: bool) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(same_conv(channels, channels, kernel_size, causal, d) for d in dilations)
        self.convs2 = nn.ModuleList(same_conv(channels, channels, kernel_size, causal) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to the same."""
        layers = zip(self.activations1, self.convs1, self.activations2, self.convs2, strict=True)
        for act1, conv1, act2, conv2 in layers:
            x = x + conv2(act2(conv1(act1(x))))
        return x


class CausalUpsample(nn.Conv1d):
    """Repeats each sample, then convolves without later samples: (B, C, T) -> (B, C', T * factor)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, factor: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T) to (B, C', T * factor)."""
        return super().forward(F.pad(x.repeat_interleave(self.factor, dim=2), (self.kernel_size[0] - 1, 0)))


class PitchPredictor(nn.Module):
    """Mel frames (B, mels, F) to pitch in Hz (B, F).

    Args:
        num_mels, channels: of the input and inside.
        depth: convolutions.
        causal: sees ``ahead`` frames ahead, and runs in float64, because a stream is sensitive to its rounding.
    """

    def __init__(self, num_mels: int, channels: int, causal: bool, depth: int = 5, ahead: int = 3) -> None:
        super().__init__()
        self.causal = causal
        first = weight_norm(PaddedConv1d(num_mels, channels, ahead + 1, 0, ahead)) if causal else \
            same_conv(num_mels, channels, 3, False)
        others = [same_conv(channels, channels, 3, causal) for _ in range(depth - 1)]
        self.condnet = nn.Sequential(*(layer for conv in (first, *others) for layer in (conv, nn.ELU())))
        self.classifier = nn.Linear(channels, 1)
        self.reach = (2 * (depth - 1), ahead) if causal else (depth, depth)

    def forward(self, mel: Tensor) -> Tensor:
        """Float32 pitch."""
        if not self.causal:
            x = self.condnet(mel.to(self.classifier.weight.dtype)).transpose(1, 2)
            return self.classifier(x)[..., 0].abs().float()
        x = mel.double()
        for layer in self.condnet:
            if isinstance(layer, PaddedConv1d):
                length, direction = (part.double() for part in (layer.parametrizations.weight.original0,
                                                                layer.parametrizations.weight.original1))
                weight = direction * (length / direction.norm(dim=(1, 2), keepdim=True))
                x = F.conv1d(F.pad(x, layer.around), weight, layer.bias.double())
            else:
                x = layer(x)
        x = F.linear(x.transpose(1, 2), self.classifier.weight.double(), self.classifier.bias.double())
        return x[..., 0].abs().float()


class HiFTTrunk(ConstantsModule):
    """Mel frames (B, mels, F) and a source (B, 1, F * hop) to samples float32 (B, 1, F * hop).

    Args:
        num_mels: of the frames.
        channels: of the first convolution; each stage halves them.
        rates, kernels: of the stages.
        n_fft, hop_length: of the spectra that the source enters and the signal leaves by.
        block_kernels, block_dilations: of the residual blocks of each stage, whose mean is taken.
        source_kernels, source_dilations: of the residual block of the source in each stage.
        slope: of the leaky ReLU before a stage; the last one has 0.01.
        limit: largest sample.
        causal: sees ``look_ahead`` frames ahead and no more; else a few on both sides.
    """

    def __init__(self, num_mels: int, channels: int, rates: Sequence[int], kernels: Sequence[int], n_fft: int,
                 hop_length: int, block_kernels: Sequence[int], block_dilations: Sequence[Sequence[int]],
                 source_kernels: Sequence[int], source_dilations: Sequence[Sequence[int]], *, slope: float = 0.1,
                 limit: float = 0.99, causal: bool = False, look_ahead: int = 4) -> None:
        super().__init__()
        self.slope, self.limit, self.n_fft, self.hop_length = slope, limit, n_fft, hop_length
        self.conv_pre = weight_norm(PaddedConv1d(num_mels, channels, look_ahead + 1, 0, look_ahead)) if causal else \
            same_conv(num_mels, channels, 7, False)
        self.ups, self.source_downs = nn.ModuleList(), nn.ModuleList()
        self.source_resblocks, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for stage, (rate, kernel) in enumerate(zip(rates, kernels, strict=True)):
            wide, width, down = channels >> stage, channels >> (stage + 1), math.prod(rates[stage + 1:])
            up = CausalUpsample(wide, width, kernel, rate) if causal else \
                nn.ConvTranspose1d(wide, width, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            before, after = (0, 0) if down == 1 else (down - 1, 0) if causal else (down // 2, down // 2)
            self.source_downs.append(PaddedConv1d(n_fft + 2, width, 1 if down == 1 else 2 * down, before, after,
                                                  stride=down))
            self.source_resblocks.append(ResBlock(width, source_kernels[stage], source_dilations[stage], causal))
            self.resblocks.extend(ResBlock(width, size, dilations, causal)
                                  for size, dilations in zip(block_kernels, block_dilations, strict=True))
        self.conv_post = same_conv(width, n_fft + 2, POST_KERNEL, causal)
        self.add_constant("window", torch.hann_window(n_fft))
        self.istft = ISTFT(n_fft, hop_length, "center")

    def spectrum(self, source: Tensor) -> Tensor:
        """Real, then imaginary parts (B, n_fft + 2, T / hop + 1) of a source (B, 1, T)."""
        parts = torch.stft(source[:, 0].float(), self.n_fft, self.hop_length, window=self.window, return_complex=True)
        return torch.cat([parts.real, parts.imag], dim=1)

    def forward(self, mel: Tensor, source: Tensor) -> Tensor:
        """Samples float32 (B, 1, F * hop) of mel (B, mels, F) and source (B, 1, F * hop)."""
        dtype = self.conv_post.bias.dtype
        spectrum, x = self.spectrum(source).to(dtype), self.conv_pre(mel.to(dtype))
        several = len(self.resblocks) // len(self.ups)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, self.slope))
            if stage == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")  # F * rates samples to as many spectra as the source has
            x = x + self.source_resblocks[stage](self.source_downs[stage](spectrum))
            blocks = self.resblocks[stage * several:(stage + 1) * several]
            x = sum(block(x) for block in blocks) / several
        x = self.conv_post(F.leaky_relu(x, POST_SLOPE)).float()
        magnitude, phase = x.split(self.n_fft // 2 + 1, dim=1)
        spectra = torch.polar(magnitude.exp().clamp(max=MAX_MAGNITUDE), phase.sin())  # the sine is part of the weights
        return self.istft(spectra).clamp(-self.limit, self.limit)[:, None]


def trunk_reach(rates: Sequence[int], kernels: Sequence[int], n_fft: int, hop_length: int,
                block_kernels: Sequence[int], block_dilations: Sequence[Sequence[int]],
                source_kernels: Sequence[int], source_dilations: Sequence[Sequence[int]], *, causal: bool,
                look_ahead: int) -> tuple[int, int]:
    """Frames before and after a frame that its samples depend on: an upper bound from the kernels of a trunk."""
    side = 1.0 if causal else 0.5  # of a kernel that lies before

    def block(kernel: int, dilations: Sequence[int]) -> float:
        return side * (kernel - 1) * sum(dilation + 1 for dilation in dilations)

    totals = list(accumulate(rates, int.__mul__))
    spectra = n_fft / hop_length
    reach = (side * (POST_KERNEL - 1) + spectra + 1) / totals[-1]
    furthest = 0.0
    for stage in reversed(range(len(rates))):
        source = block(source_kernels[stage], source_dilations[stage]) + 2
        furthest = max(furthest, reach + source / totals[stage] + spectra / totals[-1])
        reach += max(block(*pair) for pair in zip(block_kernels, block_dilations, strict=True)) / totals[stage]
        reach += (kernels[stage] + 1) / totals[stage]
    before = math.ceil(max(furthest, reach + (0 if causal else 3)))
    return before, look_ahead + 1 if causal else before
