"""What image tokenizers, audio codecs and vocoders share: they speak of their tokens, and check what they are given."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from photophone.core.model import Model
from photophone.core.tokens import TokenFormat, Tokens


@dataclass(frozen=True)
class Reconstruction:
    """What a training pass of a tokenizer or codec returns.

    Args:
        media: images (B, 3, H, W), not clamped, or audio (B, 1, T), made of the tokens; with its gradient. Audio begins
            where the input begins, and may be shorter than it.
        loss: scalar: what the model itself adds to the losses of the reconstruction, weighted; 0 where there is
            nothing.
        metrics: detached scalars for logs.
        values: what the decoder read, (B, N, D), with its gradient; None for models without a bottleneck.
    """

    media: Tensor
    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    values: Tensor | None = None


class TokenModel(Model):
    """A model that makes or reads :class:`Tokens`.

    Attributes:
        encode_options, decode_options: names of the further arguments that ``encode`` and ``decode`` take.
    """

    encode_options: ClassVar[tuple[str, ...]] = ()
    decode_options: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def token_format(self) -> TokenFormat:
        """What the tokens are like."""

    @property
    def token_dim(self) -> int | None:
        """Width of a continuous token, None for discrete tokens."""
        return self.token_format.token_dim

    @property
    def codebook_size(self) -> int | None:
        """Codes in a codebook, None for continuous tokens."""
        return self.token_format.codebook_size

    @property
    def num_codebooks(self) -> int:
        """Codes per token."""
        return self.token_format.num_codebooks

    def check_tokens(self, tokens: Tokens) -> None:
        """Refuse tokens of another model, shape or kind, with codes outside the codebook, or with NaN or infinity.

        Raises:
            ValueError: names what was expected and what came.
        """
        own = self.published_name
        if own and tokens.model and tokens.model != own:
            raise ValueError(f"the tokens were made by {tokens.model}, they cannot be decoded by {own}")
        self.token_format.check(tokens, self.fixed_length, f"this {type(self).__name__}")

    @property
    def fixed_length(self) -> int | None:
        """Tokens that every input has, where that is fixed."""
        return None

    def check_options(self, given: dict[str, Any], known: Iterable[str]) -> None:
        """Refuse arguments that the family does not take.

        Raises:
            TypeError: names them, and those that are known.
        """
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise TypeError(f"{type(self).__name__} takes no {', '.join(unknown)} here; "
                            f"its options are: {', '.join(known) or 'none'}")
