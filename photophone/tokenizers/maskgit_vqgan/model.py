"""MaskGIT-VQGAN: the PyTorch port of MaskGIT's tokenizer, without attention.

Papers: MaskGIT (arXiv 2202.04200); the port serves TiTok (2406.07550) as teacher and pixel decoder, and RAR
(2411.00776). Official code: bytedance/1d-tokenizer, Apache-2.0. Weights: Apache-2.0 in the hub repository, trained on
ImageNet and meant for research.
"""

from __future__ import annotations

from torch import Tensor, nn

from photophone.layers.vqgan import BlockStyle, Decoder, Encoder
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.grid import GridTokenizer


def maskgit_style(residual_drops_input: bool) -> BlockStyle:
    """Blocks of this family: no biases. Its "SAME" padding is that of any odd kernel of stride 1."""
    return BlockStyle(conv_bias=False, residual_drops_input=residual_drops_input)


class MaskGITVQGAN(GridTokenizer):
    """Images to a grid of codes; the network itself works on pixels in [0, 1].

    Args:
        image_size: pixels per side; the network takes any multiple of its stride.
        channels, multipliers, blocks: sizes of encoder and decoder; see :class:`photophone.layers.vqgan.Encoder`.
            ``blocks`` is also the number of blocks at the coarsest size, unless ``mid_blocks`` is given.
        token_width: width of a code.
        num_codes: codes in the codebook.
        residual_drops_input: see :class:`photophone.layers.vqgan.BlockStyle`; the published weights need True.
        commitment: weight of the encoder's part of the loss.
        mid_blocks: see above.

    Raises:
        ValueError: for sizes that do not fit.
    """

    def __init__(self, image_size: int = 256, channels: int = 128, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, token_width: int = 256, num_codes: int = 1024, residual_drops_input: bool = True,
                 commitment: float = 0.25, mid_blocks: int | None = None) -> None:
        super().__init__()
        self.check_image_size()
        sizes = {"channels": channels, "multipliers": multipliers, "blocks": blocks,
                 "mid": ("block",) * (blocks if mid_blocks is None else mid_blocks),
                 "style": maskgit_style(residual_drops_input)}
        self.encoder = Encoder(out_channels=token_width, downsample="pool", in_bias=False, out_kernel=1, **sizes)
        self.to_latent = nn.Identity()
        self.bottleneck = VectorQuantizer(token_width, num_codes, beta=commitment)
        self.from_latent = nn.Identity()
        self.decoder = Decoder(in_channels=token_width, **sizes)

    def encode_grid(self, images: Tensor) -> Tensor:
        return super().encode_grid((images + 1) / 2)

    def decode_grid(self, values: Tensor) -> Tensor:
        return super().decode_grid(values) * 2 - 1
