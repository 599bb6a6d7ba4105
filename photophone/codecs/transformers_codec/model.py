"""What transformers' ``AutoModelForAudioTokenization`` knows, as a codec of ours.

The networks are transformers' own; which of them a checkpoint holds, the ``model_type`` of its config says. Here they
read batches of rows of different length, each as if it were alone, give back whole hops, and load strictly. Codes are
of all codebooks that the model has.

Code: transformers, Apache-2.0. Weights: as the hub page of each model states.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from photophone.codecs.wrapped import WrappedCodec, to_books, to_values
from photophone.core.config import ModelTooLarge
from photophone.core.tokens import TokenFormat, Tokens
from photophone.core.weight_files import read_json_object
from photophone.layers.rows import fill_up, map_equal_lengths
from photophone.loading.checkpoints import State

NO_SETTINGS = ("model_type", "architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path",
               "auto_map", "_attn_implementation")
"""Entries of a config of transformers that say nothing of the network."""


@dataclass(frozen=True)
class Calls:
    """How a model of transformers is called, and what its config says.

    Args:
        encode: the model and audio (B, 1, n * hop) to codes (B, Q, N) or latents (B, N, D).
        decode: the model and such tokens to audio (B, 1, T).
        hop: of the config: samples that a token reads.
        token_format: of the config.
        rate: of the config, in Hz.
        made_rate, made_hop: of decoded audio; None where they are those that it reads.
        one_more: a clip of whole hops has a token more than it has hops.
    """

    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]
    hop: Callable[[Any], int]
    token_format: Callable[[Any], TokenFormat]
    rate: Callable[[Any], int] = lambda config: config.sampling_rate
    made_rate: Callable[[Any], int] | None = None
    made_hop: Callable[[Any], int] | None = None
    one_more: bool = False


def with_features(extractor: str) -> Callable[[Any, Tensor], Tensor]:
    """Encoding of a model that also reads features of w2v-bert, which a class of transformers computes."""
    def encode(model: Any, audio: Tensor) -> Tensor:
        import transformers

        hop = model.hop_length
        rate = getattr(model.config, "input_sampling_rate", None) or model.config.sampling_rate
        read = getattr(transformers, extractor)(sampling_rate=rate, hop_length=hop)
        inputs = read(list(audio[:, 0].float().cpu()), sampling_rate=rate, return_tensors="pt")
        given = {name: inputs[name].to(audio.device, model.dtype) for name in ("input_values", "input_features")}
        return model.encode(**given).audio_codes.long()

    return encode


def fsq(config: Any) -> TokenFormat:
    """One code of all levels."""
    return TokenFormat(codebook_size=math.prod(config.quantization_levels))


CALLS = {
    "dac": Calls(lambda model, audio: model.encode(audio).audio_codes,
                 lambda model, codes: model.decode(audio_codes=codes).audio_values[:, None],
                 lambda config: config.hop_length,
                 lambda config: TokenFormat(codebook_size=config.codebook_size, num_codebooks=config.n_codebooks)),
    "higgs_audio_v2_tokenizer": Calls(
        lambda model, audio: model.encode(audio).audio_codes, lambda model, codes: model.decode(codes).audio_values,
        lambda config: config.hop_length,
        lambda config: TokenFormat(codebook_size=config.codebook_size, num_codebooks=config.num_quantizers),
        rate=lambda config: config.sample_rate),
    "neucodec": Calls(
        with_features("NeuCodecFeatureExtractor"), lambda model, codes: model.decode(codes).audio_values,
        lambda config: config.encoder_hop_length, fsq, rate=lambda config: config.input_sampling_rate,
        made_rate=lambda config: config.output_sampling_rate, made_hop=lambda config: config.hop_length),
    "pocket_tts_audio_tokenizer": Calls(
        lambda model, audio: model.encode(audio).latents, lambda model, latents: model.decode(latents).audio_values,
        lambda config: config.frame_size, lambda config: TokenFormat(token_dim=config.latent_dim)),
    "vibevoice_acoustic_tokenizer": Calls(
        lambda model, audio: model.encode(audio, sample=False).latents,
        lambda model, latents: model.decode(latents).audio, lambda config: config.hop_length,
        lambda config: TokenFormat(token_dim=config.hidden_size), rate=lambda config: 24_000),  # not in its config
    "wavtokenizer": Calls(lambda model, audio: model.encode(audio).audio_codes,
                          lambda model, codes: model.decode(codes).audio_values, lambda config: config.hop_length,
                          lambda config: TokenFormat(codebook_size=config.codebook_size)),
    "xcodec2": Calls(with_features("Xcodec2FeatureExtractor"), lambda model, codes: model.decode(codes).audio_values,
                     lambda config: config.hop_length, fsq, one_more=True),
}
"""By ``model_type``: all that ``AutoModelForAudioTokenization`` of transformers 5.24 knows."""


def build_network(model_type: str, settings: dict[str, Any]) -> nn.Module:
    """The model of transformers.

    Raises:
        ValueError: an unknown type, one that the installed transformers does not have, or settings that it refuses.
    """
    from transformers import AutoConfig, AutoModelForAudioTokenization, __version__

    if model_type not in CALLS:
        raise ValueError(f"{model_type!r} is no audio tokenizer of transformers that is known here; known are "
                         f"{', '.join(CALLS)}")
    try:
        config = AutoConfig.for_model(model_type, **settings)
        return AutoModelForAudioTokenization.from_config(config)
    except ModelTooLarge:
        raise
    except (ValueError, KeyError, AttributeError, ImportError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"transformers {__version__} cannot build {model_type} with these settings: {first}; 5.24 "
                         "and later have all types") from error


class TransformersCodec(WrappedCodec):
    """Waveforms (B, 1, T) to codes (B, N) or (B, Q, N), or continuous tokens (B, N, D), and back.

    Args:
        model_type: a key of :data:`CALLS`.
        settings: arguments of the transformers config that differ from its defaults.

    Raises:
        ValueError: see :func:`build_network`.
    """

    def __init__(self, model_type: str, settings: dict | None = None) -> None:
        super().__init__()
        self.model = build_network(model_type, dict(settings or {}))
        self.calls = CALLS[model_type]

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """The model of a folder that transformers' ``save_pretrained`` wrote, in eval mode; loaded strictly.

        Raises:
            ValueError: a type that is not known, or weights that are missing or do not fit.
        """
        given = read_json_object(Path(folder) / "config.json")
        settings = {key: value for key, value in given.items() if key not in NO_SETTINGS}
        return cls.from_original(folder, model_type=given.get("model_type"), settings=settings)

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of transformers to ours."""
        return {key if key.startswith("model.") else f"model.{key}": value for key, value in state.items()}

    @property
    def sample_rate(self) -> int:
        return int(self.calls.rate(self.model.config))

    @property
    def output_sample_rate(self) -> int:
        made = self.calls.made_rate
        return self.sample_rate if made is None else int(made(self.model.config))

    @property
    def hop_length(self) -> int:
        return int(self.calls.hop(self.model.config))

    @property
    def made_hop(self) -> int:
        """Samples that a token decodes to."""
        made = self.calls.made_hop
        return self.hop_length if made is None else int(made(self.model.config))

    @property
    def token_format(self) -> TokenFormat:
        return self.calls.token_format(self.model.config)

    def token_lengths(self, lengths: Tensor) -> Tensor:
        return lengths // self.hop_length + 1 if self.calls.one_more else super().token_lengths(lengths)

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        return tokens.mask.sum(1) * self.made_hop

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        continuous = self.token_format.is_continuous

        def run(rows: Tensor) -> Tensor:
            rows = rows if self.calls.one_more else self.whole_hops(rows)
            made = self.calls.encode(self.model, rows.to(self.dtype))
            return made.float().transpose(1, 2) if continuous else to_values(made)

        made = map_equal_lengths(run, audio, lengths)
        return Tokens(made.transpose(1, 2).contiguous() if continuous else made)

    def _decode(self, tokens: Tokens) -> Tensor:
        def run(values: Tensor) -> Tensor:
            if tokens.is_continuous:
                return self.calls.decode(self.model, values.transpose(1, 2).to(self.dtype)).float()
            return self.calls.decode(self.model, to_books(values)).float()

        values = tokens.values.transpose(1, 2) if tokens.is_continuous else to_books(tokens.values)
        return fill_up(map_equal_lengths(run, values, tokens.lengths), tokens.num_tokens * self.made_hop)
