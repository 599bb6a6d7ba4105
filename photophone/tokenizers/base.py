"""The contract of image tokenizers."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from photophone.core.tokens import Tokens
from photophone.quantizers.model import QuantizedModel


class ImageTokenizer(QuantizedModel):
    """Images float ``(B, 3, H, W)`` in [-1, 1] to :class:`Tokens` and back.

    A family has an ``image_size`` in its config and a quantizer ``bottleneck``, which the properties below speak of,
    and implements :attr:`num_tokens`, :meth:`encode` and :meth:`decode`. Saving, loading and hub download come from
    :class:`photophone.core.model.Model`.
    """

    ENCODER_PARTS: ClassVar[tuple[str, ...]] = ("encoder", "to_latent", "bottleneck")
    """Beginnings of the names of all weights that tokens depend on."""
    LAST_LAYER: ClassVar[str] = "decoder.conv_out"
    """Name of the layer that draws the pixels."""

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.config.image_size

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """Tokens per image."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tokens:
        """Images (B, 3, H, W) in [-1, 1] to tokens."""

    @abstractmethod
    def decode(self, tokens: Tokens) -> Tensor:
        """Tokens to images (B, 3, H, W) in [-1, 1], clamped."""

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the layer that draws the pixels, where losses are weighed against each other (arXiv 2012.09841)."""
        return self.get_submodule(self.LAST_LAYER).weight

    def freeze_encoder(self) -> None:
        """Let training change the decoder alone, so that tokens stay as they are."""
        for name, weight in self.named_parameters():
            weight.requires_grad_(not name.startswith(self.ENCODER_PARTS))

    def check_images(self, images: Tensor) -> None:
        """Refuse what :meth:`encode` cannot read.

        Raises:
            ValueError: wrong shape, size, dtype, or values that are not finite or not in [-1, 1].
        """
        size = self.image_size
        if images.dim() != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(f"images must have shape (B, 3, {size}, {size}), got {tuple(images.shape)}; "
                             f"resize them to {size}x{size} RGB first")
        if not images.is_floating_point():
            raise ValueError(f"images must be float in [-1, 1], got {images.dtype}; use images / 127.5 - 1")
        if images.numel():
            low, high = torch.aminmax(images.detach())
            if not (low >= -1.001 and high <= 1.001):  # also false for NaN
                raise ValueError(f"images must lie in [-1, 1], got values from {low:.4g} to {high:.4g}")

    def check_tokens(self, tokens: Tokens) -> None:
        """Refuse tokens of another model, shape or kind, with codes outside the codebook, or with NaN or infinity.

        Raises:
            ValueError: names what was expected and what came.
        """
        values, own = tokens.values, self.published_name
        if own and tokens.model and tokens.model != own:
            raise ValueError(f"the tokens were made by {tokens.model}, they cannot be decoded by {own}")
        if self.codebook_size is None:
            expected = (self.num_tokens, self.token_dim)
            if not tokens.is_continuous or tuple(values.shape[1:]) != expected:
                raise ValueError(f"this tokenizer decodes float tokens (B, {expected[0]}, {expected[1]}), "
                                 f"got {values.dtype} {tuple(values.shape)}")
            if not torch.isfinite(values).all():
                raise ValueError("the tokens hold NaN or infinite values")
            return
        expected = (self.num_tokens,) if self.num_codebooks == 1 else (self.num_codebooks, self.num_tokens)
        if tokens.is_continuous or tuple(values.shape[1:]) != expected:
            raise ValueError(f"this tokenizer decodes Long tokens (B, {', '.join(map(str, expected))}), "
                             f"got {values.dtype} {tuple(values.shape)}")
        if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < self.codebook_size):
            raise ValueError(f"codes must lie in 0..{self.codebook_size - 1}, "
                             f"got {int(values.min())}..{int(values.max())}")
