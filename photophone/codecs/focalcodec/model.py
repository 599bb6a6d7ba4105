"""FocalCodec: WavLM features, compressed by focal modulation to one binary code a frame, decoded by Vocos or WaveNeXt.

Papers: FocalCodec (arXiv 2502.04465), FocalCodec-Stream (2509.16195). Official code: lucadellalib/focalcodec,
Apache-2.0. Weights: Apache-2.0. The offline models see the whole clip (a mean over time, full attention), so long audio
cannot be cut without another result; the causal ones stream, in and out, in chunks of 80 ms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from photophone.codecs.base import AudioCodec
from photophone.codecs.focalcodec.focal import FocalDecoder, FocalEncoder
from photophone.codecs.focalcodec.semantic import WavLM
from photophone.core.tokens import Tokens
from photophone.layers.istft import ISTFTHead
from photophone.layers.lengths import length_mask
from photophone.layers.vocos_backbone import VocosBackbone
from photophone.loading.checkpoints import OriginalCheckpoint, State, rename_keys
from photophone.quantizers.binary import BSQ
from photophone.quantizers.model import QuantizedModel

OLD_STAGES = (r"^(compressor\.layers\.\d+)\.0\.", r"\1.downscale."), \
             (r"^(compressor\.layers\.\d+)\.1\.", r"\1.focal_block."), \
             (r"^(decompressor\.layers\.\d+)\.0\.", r"\1.focal_block."), \
             (r"^(decompressor\.layers\.\d+)\.1\.", r"\1.upscale.")
"""Names of release 0.0.1, in which the three offline models are published."""
VOCODER = ((r"^decoder\.backbone\.embedding\.", "vocoder.backbone.embed."),
           (r"^decoder\.backbone\.input_norm\.", "vocoder.backbone.norm."),
           (r"^decoder\.backbone\.layers\.", "vocoder.backbone.convnext."),
           (r"^decoder\.backbone\.output_norm\.", "vocoder.backbone.final_layer_norm."),
           (r"^decoder\.head\.proj\.", "vocoder.head.out."))


def _block(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`photophone.codecs.focalcodec.focal.FocalBlock` for official settings of a stack of them."""
    scale = settings.get("layerscale_init", 1e-4) if settings.get("use_layerscale") else None
    return {"window": settings.get("focal_window", 14), "levels": settings.get("focal_level", 2),
            "factor": settings.get("focal_factor", 4), "post_norm": settings.get("use_post_norm", False),
            "normalize": settings.get("normalize_modulator", False), "layer_scale": scale}


class WaveNeXtHead(nn.Module):
    """Each frame is the samples of one hop (WaveNeXt, ASRU 2023): (B, F, C) to float32 (B, F * hop)."""

    def __init__(self, width: int, hop_length: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, hop_length)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Samples, cut to [-1, 1]; ``mask`` is not needed."""
        return self.out(x).float().flatten(1).clamp(-1, 1)


class FocalCodec(OriginalCheckpoint, QuantizedModel, AudioCodec):
    """See the module; a tuple of stages has one value each.

    Args:
        sample_rate: in Hz of what :meth:`encode` reads; WavLM knows 16 kHz only.
        conv_dims, conv_kernels, conv_strides, width, hidden, depth, num_heads, num_buckets, max_distance, conv_pos,
            conv_pos_groups: of :class:`photophone.codecs.focalcodec.semantic.WavLM`.
        causal, attention_window, lookahead: of the same; the whole codec is causal then, and has a WaveNeXt vocoder.
        code_bits: bits of a token.
        compressor_dims, downscale_factors, decompressor_dims, upscale_factors: stages.
        focal_window, focal_levels, focal_factor, post_norm, normalize_modulator, layer_scale: of
            :class:`photophone.codecs.focalcodec.focal.FocalBlock`.
        compressor_span, decompressor_span, last_span: kernels of the widest causal contexts.
        vocoder_width, vocoder_hidden, vocoder_depth, vocoder_kernel, n_fft, vocoder_hop: of the vocoder; WaveNeXt has
            no n_fft.
        decompressor_block: arguments of :class:`photophone.codecs.focalcodec.focal.FocalDecoder` that differ from
            those of the compressor and of the encoder's look ahead; the published models have none.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    decode_options = ("voice", "neighbours")
    DROPPED_KEYS = ("encoder.encoder.norm.*", "quantizer.mask")  # of release 0.0.1, not used

    def __init__(self, sample_rate: int = 16000, conv_dims: Sequence[int] = (512,) * 7,
                 conv_kernels: Sequence[int] = (10, 3, 3, 3, 3, 2, 2), conv_strides: Sequence[int] = (5,) + (2,) * 6,
                 width: int = 1024, hidden: int = 4096, depth: int = 6, num_heads: int = 16, num_buckets: int = 320,
                 max_distance: int = 800, conv_pos: int = 128, conv_pos_groups: int = 16, causal: bool = False,
                 attention_window: int = 512, lookahead: int = 3, code_bits: int = 13,
                 compressor_dims: Sequence[int] = (1024, 512, 256), downscale_factors: Sequence[int] = (1, 1, 1),
                 decompressor_dims: Sequence[int] = (256, 512, 1024), upscale_factors: Sequence[int] = (1, 1, 1),
                 focal_window: int = 7, focal_levels: int = 2, focal_factor: int = 2, post_norm: bool = False,
                 normalize_modulator: bool = False, layer_scale: float | None = None, compressor_span: int = 512,
                 decompressor_span: int = 512, last_span: int = 512, vocoder_width: int = 512,
                 vocoder_hidden: int = 1536, vocoder_depth: int = 8, vocoder_kernel: int = 7, n_fft: int = 1024,
                 vocoder_hop: int = 320, decompressor_block: dict[str, Any] | None = None) -> None:
        super().__init__()
        block = {"causal": causal, "window": focal_window, "levels": focal_levels, "factor": focal_factor,
                 "post_norm": post_norm, "normalize": normalize_modulator, "layer_scale": layer_scale}
        self.encoder = WavLM(conv_dims, conv_kernels, conv_strides, width=width, hidden=hidden, depth=depth,
                             num_heads=num_heads, num_buckets=num_buckets, max_distance=max_distance,
                             conv_pos=conv_pos, conv_pos_groups=conv_pos_groups, causal=causal,
                             window=attention_window, lookahead=lookahead)
        self.compressor = FocalEncoder(width, code_bits, compressor_dims, downscale_factors, span=compressor_span,
                                       **block)
        self.bottleneck = BSQ(code_bits)
        self.decompressor = FocalDecoder(code_bits, width, decompressor_dims, upscale_factors, **{
            "chunk": 1 + lookahead if causal else 1, "span": decompressor_span, "last_span": last_span, **block,
            **(decompressor_block or {})})
        head = WaveNeXtHead(vocoder_width, vocoder_hop) if causal else \
            ISTFTHead(vocoder_width, n_fft, vocoder_hop, "same")
        self.vocoder = nn.ModuleDict({"backbone": VocosBackbone(width, vocoder_width, vocoder_hidden, vocoder_depth,
                                                                kernel_size=vocoder_kernel, causal=causal),
                                      "head": head})
        if math.prod(downscale_factors) != math.prod(upscale_factors):
            raise ValueError(f"downscale_factors {downscale_factors} and upscale_factors {upscale_factors} must "
                             "multiply to the same")
        if self.output_sample_rate * self.hop_length != self.sample_rate * self.samples_per_token:
            raise ValueError(f"vocoder_hop {vocoder_hop} does not make a whole output rate of {sample_rate} Hz in hops "
                             f"of {math.prod(conv_strides)}")

    @staticmethod
    def convert_config(official: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of this class for an official ``config.json``, whose missing values are those of release 0.0.2.

        Raises:
            ValueError: it names parts of another kind than the published models have.
        """
        encoder, compressor = official.get("encoder_config") or {}, official.get("compressor_config") or {}
        decompressor, decoder = official.get("decompressor_config") or {}, official.get("decoder_config") or {}
        causal = bool(encoder.get("causal", False))
        kinds = {"encoder_name": "WavLM", "compressor_name": "FocalEncoder", "decompressor_name": "FocalDecoder",
                 "quantizer_name": "BinarySphericalQuantizer", "decoder_name": "WaveNeXt" if causal else "Vocos"}
        for name, kind in kinds.items():
            if official.get(name, kind) != kind:
                raise ValueError(f"{name} is {official[name]!r}; the published models have {kind!r}")
        bits = (official.get("quantizer_config") or {}).get("codebook_size", 4096).bit_length() - 1
        vocoder = (1024, 2048, 480) if causal else (512, 1536, 320)
        config = {"causal": causal, "code_bits": bits, "vocoder_width": decoder.get("dim", vocoder[0]),
                  "vocoder_hidden": decoder.get("ffn_dim", vocoder[1]),
                  "vocoder_hop": decoder.get("hop_length", vocoder[2]),
                  "compressor_dims": compressor.get("hidden_dims", (1024,) * 3),
                  "decompressor_dims": decompressor.get("hidden_dims", (1024,) * 3)}
        down, up = _block(compressor), _block(decompressor)
        config |= {f"focal_{name}" if name in ("window", "levels", "factor") else name: value
                   for name, value in down.items() if name != "normalize"}
        config["normalize_modulator"] = down["normalize"]
        other = {name: value for name, value in up.items() if value != down[name]}
        if causal and decompressor.get("lookahead_size", 3) != encoder.get("lookahead_size", 3):
            other["chunk"] = 1 + decompressor.get("lookahead_size", 3)
        config["decompressor_block"] = other or None
        names = [(encoder, {"hidden_dims": "conv_dims", "kernel_sizes": "conv_kernels", "strides": "conv_strides",
                            "num_layers": "depth", "dim": "width", "ffn_dim": "hidden", "num_heads": "num_heads",
                            "num_buckets": "num_buckets", "max_distance": "max_distance", "conv_pos": "conv_pos",
                            "conv_pos_groups": "conv_pos_groups", "window_size": "attention_window",
                            "lookahead_size": "lookahead"}),
                 (compressor, {"downscale_factors": "downscale_factors", "window_size": "compressor_span"}),
                 (decompressor, {"upscale_factors": "upscale_factors", "window_size": "decompressor_span",
                                 "last_window_size": "last_span"}),
                 (decoder, {"num_layers": "vocoder_depth", "kernel_size": "vocoder_kernel", "n_fft": "n_fft"})]
        for part, table in names:
            config |= {ours: part[theirs] for theirs, ours in table.items() if theirs in part}
        return config

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys of releases 0.0.1 and 0.0.2 to ours; separate query, key and value layers are joined."""
        state = rename_keys(state, (*OLD_STAGES, *VOCODER))
        for key in [key for key in state if ".attention.q_proj." in key]:
            parts = [state.pop(re.sub(r"\.q_proj\.", f".{name}_proj.", key)) for name in "qkv"]
            state[key.replace(".q_proj.", ".qkv_proj.")] = torch.cat(parts)
        return state

    @property
    def streams(self) -> bool:
        """True for the causal models, whose :meth:`encode` goes on from call to call as well."""
        return self.config.causal

    @property
    def streams_encode(self) -> bool:
        return self.config.causal

    @property
    def stream_chunk(self) -> int:
        own = (self.config.decompressor_block or {}).get("chunk", 1 + self.config.lookahead)
        chunk = math.lcm(1 + self.config.lookahead, own) if self.config.causal else 1
        return chunk // math.gcd(chunk, math.prod(self.config.upscale_factors))

    @property
    def hop_length(self) -> int:
        return math.prod(self.config.conv_strides) * math.prod(self.config.downscale_factors)

    @property
    def samples_per_token(self) -> int:
        """Samples that a token decodes to, at :attr:`output_sample_rate`."""
        return self.config.vocoder_hop * math.prod(self.config.upscale_factors)

    @property
    def output_sample_rate(self) -> int:
        return self.sample_rate * self.samples_per_token // self.hop_length

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """As in the base for causal models; the others lose what the unpadded convolutions cut off, about a frame."""
        return self.compressor.frames(self.encoder.frames(lengths))

    def audio_lengths(self, tokens: Tokens) -> Tensor:
        return tokens.mask.sum(1) * self.samples_per_token

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        """Long (B, N). Within :meth:`streaming`, each call continues the last one, in steps of
        ``stream_chunk * hop_length`` samples; only the last may be shorter."""
        wave = self.whole_hops(audio, lengths) if self.config.causal else audio
        features = self.encoder(wave[:, 0].to(self.dtype), lengths)
        frames = None if lengths is None else self.encoder.frames(lengths)
        values = self.bottleneck.encode(self.compressor(features, frames))
        if lengths is not None:
            values = values.masked_fill(~length_mask(self.token_lengths(lengths), values.shape[1]), 0)
        return Tokens(values)

    @torch.no_grad()
    def features(self, tokens: Tokens) -> Tensor:
        """The WavLM features (B, F, width) that tokens stand for."""
        self.check_tokens(tokens)
        return self._features(tokens.to(self.device))

    def _features(self, tokens: Tokens) -> Tensor:
        return self.decompressor(self.bottleneck.decode(tokens.values).to(self.dtype), tokens.lengths)

    def vocode(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features (B, F, width) to audio float32 (B, 1, T); ``lengths`` Long (B,) in frames."""
        mask = None if lengths is None else length_mask(lengths, features.shape[1])
        frames = self.vocoder["backbone"](features.to(self.dtype).transpose(1, 2), mask=mask)
        return self.vocoder["head"](frames, mask)[:, None]

    def _decode(self, tokens: Tokens, voice: Tensor | None = None, neighbours: int = 4) -> Tensor:
        """Audio of tokens.

        Args:
            tokens: Long (B, N).
            voice: features (M, width) of another voice, see :meth:`features`; each frame becomes the mean of its
                nearest ones, which converts the voice.
            neighbours: how many.
        """
        features = self._features(tokens)
        if voice is not None:
            features = nearest(features, voice.to(features.device), neighbours).mean(2)
        lengths = None if tokens.lengths is None else tokens.lengths * math.prod(self.config.upscale_factors)
        return self.vocode(features, lengths)


def nearest(features: Tensor, voice: Tensor, neighbours: int) -> Tensor:
    """The rows of ``voice`` (M, C) most like each frame of (B, F, C) by cosine, most alike first: (B, F, k, C).

    Raises:
        ValueError: the voice has too few frames or another width.
    """
    if voice.dim() != 2 or voice.shape[1] != features.shape[2] or not 1 <= neighbours <= len(voice):
        raise ValueError(f"voice must be (M, {features.shape[2]}) with M >= neighbours >= 1, got "
                         f"{tuple(voice.shape)} and {neighbours} neighbours")
    likeness = functional.normalize(features, dim=-1) @ functional.normalize(voice, dim=-1).T  # (B, F, M)
    return voice[likeness.topk(neighbours, dim=-1).indices]
