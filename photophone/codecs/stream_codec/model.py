"""StreamCodec: photophone's own causal codec of speech, continuous or discrete by its bottleneck.

In the line of Vocos (arXiv 2306.00814) and of the AudioVAE of VoxCPM (2509.24650): a causal ConvNeXt encoder reads
log-mel frames, a bottleneck makes tokens at a low rate, a causal ConvNeXt decoder predicts magnitude and phase of
spectral frames, and an inverse STFT adds them up. Frame ``k`` of analysis and of synthesis begins at sample
``k * frame_length``, so a token says all of its own samples, decoding has no delay, and chunks equal the whole.

Code and weights: Apache-2.0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from photophone.codecs.base import AudioCodec
from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.causal_conv import CausalConv1d, CausalConvTranspose1d
from photophone.layers.convnext import ConvNeXtBlock
from photophone.layers.istft import ISTFTHead
from photophone.layers.mel import MelSpectrogram
from photophone.quantizers import build_quantizer
from photophone.quantizers.model import QuantizedModel


class StreamCodec(QuantizedModel, AudioCodec):
    """Speech (B, 1, T) to tokens at ``sample_rate / (frame_length * frames_per_token)`` a second, and back.

    Args:
        sample_rate: in Hz.
        frame_length: samples between spectral frames.
        window: samples of a spectral frame; ``window - frame_length`` samples of the future are seen in encoding.
        frames_per_token: spectral frames a token.
        num_mels: of the encoder's input.
        latent_dim: channels of a continuous token, or of what a discrete bottleneck quantizes.
        encoder_width, encoder_depth: of the encoder's blocks at the frame rate.
        width, hidden: of the other blocks: channels and channels inside the MLP.
        encoder_token_depth, decoder_token_depth: blocks at the token rate.
        decoder_depth: blocks of the decoder at the frame rate.
        kernel_size: of the depthwise convolutions.
        quantizer: a name of ``photophone.quantizers.QUANTIZERS``.
        quantizer_config: its further arguments.
    """

    streams = True
    trains = True

    def __init__(self, sample_rate: int = 16000, frame_length: int = 200, window: int = 800,
                 frames_per_token: int = 2, num_mels: int = 80, latent_dim: int = 24, encoder_width: int = 128,
                 encoder_depth: int = 3, encoder_token_depth: int = 1, decoder_token_depth: int = 1,
                 decoder_depth: int = 6, width: int = 256, hidden: int = 640, kernel_size: int = 7,
                 quantizer: str = "gaussian", quantizer_config: dict | None = None) -> None:
        super().__init__()
        self.mels = MelSpectrogram(sample_rate, window, frame_length, num_mels, padding="start", clip=1e-4)

        def blocks(channels: int, inner: int, depth: int, total: int) -> nn.Sequential:
            return nn.Sequential(*(ConvNeXtBlock(channels, inner, kernel_size, causal=True, layer_scale=1 / total)
                                   for _ in range(depth)))

        total = encoder_depth + encoder_token_depth
        self.encoder = nn.Sequential(
            CausalConv1d(num_mels, encoder_width, kernel_size),
            blocks(encoder_width, hidden * encoder_width // width, encoder_depth, total),
            CausalConv1d(encoder_width, width, 2 * frames_per_token, stride=frames_per_token),
            blocks(width, hidden, encoder_token_depth, total))
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        bottleneck_dim = 2 * latent_dim if quantizer == "gaussian" else latent_dim
        self.to_latent = nn.Linear(width, bottleneck_dim)
        self.bottleneck = build_quantizer(quantizer, dim=bottleneck_dim, **(quantizer_config or {}))
        total = decoder_token_depth + decoder_depth
        self.decoder = nn.Sequential(
            CausalConv1d(latent_dim, width, kernel_size),
            blocks(width, hidden, decoder_token_depth, total),
            CausalConvTranspose1d(width, width, 2 * frames_per_token, stride=frames_per_token),
            blocks(width, hidden, decoder_depth, total))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = ISTFTHead(width, window, frame_length, padding="start")
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                nn.init.trunc_normal_(module.weight, std=0.02 if isinstance(module, nn.Linear) else 0.05)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def device(self) -> torch.device:
        """As in diffusers, which looks through all modules first; that takes longer than a short chunk can spare."""
        return self.decoder_norm.weight.device

    @property
    def fade_in(self) -> int:
        """The first frames of synthesis overlap with nothing before them."""
        return max(self.config.window - self.hop_length, 0)

    @property
    def hop_length(self) -> int:
        return self.config.frame_length * self.config.frames_per_token

    def freeze_encoder(self) -> None:
        """Fix what makes the tokens, so that the decoder can be trained on below a finished generator."""
        for part in (self.encoder, self.encoder_norm, self.to_latent, self.bottleneck):
            part.requires_grad_(False)

    def latents(self, audio: Tensor) -> Tensor:
        """What the bottleneck reads, (B, N, latent_dim or twice that), of whole hops of audio (B, 1, T)."""
        mels = (self.mels(audio[:, 0]) + 4) / 4  # speech lies in about -9..2
        x = self.encoder(mels.to(self.dtype))
        return self.to_latent(self.encoder_norm(x.transpose(1, 2)))

    def synthesize(self, values: Tensor) -> Tensor:
        """Latents (B, N, latent_dim) to audio float32 (B, 1, N * hop)."""
        x = self.decoder(values.transpose(1, 2).to(self.decoder_norm.weight.dtype))
        return self.head(self.decoder_norm(x.transpose(1, 2)))[:, None]

    def forward(self, audio: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of whole hops of audio (B, 1, T)."""
        output = self.bottleneck(self.latents(audio), noise=noise)
        return Reconstruction(self.synthesize(output.values), output.loss, output.metrics, output.values)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        """Silence is assumed after the end."""
        return Tokens(self.bottleneck.encode(self.latents(self.whole_hops(audio, lengths))))

    def _decode(self, tokens: Tokens) -> Tensor:
        return self.synthesize(self.bottleneck.decode(tokens.values)).clamp(-1, 1)
