"""The codec Music2Latent; see the package for what it is and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.codecs.music2latent.blocks import Levels
from photophone.codecs.music2latent.consistency import NoiseLevels
from photophone.codecs.music2latent.hparams import codec_config, codec_state
from photophone.codecs.music2latent.latents import LatentEncoder, PyramidDecoder
from photophone.codecs.music2latent.spectrum import OVERLAP, CompressedSpectrum
from photophone.codecs.music2latent.unet import ConsistencyUNet
from photophone.core.noise import Noise, SeededNoise
from photophone.core.threads import fitting_threads
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.lengths import keep_valid, length_mask
from photophone.layers.rows import fill_up, map_equal_lengths
from photophone.loading.checkpoints import OriginalCheckpoint, State


class Music2Latent(OriginalCheckpoint, AudioCodec):
    """Waveforms (B, 1, T) to tokens float (B, N, latent_dim) with deviations near 1, and back.

    **Lengths.** N tokens cover ``N * hop_length + 3 * stft_hop`` samples, which is what they decode to; the first and
    last three STFT hops fade. A clip gets the least N that covers it, at least 1, and is filled up with silence: no
    sample is lost, and any clip encodes. Official code cuts a clip down instead, see :meth:`official_length`.

    **Noise.** Decoding starts from noise. :meth:`decode` draws it from ``seed`` for each row anew, so the audio of a
    row depends on its tokens and on nothing else; :meth:`decode_latents` takes any other noise, and more steps.

    **Rows.** Every normalisation sees a whole clip, so rows of different length run apart, and tokens change with what
    comes behind them: it cannot stream. Clips longer than ``chunk_samples`` run in chunks that know nothing of each
    other, as in official code. Stereo is two rows.

    Args:
        sample_rate: in Hz; the weights were trained at 44.1 kHz.
        stft_hop: samples between frames of the spectrogram, which has ``2 * stft_hop`` frequencies.
        exponent, scale: of :class:`photophone.codecs.music2latent.spectrum.CompressedSpectrum`.
        channels, multipliers: their products are the widths of the levels, the finest first.
        frequency_only: see :class:`photophone.codecs.music2latent.blocks.Levels`.
        layers, attention: of each level of the U-Net: residual blocks, and whether they have attention.
        encoder_layers, encoder_attention: the same of the encoder, and of the decoder of latents.
        heads: of all attention.
        hidden_dim, hidden_layers: of the blocks next to the latents.
        latent_dim: values of a token.
        condition_dim: width of the embedding of the noise level.
        sigma_min, sigma_max, sigma_data, rho: of :class:`photophone.codecs.music2latent.consistency.NoiseLevels`.
        latent_scale: tokens are the encoder's values in [-1, 1] divided by it.
        chunk_samples: longest piece that runs at once; the published one is a minute. None: any length.
        num_steps: of :meth:`decode`; the model was trained for 1.
        seed: of :meth:`decode`.

    Raises:
        ValueError: for lists of different length and sizes that do not fit each other.
    """

    CONTAINERS = ("gen_state_dict",)
    DROPPED_KEYS = ("decoder.bottleneck_layers.*.proj_emb.*",)
    """Layers of a noise level that the official decoder of latents has, but is never told."""

    def __init__(self, sample_rate: int = 44100, stft_hop: int = 512, exponent: float = 0.65, scale: float = 0.34,
                 channels: int = 64, multipliers: list[int] = (1, 2, 4, 4, 4),
                 frequency_only: list[bool] = (True, False, False, False), layers: list[int] = (2, 2, 2, 2, 2),
                 attention: list[bool] = (False, False, True, True, True), encoder_layers: list[int] = (1, 1, 1, 1, 1),
                 encoder_attention: list[bool] = (False, False, True, True, True), heads: int = 4,
                 hidden_dim: int = 512, hidden_layers: int = 4, latent_dim: int = 64, condition_dim: int = 256,
                 sigma_min: float = 0.002, sigma_max: float = 80.0, sigma_data: float = 0.5, rho: float = 7.0,
                 latent_scale: float = 0.06, chunk_samples: int | None = 60 * 44100, num_steps: int = 1,
                 seed: int = 0) -> None:
        super().__init__()
        self.spectrum = CompressedSpectrum(stft_hop, exponent, scale)
        self.levels = Levels(self.spectrum.bins, tuple(channels * factor for factor in multipliers),
                             tuple(map(bool, frequency_only)))
        self.levels.check(layers=layers, attention=attention, encoder_layers=encoder_layers,
                          encoder_attention=encoder_attention)
        if chunk_samples is not None and chunk_samples < self.hop_length:
            raise ValueError(f"chunk_samples must be None or at least a token of {self.hop_length} samples, "
                             f"got {chunk_samples}")
        self.noise_levels = NoiseLevels(sigma_min, sigma_max, sigma_data, rho)
        self.noise_levels.path(num_steps)
        outer = (self.levels, encoder_layers, encoder_attention, heads, hidden_dim, hidden_layers, latent_dim)
        self.encoder = LatentEncoder(*outer)
        self.decoder = PyramidDecoder(*outer)
        self.unet = ConsistencyUNet(self.levels, layers, attention, heads, condition_dim, self.noise_levels)

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments for official hparams; see :func:`photophone.codecs.music2latent.hparams.codec_config`."""
        return codec_config(official)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; flat lists of layers become stages."""
        return codec_state(state)

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(token_dim=self.config.latent_dim)

    @property
    def hop_length(self) -> int:
        return self.config.stft_hop * self.levels.time_factor

    @property
    def chunk_tokens(self) -> int | None:
        """Tokens of a chunk of a long clip; None: clips are not cut."""
        return None if self.config.chunk_samples is None else self.config.chunk_samples // self.hop_length

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """The least number of tokens, at least 1, that cover ``lengths`` samples; Long (B,)."""
        beyond = lengths - (OVERLAP - 1) * self.config.stft_hop
        return (-(-beyond // self.hop_length)).clamp(min=1)

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        return self._covered(tokens.mask.sum(1))

    def _covered(self, counts: Tensor) -> Tensor:
        """Samples that ``counts`` tokens cover, Long (B,); none without tokens."""
        samples = counts * self.hop_length + (OVERLAP - 1) * self.config.stft_hop
        return torch.where(counts > 0, samples, 0)

    def official_length(self, samples: int) -> int:
        """Samples to which official code cuts a clip of ``samples``: a clip so cut has the official tokens.

        0 where official code has no token to give; :meth:`encode` fills such clips up.
        """
        fade = (OVERLAP - 1) * self.config.stft_hop
        tokens = (samples - fade) // self.hop_length
        return tokens * self.hop_length + fade if tokens > 0 else 0

    def features(self, audio: Tensor) -> Tensor:
        """What the encoder's last blocks read, (B, N, channels * frequencies), a wider description of the same tokens.

        Args:
            audio: (B, 1, T), where T is the length of N tokens: see the class.
        """
        return self._map_spectrum(self.encoder.features, audio).transpose(1, 2).float()

    def latents(self, audio: Tensor) -> Tensor:
        """The encoder's values in [-1, 1], float32 (B, N, latent_dim); ``audio`` as in :meth:`features`."""
        return self._map_spectrum(self.encoder, audio).transpose(1, 2).float()

    def _map_spectrum(self, function: Callable[[Tensor], Tensor], audio: Tensor) -> Tensor:
        chunk = None if self.chunk_tokens is None else self.chunk_tokens * self.levels.time_factor
        x = self.spectrum.analyse(audio[:, 0]).to(self.dtype)  # (B, 2, F, N * time_factor)
        return in_chunks(function, x, chunk, 1, self.levels.time_factor)

    def decode_latents(self, latents: Tensor, noise: Noise, num_steps: int | None = None) -> Tensor:
        """Tokens of one length to waveforms, from noise of the caller.

        Gradients flow; wrap calls in ``torch.no_grad()`` where none are needed.

        Args:
            latents: (B, N, latent_dim), N > 0, as :meth:`encode` returns them.
            noise: asked for normal draws (B, 2, 2 * stft_hop, frames), one for each step of each chunk.
            num_steps: of the consistency model; that of the config when None. Official code draws once more behind
                the last step, and does not use it.

        Returns:
            Float32 (B, 1, N * hop_length + 3 * stft_hop) in [-1, 1].
        """
        path = self.noise_levels.path(self.config.num_steps if num_steps is None else num_steps).to(latents.device)
        x = latents.transpose(1, 2) * self.config.latent_scale  # (B, latent_dim, N)
        with fitting_threads(self, len(latents) * latents.shape[1], gives_way=True):
            spectra = in_chunks(lambda part: self._denoise(part, noise, path), x, self.chunk_tokens,
                                self.levels.time_factor, 1)
            return self.spectrum.synthesise(spectra)[:, None]

    def _denoise(self, x: Tensor, noise: Noise, path: Tensor) -> Tensor:
        """Encoder's values (B, latent_dim, N) to spectrograms (B, 2, F, frames) along noise levels (steps + 1,)."""
        maps = self.decoder(x.to(self.dtype))
        shape = (len(x), 2, *maps[0].shape[2:])
        noisy = path[0] * noise.normal(*shape).to(x.device)
        clean = self.unet(noisy, maps, path[:1].expand(len(x)))
        for sigma in path[1:-1]:
            noisy = clean + self.noise_levels.added(sigma) * noise.normal(*shape).to(x.device)
            clean = self.unet(noisy, maps, sigma.expand(len(x)))
        return clean

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        size = audio.shape[-1]
        own = torch.full((len(audio),), size, device=audio.device) if lengths is None else lengths
        covered = self._covered(self.token_lengths(own))
        audio = fill_up(keep_valid(audio, length_mask(own, size)), int(covered.max()))
        values = map_equal_lengths(lambda part: self.latents(part).transpose(1, 2), audio, covered).transpose(1, 2)
        return Tokens(values / self.config.latent_scale)

    def _decode(self, tokens: Tokens) -> Tensor:
        def run(part: Tensor) -> Tensor:
            noise = SeededNoise.from_seeds([self.config.seed] * len(part), part.device)
            return self.decode_latents(part.transpose(1, 2), noise)

        return map_equal_lengths(run, tokens.values.transpose(1, 2), tokens.lengths)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int | None, up: int, down: int) -> Tensor:
    """``function`` of a long signal by pieces of one size; the last is filled up with the signal's beginning.

    Args:
        function: (B, ..., t) to (B, ..., t * up / down).
        x: (B, ..., T).
        size: T of a piece; None: all at once.
        up, down: whole numbers.
    """
    count = x.shape[-1]
    if size is None or count <= size:
        return function(x)
    whole = torch.cat([x, x[..., :-count % size]], dim=-1)
    parts = [function(part) for part in whole.split(size, dim=-1)]
    return torch.cat(parts, dim=-1)[..., :count * up // down]
