"""X-Codec 2: one FSQ code of 65,536 at 50 Hz from w2v-bert features and a convolutional encoder.

Paper: Llasa (arXiv 2502.04128). Official code: zhenye234/X-Codec-2.0, MIT. Weights: HKUSTAudio/xcodec2, CC BY-NC 4.0
as its hub page said. The network is transformers' ``Xcodec2Model``; here it takes batches, and the three formats that
weights are published in: the Lightning checkpoint, the safetensors of the wheel, transformers' own. Group norms and
attention without positions see the whole clip, so rows of different length are computed one by one, and long audio
cannot be cut without another result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from photophone.codecs.base import AudioCodec
from photophone.core.tokens import TokenFormat, Tokens
from photophone.layers.rows import fill_up, map_equal_lengths
from photophone.loading.checkpoints import (
    OriginalCheckpoint,
    State,
    content_of,
    fold_weight_norm,
    read_state,
    rename_keys,
)

ENCODERS = ("semantic_encoder", "semantic_adapter", "acoustic_encoder", "fc_encoder")
"""Parts that only encoding needs."""
UNITS = r"^CodecEnc\.conv_blocks\.(\d+)\.block\."
RULES: tuple[tuple[str, Any], ...] = (
    (r"^CodecEnc\.conv_blocks\.0\.", "acoustic_encoder.conv1."),
    (UNITS + r"([012])\.block\.([02])\.act\.", lambda m: _unit(m) + f"snake{int(m[3]) // 2 + 1}.act."),
    (UNITS + r"([012])\.block\.([13])\.", lambda m: _unit(m) + f"conv{int(m[3]) // 2 + 1}."),
    (UNITS + r"3\.act\.", lambda m: f"acoustic_encoder.block.{int(m[1]) - 1}.snake1.act."),
    (UNITS + r"4\.", lambda m: f"acoustic_encoder.block.{int(m[1]) - 1}.conv1."),
    (r"^CodecEnc\.conv_final_block\.0\.act\.", "acoustic_encoder.snake1.act."),
    (r"^CodecEnc\.conv_final_block\.1\.", "acoustic_encoder.conv2."),
    (r"(\.act)\.bias$", r"\1.beta"),
    (r"^SemanticEncoder_module\.initial_conv\.", "semantic_adapter.conv1."),
    (r"^SemanticEncoder_module\.residual_blocks\.1\.", "semantic_adapter.conv2."),
    (r"^SemanticEncoder_module\.residual_blocks\.3\.", "semantic_adapter.conv3."),
    (r"^SemanticEncoder_module\.final_conv\.", "semantic_adapter.conv4."),
    (r"^semantic_model\.", "semantic_encoder."),
    (r"^fc_prior\.", "fc_encoder."),
    (r"^fc_post_a\.", "acoustic_decoder.fc."),
    (r"^generator\.quantizer\.", "quantizer."),
    (r"^generator\.head\.out\.", "acoustic_decoder.head.linear."),
    (r"^generator\.backbone\.final_layer_norm\.", "acoustic_decoder.norm."),
    (r"^generator\.backbone\.transformers\.", "acoustic_decoder.layers."),
    (r"^generator\.backbone\.", "acoustic_decoder."),
    (r"\.att\.c_proj\.", ".self_attn.o_proj."),
    (r"\.att\.c_attn\.", ".self_attn.c_attn."),
    (r"\.att_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
    (r"^", "codec."))


def _unit(match) -> str:
    return f"acoustic_encoder.block.{int(match[1]) - 1}.res_unit{int(match[2]) + 1}."


def half_split(weight: Tensor, num_heads: int) -> Tensor:
    """Rows of a query or key layer (heads * D, C), from rotary pairs (0, 1), (2, 3), … to pairs (0, D/2), (1, …)."""
    heads = weight.unflatten(0, (num_heads, -1, 2))  # (heads, D / 2, 2, C)
    return heads.transpose(1, 2).flatten(0, 2)


class XCodec2(OriginalCheckpoint, AudioCodec):
    """See the module.

    Args:
        sample_rate: in Hz.
        width, hidden, depth, num_heads, head_width: of the decoder's transformer.
        encoder_width, ratios: of the convolutional encoder; the product of the ratios is the hop.
        levels: of the quantizer.
        semantic: arguments of transformers' ``Wav2Vec2BertConfig``; None for w2v-bert 2.0, cut to its 16 layers.
        decodes_only: without both encoders.
    """

    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("*.upsample.filter", "*.downsample.lowpass.filter", "generator.head.istft.window",  # computed
                    "fc_post_s.*", "SemanticDecoder_module.*", "discriminator.*", "spec_discriminator.*",  # training
                    "semantic_model.encoder.layers.1[6-9].*", "semantic_model.encoder.layers.2[0-3].*")  # not reached

    def __init__(self, sample_rate: int = 16000, width: int = 1024, hidden: int = 4096, depth: int = 12,
                 num_heads: int = 16, head_width: int = 64, encoder_width: int = 48,
                 ratios: Sequence[int] = (2, 2, 4, 4, 5), levels: Sequence[int] = (4,) * 8,
                 semantic: dict[str, Any] | None = None, decodes_only: bool = False) -> None:
        super().__init__()
        from transformers import Xcodec2Config, Xcodec2Model
        parts = {"num_hidden_layers": 16, **(semantic or {}), "model_type": "wav2vec2-bert"}
        parts |= {"num_hidden_layers": 0} if decodes_only else {}
        self.codec = Xcodec2Model(Xcodec2Config(
            hidden_size=width, intermediate_size=hidden, num_hidden_layers=depth, num_attention_heads=num_heads,
            num_key_value_heads=num_heads, head_dim=head_width, encoder_hidden_size=encoder_width,
            downsampling_ratios=list(ratios), semantic_model_config=parts, sampling_rate=sample_rate,
            quantization_dim=width + parts.get("hidden_size", 1024), quantization_levels=list(levels)))
        if decodes_only:
            for name in ENCODERS:
                delattr(self.codec, name)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        head = self.codec.acoustic_decoder.head
        if head.window.dtype != torch.float32 and not head.window.is_meta:  # a window in bfloat16 would be audible
            head.window = torch.hann_window(head.n_fft, device=head.window.device)
        return self

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *,
                      w2v_bert: str | Path | Mapping[str, Any] | None = None, take: str | None = None,
                      **config: Any) -> Self:
        """As in the base.

        Args:
            source: weights in any of the three formats.
            w2v_bert: the weights of facebook/w2v-bert-2.0, for checkpoints that leave them out.
            take: as in the base.
            **config: of the constructor.
        """
        beside = {} if w2v_bert is None else \
            {f"semantic_model.{key}": value for key, value in read_state(w2v_bert).items()}
        return cls.load_content(source, content_of(source), take, config, beside)

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        state = cls.convert_state_dict(state, config.get("num_heads", 16))
        if config.get("decodes_only"):
            parts = tuple(f"codec.{name}." for name in ENCODERS)
            state = {key: value for key, value in state.items() if not key.startswith(parts)}
        return state

    @staticmethod
    def convert_state_dict(state: State, num_heads: int = 16) -> State:
        """Keys of any of the three formats to ours: weight norms are folded, fused layers split, rotary pairs moved."""
        if all(key.startswith("codec.") for key in state):
            return dict(state)
        if not any(key.startswith("generator.") for key in state):  # transformers' own
            return {f"codec.{key}": value for key, value in state.items()}
        state = fold_weight_norm(rename_keys(state, RULES))
        for key in [key for key in state if ".c_attn." in key]:
            query, third, value = state.pop(key).chunk(3)
            parts = {"q": half_split(query, num_heads), "k": half_split(third, num_heads), "v": value}
            state |= {key.replace("c_attn", f"{name}_proj"): part for name, part in parts.items()}
        return state

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.ratios)

    @property
    def token_format(self) -> TokenFormat:
        return TokenFormat(codebook_size=math.prod(self.config.levels))

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """A clip of whole hops gets one token more, as in the official code."""
        return lengths // self.hop_length + 1

    def check_audio(self, audio: Tensor, lengths: Tensor | None = None) -> None:
        """As in the base; a model that only decodes reads none."""
        if self.config.decodes_only:
            raise ValueError("this X-Codec 2 only decodes; load it with decodes_only=False to encode")
        super().check_audio(audio, lengths)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        return Tokens(map_equal_lengths(self._encode_equal, audio, lengths))

    def _decode(self, tokens: Tokens) -> Tensor:
        audio = map_equal_lengths(self._decode_equal, tokens.values[:, None], tokens.lengths)
        return fill_up(audio, tokens.num_tokens * self.hop_length)

    def _decode_equal(self, codes: Tensor) -> Tensor:
        return self.codec.decode(codes).audio_values.float()

    def quantize(self, audio: Tensor, semantic: Tensor) -> Tensor:
        """Codes Long (B, N) of audio (B, 1, N * hop) and features (B, N, C) of w2v-bert's layer 16."""
        features = self.codec.semantic_adapter(semantic.transpose(1, 2))
        joined = torch.cat([features, self.codec.acoustic_encoder(audio)], dim=1).transpose(1, 2)
        return self.codec.quantizer(self.codec.fc_encoder(joined))[1][..., 0].long()

    def _encode_equal(self, audio: Tensor) -> Tensor:
        from transformers import Xcodec2FeatureExtractor
        extractor = Xcodec2FeatureExtractor(sampling_rate=self.sample_rate, hop_length=self.hop_length)
        inputs = extractor(list(audio[:, 0].float().cpu()), sampling_rate=self.sample_rate, return_tensors="pt")
        features = inputs["input_features"].to(audio.device, self.dtype)
        semantic = self.codec.semantic_encoder(features).last_hidden_state
        return self.quantize(inputs["input_values"].to(audio.device, self.dtype), semantic)
