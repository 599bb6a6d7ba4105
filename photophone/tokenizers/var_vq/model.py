"""VAR's tokenizer: an image as index maps from 1x1 to the full grid.

Paper: arXiv 2404.02905. Official code: FoundationVision/VAR, MIT. Weights: under the licence of the code, none
stated apart; trained on OpenImages. HART (2410.10812) extends the same network.
"""

from __future__ import annotations

from torch import nn

from photophone.layers.vqgan import Decoder, Encoder
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.multi_scale import MultiScaleVQ
from photophone.tokenizers.grid import GridTokenizer


class VARTokenizer(GridTokenizer):
    """Images to multi-scale residual codes: Long (B, L), the maps of all scales one after another.

    Args:
        image_size: pixels per side; the last scale times the stride.
        channels, multipliers, blocks: sizes of the encoder; see :class:`photophone.layers.vqgan.Encoder`. The decoder
            has one block more a level.
        token_width: width of a code and of the latents.
        num_codes: codes in the codebook.
        scales: sides of the index maps.
        latent_kernel: size of the convolutions around the codebook, odd.
        num_phis, phi_ratio, beta, cosine_search: see :class:`photophone.quantizers.multi_scale.MultiScaleVQ`.
        attention, mid_attention: at the coarsest level, and between the blocks after it.

    Raises:
        ValueError: for sizes that do not fit.
    """

    def __init__(self, image_size: int = 256, channels: int = 160, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, token_width: int = 32, num_codes: int = 4096,
                 scales: list[int] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), latent_kernel: int = 3, num_phis: int = 4,
                 phi_ratio: float = 0.5, beta: float = 0.25, cosine_search: bool = False, attention: bool = True,
                 mid_attention: bool = True) -> None:
        super().__init__()
        self.check_image_size()
        if self.grid_size != scales[-1]:
            raise ValueError(f"the last scale must be image_size / stride = {self.grid_size}, got {scales[-1]}")
        sizes = {"channels": channels, "multipliers": multipliers,
                 "attention_levels": (len(multipliers) - 1,) if attention else (),
                 "mid": ("block", "attention" if mid_attention else "none", "block")}
        self.encoder = Encoder(out_channels=token_width, blocks=blocks, **sizes)
        self.to_latent = nn.Conv2d(token_width, token_width, latent_kernel, padding=latent_kernel // 2)
        self.bottleneck = MultiScaleVQ(token_width, num_codes, scales, num_phis=num_phis, phi_ratio=phi_ratio,
                                       beta=beta, cosine_search=cosine_search)
        self.from_latent = nn.Conv2d(token_width, token_width, latent_kernel, padding=latent_kernel // 2)
        self.decoder = Decoder(in_channels=token_width, blocks=blocks + 1, **sizes)

    @property
    def num_tokens(self) -> int:
        return self.bottleneck.num_indices

    @property
    def crop_stride(self) -> None:
        """The scales fix the number of tokens."""
        return None

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours; the convolutions have another name for each way of sharing them."""
        return rename_keys(GridTokenizer.convert_state_dict(state), [
            (r"^quantize\.quant_resi\.qresi_ls\.(\d+)\.", r"bottleneck.phis.\1."),  # a few, shared
            (r"^quantize\.quant_resi\.qresi\.", "bottleneck.phis.0."),  # one for all scales
            (r"^quantize\.quant_resi\.(\d+)\.", r"bottleneck.phis.\1."),  # one a scale
            (r"^quantize\.ema_vocab_hit_SV$", "bottleneck.code_hits"),
        ])
