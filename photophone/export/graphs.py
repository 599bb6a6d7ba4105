"""The calls of a model as modules without complex numbers: what is written to a file.

Each module reads and returns plain tensors with any number of rows and any length, full rows only. Its ``example`` is
an input of it, made of the bundled recording or at random, and its ``reference`` is the model's own call, with which
the file is compared.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.codecs.stream_codec.model import StreamCodec
from photophone.codecs.vocos.model import Vocos
from photophone.core.model import Model
from photophone.core.tokens import Tokens
from photophone.export.spectra import Analysis, Synthesis
from photophone.generators.enhancer.band_filter import LARGEST_TAP, SMALLEST
from photophone.generators.enhancer.model import SpeechEnhancer
from photophone.layers.frames import convolve
from photophone.layers.istft import ISTFTHead
from photophone.layers.mel import LOGS, MelSpectrogram
from photophone.tokenizers.latent1d.model import Latent1DTokenizer


class Graph(nn.Module):
    """One call of a model.

    Args:
        model: in eval mode.

    Attributes:
        part: name of the call and of the file.
        reads, makes: names of the input and of the output.
        time_axis: of the input, which may have any size; None where only the number of rows is free.
        shortest: size of that axis from which on the call works.
    """

    part: ClassVar[str]
    reads: ClassVar[str]
    makes: ClassVar[str]
    time_axis: ClassVar[int | None] = 2
    shortest: int = 1

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def example(self, audio: Tensor) -> Tensor:
        """An input, made of audio (B, 1, T) at the model's rate."""

    @abstractmethod
    def reference(self, x: Tensor) -> Tensor:
        """What the model itself makes of an input."""


def whole_steps(audio: Tensor, step: int) -> Tensor:
    """Audio (B, T) with zeros behind it up to a multiple of the step.

    Written with one division, which the exporter can follow through all that comes of the length.
    """
    return functional.pad(audio, (0, (audio.shape[-1] + step - 1) // step * step - audio.shape[-1]))


def values_of(model: StreamCodec | Latent1DTokenizer, tokens: Tensor) -> Tensor:
    """What the bottleneck makes of tokens; the public call looks at the codes first, which a graph cannot."""
    return model.bottleneck._decode(tokens)


class RealMel(nn.Module):
    """A :class:`MelSpectrogram` that assumes silence after the end, (B, T) to (B, num_mels, F), in real numbers."""

    def __init__(self, mel: MelSpectrogram) -> None:
        super().__init__()
        if mel.padding != "start":
            raise ValueError(f"frames of padding {mel.padding!r} mirror the ends and cannot be exported; 'start' can")
        self.mel, self.analysis = mel, Analysis(mel.window, mel.hop_length)

    def forward(self, audio: Tensor) -> Tensor:
        """Whole hops of audio (B, T)."""
        mel = self.mel
        real, imaginary = self.analysis(functional.pad(audio, (0, mel.n_fft - mel.hop_length))).chunk(2, dim=1)
        power = real.square() + imaginary.square() + mel.magnitude_eps
        magnitude = power.sqrt().clamp(min=mel.magnitude_floor)
        mels = magnitude.pow(mel.power).transpose(1, 2) @ mel.filters  # (B, F, num_mels)
        return LOGS[mel.log](mels if mel.clip is None else mels.clamp(min=mel.clip)).transpose(1, 2)


class RealHead(nn.Module):
    """An :class:`ISTFTHead` in real numbers: frames (B, F, width) to samples (B, T)."""

    def __init__(self, head: ISTFTHead) -> None:
        super().__init__()
        istft = head.istft
        self.head, self.padding, self.hop_length = head, istft.padding, istft.hop_length
        constant = float(istft.window.square().sum()) / istft.hop_length if istft.padding == "start" else None
        self.trim = {"start": 0, "center": istft.n_fft // 2}.get(istft.padding, (istft.n_fft - istft.hop_length) // 2)
        self.synthesis = Synthesis(istft.window, istft.hop_length, constant)

    def forward(self, x: Tensor) -> Tensor:
        """Samples of all frames."""
        log_magnitude, phase = convolve(x.transpose(1, 2), self.head.out).chunk(2, dim=1)
        magnitude = log_magnitude.clamp(max=self.head.max_log).exp()
        audio = self.synthesis(torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=1))
        if self.padding == "start":
            return audio[:, :x.shape[1] * self.hop_length]
        return audio[:, self.trim:audio.shape[1] - self.trim]


class CodecEncode(Graph):
    """Audio (B, 1, T) to the tokens of :class:`StreamCodec`; the last hop is filled up with silence."""

    part, reads, makes = "encode", "audio", "tokens"

    def __init__(self, model: StreamCodec) -> None:
        super().__init__(model)
        self.mels = RealMel(model.mels)

    def forward(self, audio: Tensor) -> Tensor:
        """Token values."""
        x = self.model.encoder((self.mels(whole_steps(audio[:, 0], self.model.hop_length)) + 4) / 4)
        return self.model.bottleneck.encode(self.model.to_latent(self.model.encoder_norm(x.transpose(1, 2))))

    def example(self, audio: Tensor) -> Tensor:
        return audio

    def reference(self, x: Tensor) -> Tensor:
        return self.model.encode(x).values


class CodecDecode(Graph):
    """Tokens of a codec to audio (B, 1, T)."""

    part, reads, makes = "decode", "tokens", "audio"
    time_axis = 1

    def __init__(self, model: StreamCodec) -> None:
        super().__init__(model)
        self.head = RealHead(model.head)

    def forward(self, tokens: Tensor) -> Tensor:
        """Samples in [-1, 1]."""
        x = self.model.decoder(values_of(self.model, tokens).transpose(1, 2))
        return self.head(self.model.decoder_norm(x.transpose(1, 2)))[:, None].clamp(-1, 1)

    def example(self, audio: Tensor) -> Tensor:
        return self.model.encode(audio).values

    def reference(self, x: Tensor) -> Tensor:
        model: AudioCodec = self.model
        return model.decode(Tokens(x))


class VocoderDecode(CodecDecode):
    """Mel frames (B, N, num_mels) of :class:`Vocos` to audio (B, 1, T)."""

    reads, shortest = "mels", 2

    def __init__(self, model: Vocos) -> None:
        if model.config.num_conditions:
            raise ValueError("a vocoder of several conditions cannot be exported; one without conditions can")
        super().__init__(model)

    def forward(self, mels: Tensor) -> Tensor:
        """Samples, not clamped."""
        return self.head(self.model.backbone(mels.transpose(1, 2)))[:, None]


class RealEnhancer(SpeechEnhancer):
    """A :class:`SpeechEnhancer` whose spectra are real and imaginary parts, (B, 2, bins, F)."""

    def compressed(self, spectrum: Tensor) -> Tensor:
        power = self.config.compression
        magnitude = spectrum.square().sum(1).sqrt().clamp(min=SMALLEST)
        real, imaginary = (spectrum * magnitude[:, None] ** (power - 1)).unbind(1)
        return torch.stack([real, imaginary, magnitude ** power], dim=1)

    def filtered(self, padded: Tensor, raw: Tensor) -> Tensor:
        taps, frames = self.config.taps, raw.shape[2]
        weights = LARGEST_TAP * torch.tanh(raw).transpose(2, 3)  # (B, 2 taps, bins, F)
        real, imaginary = padded.unbind(1)
        made = torch.zeros_like(padded[..., :frames])
        for tap in range(taps):
            a, b = weights[:, tap], weights[:, taps + tap]
            x, y = real[..., tap:tap + frames], imaginary[..., tap:tap + frames]
            made = made + torch.stack([a * x - b * y, a * y + b * x], dim=1)
        return made


class Enhance(Graph):
    """Noisy speech (B, 1, T) to clean speech of the same length, as :meth:`SpeechEnhancer.enhance`."""

    part, reads, makes = "enhance", "noisy", "clean"

    def __init__(self, model: SpeechEnhancer) -> None:
        super().__init__(model)
        spectra = model.spectra
        self.real = RealEnhancer.from_config(model.config).eval()
        self.real.load_state_dict(model.state_dict())
        self.analysis = Analysis(spectra.window, spectra.hop_length)
        self.synthesis = Synthesis(spectra.window, spectra.hop_length)

    def forward(self, noisy: Tensor) -> Tensor:
        """Clean samples."""
        length, spectra = noisy.shape[-1], self.real.spectra
        side = spectra.n_fft // 2
        whole = functional.pad(whole_steps(noisy[:, 0], spectra.hop_length), (side, side))
        spectrum = self.analysis(whole).unflatten(1, (2, side + 1))[:, :, 1:]  # without the constant
        clean, _ = self.real.run(spectrum, length)
        full = functional.pad(clean, (0, 0, 1, 0)).flatten(1, 2)
        return self.synthesis(full)[:, None, side:side + length]

    def example(self, audio: Tensor) -> Tensor:
        return audio

    def reference(self, x: Tensor) -> Tensor:
        return self.model.enhance(x)


class ImageDecode(Graph):
    """Tokens (B, N, D), or codes (B, N), to images (B, 3, H, W) in [-1, 1]; N is that of the model."""

    part, reads, makes = "decode", "tokens", "images"
    time_axis = None

    def forward(self, tokens: Tensor) -> Tensor:
        """Pixels."""
        return self.model.reconstruct(values_of(self.model, tokens)).clamp(-1, 1)

    def example(self, audio: Tensor) -> Tensor:
        """Tokens of smooth random pictures, as many as there are rows."""
        side = self.model.image_size
        coarse = torch.rand(len(audio), 3, 4, 4, generator=torch.Generator().manual_seed(math.ceil(audio.shape[-1])))
        pictures = functional.interpolate(2 * coarse - 1, size=(side, side), mode="bicubic").clamp(-1, 1)
        return self.model.encode(pictures).values

    def reference(self, x: Tensor) -> Tensor:
        return self.model.decode(Tokens(x))


GRAPHS: dict[type[Model], tuple[type[Graph], ...]] = {
    SpeechEnhancer: (Enhance,), Vocos: (VocoderDecode,), StreamCodec: (CodecEncode, CodecDecode),
    Latent1DTokenizer: (ImageDecode,)}
"""What is exported of a model, by its class."""


def graphs_of(model: Model, name: str) -> list[Graph]:
    """The exported calls of a model.

    Args:
        model: in eval mode.
        name: of the model, for messages.

    Raises:
        ValueError: a class that is not exported, or settings of one that cannot be.
    """
    if type(model) not in GRAPHS:
        known = ", ".join(kind.__name__ for kind in GRAPHS)
        raise ValueError(f"{name} is a {type(model).__name__}, which is not exported; exported are {known}, such as "
                         "photophone/tiny-enhance, photophone/tiny-vocoder, photophone/tiny-speech (its codec) and "
                         "photophone/tiny-image (its decoder)")
    return [graph(model).eval() for graph in GRAPHS[type(model)]]
