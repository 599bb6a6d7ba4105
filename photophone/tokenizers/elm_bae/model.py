"""ELM's binary autoencoder: every cell of an image becomes bits that are drawn from learned probabilities.

Paper: "Elucidating the design space of language models for image generation" (arXiv 2410.16257). Official code:
Pepper-lll/LMforImageGeneration, without a licence: this is an implementation of its own. Weights: none stated; trained
on ImageNet.
"""

from __future__ import annotations

from torch import Tensor, nn

from photophone.layers.vqgan import BlockStyle, Decoder, Encoder
from photophone.loading.checkpoints import State
from photophone.quantizers.bernoulli import BernoulliQuantizer
from photophone.tokenizers.elm_bae.keys import convert_flat_keys
from photophone.tokenizers.grid import GridTokenizer

STYLE = BlockStyle(final_activation=False)


class BinaryAutoencoder(GridTokenizer):
    """Images to a grid of bits; the network itself works on pixels in [0, 1].

    Args:
        image_size: pixels per side; the network takes any multiple of its stride.
        channels, multipliers, blocks: sizes of the encoder; see :class:`photophone.layers.vqgan.Encoder`.
        decoder_blocks: the decoder's blocks of each level, where they differ from that.
        latent_width: width of the features around the bits.
        bits: of a cell.
        num_codebooks: codes of a cell, which share its bits.
        attention_levels: levels with attention.
        norm_first: a normalisation in front of the decoder.
        deterministic: bits are never drawn, in training neither.
        code_weight: see :class:`photophone.quantizers.bernoulli.BernoulliQuantizer`.

    Raises:
        ValueError: for sizes that do not fit.
    """

    def __init__(self, image_size: int = 256, channels: int = 128, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, decoder_blocks: int | None = None, latent_width: int = 256, bits: int = 16,
                 num_codebooks: int = 1, attention_levels: list[int] = (4,), norm_first: bool = True,
                 deterministic: bool = False, code_weight: float = 0.0) -> None:
        super().__init__()
        self.check_image_size()
        sizes = {"channels": channels, "multipliers": multipliers, "attention_levels": attention_levels,
                 "style": STYLE}
        self.encoder = Encoder(out_channels=latent_width, blocks=blocks, **sizes)
        self.to_latent = nn.Identity()
        self.bottleneck = BernoulliQuantizer(latent_width, bits, num_codebooks, deterministic=deterministic,
                                             code_weight=code_weight)
        self.from_latent = STYLE.norm(latent_width) if norm_first else nn.Identity()
        self.decoder = Decoder(in_channels=latent_width, blocks=blocks if decoder_blocks is None else decoder_blocks,
                               **sizes)

    def encode_grid(self, images: Tensor) -> Tensor:
        return super().encode_grid((images + 1) / 2)

    def decode_grid(self, values: Tensor) -> Tensor:
        return super().decode_grid(values) * 2 - 1

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; see :func:`photophone.tokenizers.elm_bae.keys.convert_flat_keys`."""
        return convert_flat_keys(state)
