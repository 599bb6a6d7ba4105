"""WavTokenizer: 24 kHz audio to one code of 4096, 40 or 75 times a second, and back by a Vocos decoder with attention.

Paper: arXiv 2408.16532. Original code: github.com/jishengpeng/WavTokenizer, MIT, with parts of EnCodec and Vocos (MIT).
Weights: MIT.

The decoder's group normalisation and attention see the whole clip, which official code therefore takes one at a time.
Here they skip what lies behind a row's end, so a batch of clips of different length decodes as each alone. It cannot
stream, and was trained on clips of 3 seconds: much longer ones lose quality.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from photophone.codecs.base import AudioCodec
from photophone.codecs.wavtokenizer.seanet import SEANetEncoder
from photophone.core.noise import Noise
from photophone.core.token_model import Reconstruction
from photophone.core.tokens import Tokens
from photophone.layers.istft import ISTFTHead
from photophone.layers.vocos_backbone import VocosBackbone
from photophone.loading.checkpoints import OriginalCheckpoint, State, fold_weight_norm, rename_keys
from photophone.quantizers.model import QuantizedModel
from photophone.quantizers.vq import VectorQuantizer

OF_TRANSFORMERS = (
    (r"^encoder_model\.encoder\.layers\.(\d+\.(?:.*\.)?)conv\.",
     r"feature_extractor.encodec.encoder.model.\1conv.conv."),
    (r"^encoder_model\.encoder\.layers\.", "feature_extractor.encodec.encoder.model."),
    (r"^encoder_model\.quantizer\.codebook\.", "feature_extractor.encodec.quantizer.vq.layers.0._codebook."),
    (r"^head\.linear\.", "head.out."))
"""Keys of transformers' WavTokenizerModel to the official ones."""
COMMITMENT = 1000.0
"""Weight of the quantizer's loss in training."""


class WavTokenizer(OriginalCheckpoint, QuantizedModel, AudioCodec):
    """Waveforms (B, 1, T) to codes (B, N), and back.

    Args:
        sample_rate: in Hz.
        encoder_channels, encoder_strides: see :class:`photophone.codecs.wavtokenizer.seanet.SEANetEncoder`; the order
            of the strides is that in which they run, the reverse of the official ``dowmsamples``.
        dim: channels of the features that are quantized.
        lstm_layers: of the encoder.
        num_codes: of the codebook.
        width, hidden, depth: of the decoder's backbone.
        num_conditions: of the backbone; the published weights have four that all were trained alike.
        commitment: weight of the quantizer's loss.
    """

    CONTAINERS = ("state_dict",)
    DROPPED_KEYS = ("feature_extractor.encodec.decoder.*", "head.istft.window", "multiperioddisc.*",
                    "multiresddisc.*", "dac.*", "dacdiscriminator.*", "melspec_loss.*")
    """A decoder that is never called, a constant, discriminators and losses."""

    trains = True
    decode_options = ("condition",)

    def __init__(self, sample_rate: int = 24000, encoder_channels: int = 32,
                 encoder_strides: list[int] = (4, 5, 5, 6), dim: int = 512, lstm_layers: int = 2,
                 num_codes: int = 4096, width: int = 768, hidden: int = 2304, depth: int = 12,
                 num_conditions: int = 4, synthesis_n_fft: int | None = None,
                 commitment: float = COMMITMENT) -> None:
        super().__init__()
        hop = math.prod(encoder_strides)
        self.encoder = SEANetEncoder(encoder_channels, encoder_strides, dim, lstm_layers)
        self.bottleneck = VectorQuantizer(dim, num_codes, ema_decay=0.99, kmeans_iterations=200, beta=commitment)
        self.backbone = VocosBackbone(dim, width, hidden, depth, num_conditions=num_conditions, attention=True)
        self.head = ISTFTHead(width, synthesis_n_fft or 4 * hop, hop, "same")

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys, or those of transformers, to ours: the encoder is one list of layers, three for each stage and
        four behind them."""
        state = rename_keys(state, OF_TRANSFORMERS)
        prefix = "feature_extractor.encodec.encoder.model."
        numbers = [int(key.removeprefix(prefix).partition(".")[0]) for key in state if key.startswith(prefix)]
        last = max(numbers, default=0)

        def layer(number: int) -> str:
            ends = {0: "encoder.conv_in", last: "encoder.conv_out", last - 2: "encoder"}  # "lstm." follows
            stage, kind = divmod(number - 1, 3)
            return ends.get(number) or f"encoder.{'downs' if kind else 'blocks'}.{stage}"

        book = r"^feature_extractor\.encodec\.quantizer\.vq\.layers\.0\._codebook\."
        state = rename_keys(state, [
            (r"^feature_extractor\.encodec\.encoder\.model\.(\d+)", lambda match: layer(int(match[1]))),
            (r"\.block\.1\.conv\.conv\.", ".conv_in."), (r"\.block\.3\.conv\.conv\.", ".conv_out."),
            (r"^(encoder.*)\.conv\.conv\.", r"\1."), (book + "embed$", "bottleneck.codebook"),
            (book + "embed_avg$", "bottleneck.code_sum"), (book + "cluster_size$", "bottleneck.cluster_size"),
            (book + "inited$", "bottleneck.initialized")])
        if "bottleneck.initialized" in state:
            state["bottleneck.initialized"] = state["bottleneck.initialized"].bool().reshape(())
        return fold_weight_norm(state)

    @property
    def hop_length(self) -> int:
        return self.encoder.hop_length

    def latents(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is quantized, (B, N, dim), of audio (B, 1, T)."""
        if lengths is None:
            lengths = torch.full((len(audio),), audio.shape[-1])
        return self.encoder(audio.to(self.dtype), lengths.to(audio.device)).transpose(1, 2)

    def synthesize(self, values: Tensor, mask: Tensor | None = None, condition: int = 0) -> Tensor:
        """Codewords (B, N, dim), of which ``mask`` (B, N) are valid, to audio float32 (B, 1, N * hop)."""
        told = torch.tensor([condition], device=values.device)
        x = self.backbone(values.transpose(1, 2).to(self.dtype), told, mask)
        return self.head(x, mask)[:, None]

    def forward(self, audio: Tensor, noise: Noise | None = None) -> Reconstruction:
        """One training pass of audio (B, 1, T), filled up to whole hops, under the first condition."""
        output = self.bottleneck(self.latents(audio), noise=noise)
        return Reconstruction(self.synthesize(output.values), output.loss, output.metrics, output.values)

    def _encode(self, audio: Tensor, lengths: Tensor | None) -> Tokens:
        """An unfinished last hop is mirrored."""
        return Tokens(self.bottleneck.encode(self.latents(audio, lengths)))

    def _decode(self, tokens: Tokens, condition: int = 0) -> Tensor:
        """``condition`` is that of :meth:`synthesize`; official inference has 0."""
        mask = None if tokens.lengths is None else tokens.mask
        return self.synthesize(self.bottleneck.decode(tokens.values), mask, condition)
