"""HART's tokenizer: that of VAR, whose decoder also reads what the codes leave over.

Paper: arXiv 2410.10812. Official code: mit-han-lab/hart, MIT. Weights: as the code (MIT), none stated apart; trained on
OpenImages.
"""

from __future__ import annotations

from torch import Tensor

from photophone.core.noise import Noise
from photophone.core.tokens import Tokens
from photophone.loading.checkpoints import State, rename_keys
from photophone.quantizers.multi_scale import HybridMultiScaleVQ
from photophone.tokenizers.var_vq.model import VARTokenizer


class HARTTokenizer(VARTokenizer):
    """Images to continuous tokens (B, L, D): codes of the coarser scales as vectors, then the rest at full size.

    Args:
        image_size, channels, multipliers, blocks, token_width, num_codes, scales, latent_kernel, num_phis, phi_ratio,
            beta, cosine_search, attention, mid_attention: see :class:`VARTokenizer`.
        discrete_share: see :class:`photophone.quantizers.multi_scale.HybridMultiScaleVQ`.

    Raises:
        ValueError: for sizes that do not fit.
    """

    DROPPED_KEYS = ("disc.*",)  # the published file holds the discriminator too
    decode_options = ("residual",)

    def __init__(self, image_size: int = 1024, channels: int = 160, multipliers: list[int] = (1, 1, 2, 2, 4),
                 blocks: int = 2, token_width: int = 32, num_codes: int = 4096,
                 scales: list[int] = (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64), latent_kernel: int = 3,
                 num_phis: int = 4, phi_ratio: float = 0.5, beta: float = 0.25, cosine_search: bool = False,
                 attention: bool = True, mid_attention: bool = True, discrete_share: float = 0.5) -> None:
        super().__init__(image_size, channels, multipliers, blocks, token_width, num_codes, scales, latent_kernel,
                         num_phis, phi_ratio, beta, cosine_search, attention, mid_attention)
        self.bottleneck = HybridMultiScaleVQ(self.bottleneck, discrete_share)

    def _encode(self, images: Tensor, noise: Noise | None) -> Tokens:
        """There is nothing to draw: the values of a training pass are one grid, tokens are all scales."""
        return Tokens(self.bottleneck.encode(self.latents(images)))

    def _decode(self, tokens: Tokens, residual: bool = True) -> Tensor:
        """``residual`` False draws the codes alone, as the decoder learned to do too."""
        decode = self.bottleneck.decode if residual else self.bottleneck.decode_codes
        return self.reconstruct(decode(tokens.values).to(self.dtype))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Official keys to ours."""
        state = {key.removeprefix("vae."): value for key, value in state.items()}
        return rename_keys(VARTokenizer.convert_state_dict(state), [(r"^bottleneck\.", "bottleneck.codes.")])
