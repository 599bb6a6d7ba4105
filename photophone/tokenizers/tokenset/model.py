"""TokenSet's tokenizer: an image as a set of codes, which the decoder reads in any order.

Paper: "Tokenize Image as a Set" (arXiv 2503.16425). Official code: Gengzigang/TokenSet, MIT; parts derive from TiTok.
Weights: under the licence of the code, none stated apart; trained on ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from photophone.layers.latent_vit import LatentDecoder, LatentEncoder, start_seeing
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.layers.vqgan import BlockStyle, Decoder
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.vq import VectorQuantizer
from photophone.tokenizers.grid import to_grid
from photophone.tokenizers.latent import LatentTokenizer, grid_side

BASE = (768, 12, 12)
PIXEL_DECODER = {"channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "token_width": 256}
"""The decoder of MaskGIT-VQGAN."""
STYLE = BlockStyle(conv_bias=False, residual_drops_input=True)
HEADS = ("to_latent.weight", "to_cells.0.weight", "to_cells.2.weight")
"""Layers that are 1x1 convolutions in the official code."""


class SetTokenizer(LatentTokenizer):
    """Images to N codes without positions; the networks work on pixels in [0, 1].

    Args:
        image_size: pixels per side.
        num_tokens: codes N.
        token_width, num_codes: of the codebook; tokens and codes are unit vectors.
        encoder_size, decoder_size: width, blocks and heads.
        encoder_patch, decoder_patch: pixels per side of a patch, and of a cell of the decoder.
        pixel_decoder: sizes of the network that draws pixels of cells, as PIXEL_DECODER.
        commitment: weight of the encoder's part of the loss.

    Raises:
        ValueError: for sizes that do not fit each other.
    """

    LAST_LAYER = "pixel_network.conv_out"
    DROPPED_KEYS = ("pixel_encoder.*", "pixel_quantize.*")  # a teacher that only the training has

    def __init__(self, image_size: int = 256, num_tokens: int = 128, token_width: int = 12, num_codes: int = 4096,
                 encoder_size: Sequence[int] = BASE, decoder_size: Sequence[int] = BASE, encoder_patch: int = 16,
                 decoder_patch: int = 16, pixel_decoder: dict[str, Any] = PIXEL_DECODER,
                 commitment: float = 0.25) -> None:
        super().__init__()
        options = {"num_latents": num_tokens, "norm_in": True, "feed_forward": "gelu", "latent_positions": False}
        self.encoder = LatentEncoder(*encoder_size, patch=encoder_patch, **options,
                                     grid=grid_side(image_size, encoder_patch, "encoder_patch"))
        self.to_latent = nn.Linear(encoder_size[0], token_width)
        self.bottleneck = VectorQuantizer(token_width, num_codes, l2_norm=True, beta=commitment)
        self.from_latent = nn.Linear(token_width, decoder_size[0])
        self.decoder = LatentDecoder(*decoder_size, grid=grid_side(image_size, decoder_patch, "decoder_patch"),
                                     **options)
        width, cells = decoder_size[0], pixel_decoder["token_width"]
        self.to_cells = nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, cells))
        self.pixel_network = Decoder(in_channels=cells, channels=pixel_decoder["channels"], style=STYLE,
                                     multipliers=pixel_decoder["multipliers"], blocks=pixel_decoder["blocks"],
                                     mid=("block",) * pixel_decoder["blocks"])
        start_seeing(self.encoder, self.decoder)

    def latents(self, images: Tensor) -> Tensor:
        x = self.encoder((images + 1) / 2)  # (B, N, W), which the official code reads as (W, N): weights depend on it
        return self.to_latent(x.reshape(len(x), x.shape[2], x.shape[1]).transpose(1, 2))

    def cells(self, values: Tensor) -> Tensor:
        """Values of the bottleneck (B, N, D), in any order, to what the pixel network reads, (B, C, h, w)."""
        side = self.decoder.grid
        return to_grid(self.to_cells(self.decoder(self.from_latent(values))), (side, side))

    def reconstruct(self, values: Tensor) -> Tensor:
        return self.pixel_network(self.cells(values)) * 2 - 1

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        pixel = {key: value for key, value in state.items() if key.startswith("pixel_decoder.")}
        rest = {key: value for key, value in state.items() if key not in pixel}
        made = convert_vit_keys(drop_leading_axes(rest, ("mask_token",))) | convert_vqgan_keys(pixel)
        made = rename_keys(made, [
            (r"^latent_tokens$", "encoder.latent_tokens"), (r"\.class_embedding$", ".class_token"),
            (r"\.positional_embedding$", ".positions"), (r"\.transformer\.(\d)", r".blocks.\1"),
            (r"\.ln_pre\.", ".norm_in."), (r"\.ln_post\.", ".norm_out."), (r"^encoder\.conv_out\.", "to_latent."),
            (r"^decoder\.decoder_embed\.", "from_latent."), (r"^decoder\.ffn\.", "to_cells."),
            (r"^quantize\.embedding\.weight$", "bottleneck.codebook"), (r"^pixel_decoder\.", "pixel_network.")])
        return {key: value.flatten(1) if key in HEADS else value for key, value in made.items()}
