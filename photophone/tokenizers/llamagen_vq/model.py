"""LlamaGen's VQGAN: normalised codes of eight dimensions, found by cosine.

Paper: arXiv 2406.06525. Official code: FoundationVision/LlamaGen, MIT. Weights: under the licence of the
code, none stated apart; the class-conditional ones were trained on ImageNet, the text-conditional ones on LAION-COCO
and internal pictures. NAR (2503.10696) and others use the same files.
"""

from __future__ import annotations

from torch import nn

from photophone.layers.vqgan import Decoder, Encoder
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.grid import GridTokenizer


class LlamaGenVQ(GridTokenizer):
    """Images to a grid of codes; the published weights serve any size that is a multiple of the stride.

    Args:
        image_size: pixels per side.
        channels, multipliers, blocks: sizes of the encoder; see :class:`photophone.layers.vqgan.Encoder`. The decoder
            has one block more a level. Attention stands at the coarsest level of both.
        decoder_multipliers: where the decoder's differ.
        z_channels: width between the networks and the 1x1 convolutions around the codebook.
        token_width: width of a code.
        num_codes: codes in the codebook.
        l2_norm: tokens and codes are unit vectors.
        commitment, entropy_weight: of the loss; see :class:`photophone.quantizers.vq.VectorQuantizer`.

    Raises:
        ValueError: for sizes that do not fit.
    """

    CONTAINERS = ("model",)
    DROPPED_KEYS = ("quantize.codebook_used",)  # which codes the last training batches used: a display

    def __init__(self, image_size: int = 256, channels: int = 128, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, decoder_multipliers: list[int] | None = None, z_channels: int = 256,
                 token_width: int = 8, num_codes: int = 16384, l2_norm: bool = True, commitment: float = 0.25,
                 entropy_weight: float = 0.0) -> None:
        super().__init__()
        self.check_image_size()
        decoder_multipliers = multipliers if decoder_multipliers is None else decoder_multipliers
        if len(decoder_multipliers) != len(multipliers):
            raise ValueError(f"encoder and decoder need as many levels, got {multipliers} and {decoder_multipliers}")
        coarsest = (len(multipliers) - 1,)
        self.encoder = Encoder(out_channels=z_channels, channels=channels, multipliers=multipliers, blocks=blocks,
                               attention_levels=coarsest)
        self.to_latent = nn.Conv2d(z_channels, token_width, 1)
        self.bottleneck = VectorQuantizer(token_width, num_codes, l2_norm=l2_norm, beta=commitment,
                                          entropy_weight=entropy_weight, entropy_eps=1e-5)
        self.from_latent = nn.Conv2d(token_width, z_channels, 1)
        self.decoder = Decoder(in_channels=z_channels, channels=channels, multipliers=decoder_multipliers,
                               blocks=blocks + 1, attention_levels=coarsest)
