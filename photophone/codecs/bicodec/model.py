"""BiCodec, the codec of Spark-TTS: 32 codes that say the voice, then 50 codes a second that say what it says.

Paper: arXiv 2503.01710. Original code: github.com/SparkAudio/Spark-TTS, Apache-2.0. Weights: CC BY-NC-SA 4.0 as users
report of the hub page; see it before use.

A row of tokens holds the voice codes first and the semantic codes behind them, so one sequence is the whole clip.
Semantic codes come from wav2vec2 features (``facebook/wav2vec2-large-xlsr-53``), which see the whole clip, as does the
normalisation of the volume: rows of different length are therefore computed without padding, those of equal length
together. The last frames of wav2vec2 need 400 samples, so a clip decodes to a little less than its length.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from photophone.codecs.base import AudioCodec
from photophone.codecs.bicodec.ecapa import ECAPA
from photophone.codecs.bicodec.frame_nets import FrameDecoder, FrameEncoder
from photophone.codecs.bicodec.perceiver import PerceiverResampler
from photophone.core.files import atomic_write
from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.dac_conv import DACDecoder
from photophone.layers.mel import MelSpectrogram
from photophone.layers.rows import map_equal_lengths
from photophone.loading.checkpoints import (
    WEIGHT_NORM,
    OriginalCheckpoint,
    State,
    content_of,
    fold_weight_norm,
    read_state,
    rename_keys,
    write_weights,
)
from photophone.loading.weight_norm import old_names
from photophone.quantizers.base import QuantizerOutput
from photophone.quantizers.fsq import FSQ
from photophone.quantizers.model import QuantizedModel
from photophone.quantizers.residual import ResidualVQ

MEL = {"n_fft": 1024, "window_length": 640, "hop_length": 320, "f_min": 10.0, "num_mels": 128}
ENCODER = {"in_channels": 1024, "width": 384, "hidden": 2048, "depth": 12, "out_channels": 1024}
PRENET = {"in_channels": 1024, "width": 384, "hidden": 2048, "depth": 12, "out_channels": 1024, "condition_dim": 1024}
POSTNET = {"in_channels": 1024, "width": 384, "hidden": 2048, "depth": 6, "out_channels": 1024}
DECODER = {"in_channels": 1024, "channels": 1536, "strides": [8, 5, 4, 2], "kernel_sizes": [16, 11, 8, 4]}
SPEAKER = {"channels": 512, "dim": 1024, "latent_dim": 128, "num_tokens": 32, "levels": [4, 4, 4, 4, 4, 4]}
FEATURE_LAYERS = (11, 14, 16)
NET_NAMES = {"in_channels": "input_channels", "width": "vocos_dim", "hidden": "vocos_intermediate_dim",
             "depth": "vocos_num_layers", "out_channels": "out_channels", "condition_dim": "condition_dim",
             "tanh": "use_tanh_at_final"}
"""Settings of encoder, prenet and postnet, and their official names."""
USAGE_DECAY = 0.99


def normalize_volume(audio: Tensor) -> Tensor:
    """A clip (T,) at the level that BiCodec was trained on, computed in float64.

    A quiet clip is raised to a peak of 0.1. Then the mean of its louder samples (between the 90th and 99th percentile
    of what exceeds 0.01) becomes 0.2, by a gain of 0.1 to 10; at last the peak is limited to 1.
    """
    audio = audio.double()
    sizes = audio.abs().sort().values
    if sizes[-1] < 0.1:
        audio = audio / sizes[-1].clamp(min=1e-3) * 0.1  # ``sizes`` stay as they were, as in the official code
    loud = sizes[sizes > 0.01]
    if len(loud) <= 10:
        return audio.float()
    volume = loud[int(0.9 * len(loud)):int(0.99 * len(loud))].mean()
    audio = audio * (0.2 / volume).clamp(0.1, 10)
    return (audio / audio.abs().max().clamp(min=1)).float()


class SpeakerEncoder(nn.Module):
    """Mel frames (B, num_mels, T) to codes of a voice, and those to its vector.

    Args:
        num_mels: of the input.
        channels, dim: of :class:`photophone.codecs.bicodec.ecapa.ECAPA` and of the voice vector.
        latent_dim, num_tokens: of the latents that are quantized.
        levels: of the quantizer.
    """

    def __init__(self, num_mels: int, channels: int, dim: int, latent_dim: int, num_tokens: int,
                 levels: list[int]) -> None:
        super().__init__()
        self.speaker_encoder = ECAPA(num_mels, channels, dim)
        self.perceiver_sampler = PerceiverResampler(latent_dim, 3 * channels, num_tokens)
        self.quantizer = FSQ(levels, latent_dim)
        self.project = nn.Linear(latent_dim * num_tokens, dim)

    def latents(self, mels: Tensor) -> Tensor:
        """What is quantized, (B, num_tokens, latent_dim)."""
        return self.perceiver_sampler(self.speaker_encoder.frames(mels).transpose(1, 2))

    def voice(self, values: Tensor) -> Tensor:
        """Quantized latents (B, num_tokens, latent_dim) to the voice vector (B, dim)."""
        return self.project(values.transpose(1, 2).flatten(1).to(self.project.weight.dtype))  # channels count slowest


class BiCodec(OriginalCheckpoint, QuantizedModel, AudioCodec):
    """Waveforms (B, 1, T) to codes (B, N), the first ``speaker["num_tokens"]`` of which say the voice, and back.

    Args:
        sample_rate: in Hz.
        reference_seconds: of the beginning of a clip, from which the voice is taken; shorter clips are repeated.
        volume_normalized: bring clips to one level first; see :func:`normalize_volume`.
        features: arguments of transformers' Wav2Vec2Config; with None the model has no wav2vec2 and only decodes.
        feature_layers: hidden states whose mean is encoded.
        mel, speaker: of the voice, see :class:`SpeakerEncoder`.
        semantic, prenet_config, postnet_config: of the encoder and the two decoders of features, see
            :mod:`photophone.codecs.bicodec.frame_nets`; the second is for training.
        wave: of :class:`photophone.layers.dac_conv.DACDecoder`.
        num_codes, code_dim: of the semantic codebook.
        commitment, codebook_weight, dead_below: of its loss, and the average use below which a code counts as dead.
    """

    trains = True
    DROPPED_KEYS = ("mel_transformer.*",)
    """Constants of the config."""

    def __init__(self, sample_rate: int = 16000, reference_seconds: float = 6.0, volume_normalized: bool = True,
                 features: dict | None = None, feature_layers: list[int] = FEATURE_LAYERS, mel: dict = MEL,
                 speaker: dict = SPEAKER, semantic: dict = ENCODER, prenet_config: dict = PRENET,
                 postnet_config: dict = POSTNET, wave: dict = DECODER, num_codes: int = 8192, code_dim: int = 8,
                 commitment: float = 0.25, codebook_weight: float = 2.0, dead_below: float = 0.2) -> None:
        super().__init__()
        self.wav2vec2 = None if features is None else Wav2Vec2Model(Wav2Vec2Config(**features))
        self.mel_spectrogram = MelSpectrogram(sample_rate, mel_scale="slaney", norm="slaney", log=None, clip=None,
                                              **mel)
        self.encoder = FrameEncoder(**semantic)
        self.bottleneck = ResidualVQ(semantic["out_channels"], num_codes, 1, codebook_dim=code_dim, projection="stage",
                                     cosine_search=True, beta=commitment, codebook_weight=codebook_weight)
        self.register_buffer("cluster_size", torch.zeros(num_codes))
        self.speaker_encoder = SpeakerEncoder(mel["num_mels"], **speaker)
        self.prenet = FrameDecoder(**prenet_config)
        self.postnet = FrameDecoder(**postnet_config)
        self.decoder = DACDecoder(**wave)
        self._freeze()

    def _freeze(self) -> None:
        """Fix what :meth:`forward` does not train."""
        voice = self.speaker_encoder.speaker_encoder
        for part in (self.wav2vec2, voice.pool, voice.bn, voice.linear):
            if part is not None:
                part.requires_grad_(False)

    def freeze_encoder(self) -> None:
        """Fix what makes the codes of speech and voice, so that the synthesis can be trained on below a finished
        generator."""
        for part in self._makers_of_codes:
            part.requires_grad_(False)

    @property
    def _makers_of_codes(self) -> tuple[nn.Module, ...]:
        speaker = self.speaker_encoder
        return self.encoder, self.bottleneck, speaker.speaker_encoder, speaker.perceiver_sampler, speaker.quantizer

    def train(self, mode: bool = True) -> Self:
        """As in torch, but wav2vec2 never drops anything, and what is frozen keeps its statistics."""
        super().train(mode)
        frozen = [part for part in self._makers_of_codes if not any(w.requires_grad for w in part.parameters())]
        for part in (*frozen, *filter(None, [self.wav2vec2])):
            part.eval()
        return self

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; those of ``wav2vec2.`` are transformers'."""
        stages = [int(match[1]) for key in state if (match := re.match(r"decoder\.model\.(\d+)\.block\.", key))]
        last = max(stages, default=0)

        def decoder_layer(match: re.Match) -> str:
            ends = {0: "decoder.conv_in.0.", last + 1: "decoder.snake_out.", last + 2: "decoder.conv_out."}
            return ends.get(int(match[1])) or f"decoder.stages.{int(match[1]) - 1}."

        normed = {key: value for key, value in state.items() if key.startswith(("decoder.", "wav2vec2."))}
        state = {**fold_weight_norm({key: value for key, value in state.items() if key not in normed}), **normed}
        state = rename_keys(state, [
            (r"^decoder\.model\.(\d+)\.", decoder_layer), (r"^(decoder\..*?)\.block\.", r"\1."),
            (r"^(decoder\.stages\.\d+\.\d+)\.block\.", r"\1."),
            *WEIGHT_NORM,  # what is left of it
            (r"^quantizer\.in_project", "bottleneck.project_in.0"),
            (r"^quantizer\.out_project", "bottleneck.project_out.0"),
            (r"^quantizer\.codebook\.weight$", "bottleneck.stages.0.codebook"), (r"^quantizer\.cluster", "cluster"),
            (r"\.perceiver_sampler\.norm\.gamma$", ".perceiver_sampler.gamma")])
        for key in ("bottleneck.project_in.0.weight", "bottleneck.project_out.0.weight"):
            if key in state:
                state[key] = state[key].flatten(1)  # a convolution over one frame is a linear layer
        return state

    def original_state_dict(self) -> State:
        """As in the base; keys of wav2vec2 belong into a file of their own."""
        last = len(self.decoder.stages)
        state = rename_keys(old_names(self.state_dict()), [
            (r"^decoder\.stages\.(\d+)\.(\d+)\.(?=\d)", r"decoder.stages.\1.\2.block."),
            (r"^decoder\.stages\.(\d+)\.", lambda match: f"decoder.model.{int(match[1]) + 1}.block."),
            (r"^decoder\.conv_in\.0\.", "decoder.model.0."),
            (r"^decoder\.snake_out\.", f"decoder.model.{last + 1}."),
            (r"^decoder\.conv_out\.", f"decoder.model.{last + 2}."),
            (r"^bottleneck\.project_in\.0", "quantizer.in_project"),
            (r"^bottleneck\.project_out\.0", "quantizer.out_project"),
            (r"^bottleneck\.stages\.0\.codebook$", "quantizer.codebook.weight"),
            (r"^cluster", "quantizer.cluster"),
            (r"\.perceiver_sampler\.gamma$", ".perceiver_sampler.norm.gamma")])
        for name in ("in_project", "out_project"):
            weight = state.pop(f"quantizer.{name}.weight")[..., None]  # a convolution over one frame
            state |= {f"quantizer.{name}.weight_g": torch.norm_except_dim(weight, 2, 0),
                      f"quantizer.{name}.weight_v": weight}
        return state

    def original_config(self) -> dict[str, Any]:
        """The content of ``BiCodec/config.yaml``."""
        config = self.config

        def net(settings: Mapping[str, Any]) -> dict[str, Any]:
            return {theirs: settings[ours] for ours, theirs in NET_NAMES.items() if ours in settings} | {
                "sample_ratios": list(settings.get("ratios", (1, 1)))}

        mel, speaker, wave = config.mel, config.speaker, config.wave
        return {"audio_tokenizer": {
            "mel_params": {"sample_rate": config.sample_rate, "n_fft": mel["n_fft"], "win_length": mel["window_length"],
                           "hop_length": mel["hop_length"], "mel_fmin": mel["f_min"], "mel_fmax": mel.get("f_max"),
                           "num_mels": mel["num_mels"]},
            "encoder": net(config.semantic), "prenet": net(config.prenet_config), "postnet": net(config.postnet_config),
            "decoder": {"input_channel": wave["in_channels"], "channels": wave["channels"],
                        "rates": list(wave["strides"]), "kernel_sizes": list(wave["kernel_sizes"])},
            "quantizer": {"input_dim": config.semantic["out_channels"], "codebook_size": config.num_codes,
                          "codebook_dim": config.code_dim, "commitment": config.commitment,
                          "codebook_loss_weight": config.codebook_weight,
                          "threshold_ema_dead_code": config.dead_below},
            "speaker_encoder": {"input_dim": mel["num_mels"], "out_dim": speaker["dim"],
                                "latent_dim": speaker["latent_dim"], "token_num": speaker["num_tokens"],
                                "fsq_levels": list(speaker["levels"]), "fsq_num_quantizers": 1}}}

    def save_original(self, folder: str | Path) -> None:
        """Write the files of a release: ``BiCodec/`` and ``wav2vec2-large-xlsr-53/`` with their configs, and the
        ``config.yaml`` beside them."""
        folder, config, state = Path(folder), self.config, self.original_state_dict()
        beside = {key: state.pop(key) for key in list(state) if key.startswith("wav2vec2.")}
        common = {"sample_rate": config.sample_rate, "ref_segment_duration": config.reference_seconds,
                  "latent_hop_length": config.mel["hop_length"], "volume_normalize": config.volume_normalized}
        for place, settings in (("config.yaml", common), ("BiCodec/config.yaml", self.original_config())):
            with atomic_write(folder / place) as partial:
                partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")  # which is YAML, too
        write_weights(folder / "BiCodec" / "model.safetensors", state)
        write_weights(folder / "wav2vec2-large-xlsr-53" / "pytorch_model.bin", beside)
        self._features().config.save_pretrained(folder / "wav2vec2-large-xlsr-53")

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, wav2vec2: str | Path | Mapping | None = None,
                      take: str | None = None, **config: Any) -> Self:
        """The model with official weights.

        Args:
            source: ``BiCodec/model.safetensors`` of the release, or its content.
            wav2vec2: ``wav2vec2-large-xlsr-53/pytorch_model.bin`` of the release, or its content; without it, give
                ``features=None`` for a model that only decodes.
            take: as in the base.
            **config: of the constructor.

        Raises:
            ValueError: a file is refused, does not fit, or the features' weights are missing.
        """
        beside = {}
        if config.get("features") is not None:
            if wav2vec2 is None:
                raise ValueError("encoding needs the weights of wav2vec2: give wav2vec2=PATH, or features=None for a "
                                 "model that only decodes")
            given = read_state(wav2vec2)
            drop = ("quantizer.", "project_q.", "project_hid.")  # of its own training
            beside = {f"wav2vec2.{key.removeprefix('wav2vec2.')}": value for key, value in given.items()
                      if not key.startswith(drop)}
        return cls.load_content(source, content_of(source), take, config, beside)

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.wave["strides"]) * math.prod(self.config.prenet_config.get("ratios", (1, 1)))

    @property
    def num_voice_tokens(self) -> int:
        """Codes of the voice, in front of each row."""
        return self.config.speaker["num_tokens"]

    def token_lengths(self, lengths: Tensor) -> Tensor:
        settings = self._features().config
        for kernel, stride in zip(settings.conv_kernel, settings.conv_stride, strict=True):
            lengths = (lengths - kernel) // stride + 1
        return self.num_voice_tokens + lengths.clamp(min=1) // math.prod(self.config.semantic.get("ratios", (1, 1)))

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        return (tokens.mask.sum(1) - self.num_voice_tokens).clamp(min=0) * self.hop_length

    def check_tokens(self, tokens: Tokens) -> None:
        super().check_tokens(tokens)
        voice, most = tokens.values[:, :self.num_voice_tokens], self.speaker_encoder.quantizer.codebook_size
        least = tokens.num_tokens if tokens.lengths is None else int(tokens.lengths.min())
        if least <= self.num_voice_tokens or int(voice.max()) >= most:
            raise ValueError(f"each row begins with {self.num_voice_tokens} voice codes below {most}, then semantic "
                             f"codes; got {least} codes, voice codes up to {int(voice.max())}")

    def semantic_features(self, audio: Tensor) -> Tensor:
        """Features float (B, feature_dim, F) of clips (B, T) of equal length."""
        normal = (audio - audio.mean(1, keepdim=True)) / (audio.var(1, correction=0, keepdim=True) + 1e-7).sqrt()
        states = self._features()(normal.to(self.dtype), output_hidden_states=True).hidden_states
        return torch.stack([states[layer] for layer in self.config.feature_layers]).mean(0).transpose(1, 2)

    def reference(self, audio: Tensor) -> Tensor:
        """The beginning of clips (B, T), repeated where they are short, (B, reference samples)."""
        config = self.config
        hop = config.mel["hop_length"]
        size = int(config.sample_rate * config.reference_seconds) // hop * hop
        return audio.repeat(1, -(-size // audio.shape[1]))[:, :size]

    def latents(self, features: Tensor) -> Tensor:
        """Features (B, feature_dim, F) to what becomes semantic codes, (B, N, latent_dim)."""
        return self.encoder(features).transpose(1, 2)

    def voice_codes(self, reference: Tensor) -> Tensor:
        """Reference clips (B, T) to voice codes Long (B, num_voice_tokens)."""
        mels = self.mel_spectrogram(reference).to(self.dtype)
        return self.speaker_encoder.quantizer.encode(self.speaker_encoder.latents(mels))

    def synthesize(self, values: Tensor, voice: Tensor) -> tuple[Tensor, Tensor]:
        """Semantic values (B, N, latent_dim) and voice vectors (B, dim) to audio (B, 1, T) and frames (B, C, T')."""
        frames = self.prenet(values.transpose(1, 2).to(self.dtype), voice)
        return self.decoder(frames + voice[:, :, None]).float(), frames

    def predict(self, features: Tensor, reference: Tensor,
                noise: Noise | None = None) -> tuple[Tensor, Tensor, QuantizerOutput]:
        """What training compares: audio (B, 1, T), predicted features (B, feature_dim, F), and the quantizer's output.

        Args:
            features: float (B, feature_dim, F).
            reference: clips of the same voice (B, T).
            noise: of the quantizers.
        """
        output = self.bottleneck(self.latents(features), noise=noise)
        mels = self.mel_spectrogram(reference).to(self.dtype)
        voice = self.speaker_encoder.latents(mels)
        vector = self.speaker_encoder.voice(self.speaker_encoder.quantizer(voice, noise=noise).values)
        audio, frames = self.synthesize(output.values, vector)
        return audio, self.postnet(frames), output

    def forward(self, audio: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of audio (B, 1, T), whose loss is that of the quantizer and the mean squared error of the
        predicted features. wav2vec2 stays as it is, and so does the vector of the voice that ECAPA makes: the loss of
        that one is not published."""
        clips = self.level(audio[:, 0].float())
        with torch.no_grad():
            features = self.semantic_features(clips)
        made, predicted, output = self.predict(features, self.reference(clips), noise)
        error = nn.functional.mse_loss(predicted.float(), features.float())
        metrics = {**output.metrics, "feature_error": error.detach()}
        if self.training:
            metrics["codes_alive"] = self.update_usage(output.indices).float()
        return Reconstruction(made, output.loss + error, metrics, output.values)

    @torch.no_grad()
    def update_usage(self, indices: Tensor) -> Tensor:
        """Move the average use of each code, and count those that are alive."""
        counts = indices.flatten().bincount(minlength=len(self.cluster_size)).to(self.cluster_size)
        self.cluster_size.lerp_(counts, 1 - USAGE_DECAY)
        return (self.cluster_size > self.config.dead_below).sum()

    def check_audio(self, audio: Tensor, lengths: Tensor | None = None) -> None:
        """As in the base; a model without features reads none."""
        self._features()
        super().check_audio(audio, lengths)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        return Tokens(map_equal_lengths(self._encode_full, audio, lengths))

    def _decode(self, tokens: Tokens) -> Tensor:
        return map_equal_lengths(self._decode_full, tokens.values, tokens.lengths)

    def as_read(self, audio: Tensor) -> Tensor:
        """Clips at the volume that the model reads."""
        return self.level(audio[:, 0])[:, None]

    def level(self, audio: Tensor) -> Tensor:
        """Clips (B, T) at the volume that the model reads."""
        if not self.config.volume_normalized:
            return audio
        return torch.stack([normalize_volume(row) for row in audio])

    def _encode_full(self, audio: Tensor) -> Tensor:
        audio = self.level(audio[:, 0].float())
        whole = nn.functional.pad(audio, (0, max(self.frame_samples - audio.shape[1], 0)))
        semantic = self.bottleneck.encode(self.latents(self.semantic_features(whole)))
        return torch.cat([self.voice_codes(self.reference(audio)), semantic], dim=1)

    def _decode_full(self, codes: Tensor) -> Tensor:
        voice, semantic = codes.split([self.num_voice_tokens, codes.shape[1] - self.num_voice_tokens], dim=1)
        vector = self.speaker_encoder.voice(self.speaker_encoder.quantizer.decode(voice))
        return self.synthesize(self.bottleneck.decode(semantic), vector)[0]

    @property
    def frame_samples(self) -> int:
        """Samples that one frame of features needs."""
        settings = self._features().config
        steps = zip(settings.conv_kernel, settings.conv_stride, strict=True)
        samples, hop = 1, 1
        for kernel, stride in steps:
            samples, hop = samples + (kernel - 1) * hop, hop * stride
        return samples

    def _features(self) -> Wav2Vec2Model:
        if self.wav2vec2 is None:
            raise ValueError("this BiCodec has no wav2vec2 and only decodes; load it with features and wav2vec2=PATH")
        return self.wav2vec2
