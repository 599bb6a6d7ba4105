"""The contract of enhancers: a noisy recording to a clean one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from photophone.core.model import Model
from photophone.core.threads import fitting_threads
from photophone.core.tokens import Tokens
from photophone.generators.base import LossOutput
from photophone.layers.rows import fill_up, map_equal_lengths

LEVEL = 0.05
"""Root mean square of the loud parts of a recording as enhancers hear it, in training as in use."""
FRAMES_A_SECOND = 100
"""Of most enhancers, for the choice of threads."""
Criterion = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""Named errors, scalars, of enhanced speech (B, 1, T) against clean speech (B, 1, T)."""


def squared_error(made: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """The simplest :data:`Criterion`."""
    return {"waveform": (made - clean).square().mean()}


class Enhancer(Model):
    """Noisy speech float (B, 1, T) at :attr:`sample_rate` to clean speech of the same length, without delay.

    A family implements :meth:`_enhance`, :attr:`sample_rate` and :attr:`reach`. One that is trained as a whole sets
    ``trains`` and has :meth:`loss`. Long recordings are enhanced in pieces: each is given ``reach`` samples more to
    both sides, and begins at a multiple of ``alignment``.

    Attributes:
        trains: True where :meth:`loss` is there.
        streams: True where ``stream(rows)`` is there: no output depends on what comes more than ``delay`` samples after
            it, see :class:`photophone.generators.enhancer.live.LiveEnhancer`.
        picks_tokens: True where tokens are drawn or picked on the way: a rounding may change one, and all that follows.
    """

    trains: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    picks_tokens: ClassVar[bool] = False

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Of what comes in and goes out, in Hz."""

    @property
    @abstractmethod
    def reach(self) -> int:
        """Samples before and after a piece of a long recording that must be heard too."""

    @property
    def alignment(self) -> int:
        """Pieces must begin at multiples of so many samples."""
        return 1

    @property
    def fade_seconds(self) -> float:
        """Over which neighbouring pieces are blended; 0 where pieces equal the whole."""
        return 0.0

    @torch.no_grad()
    def enhance(self, audio: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Clean speech float32 (B, 1, T) on the model's device.

        Args:
            audio: float (B, 1, T), on any device.
            lengths: Long (B,), valid samples of each row, which is enhanced as if it were alone; what lies behind is
                zero in the result. None: all.

        Raises:
            ValueError: see :meth:`check_audio`.
        """
        self.check_audio(audio, lengths)
        frames = len(audio) * audio.shape[-1] * FRAMES_A_SECOND // self.sample_rate
        with fitting_threads(self, frames, gives_way=not self.picks_tokens):
            return fill_up(map_equal_lengths(self._enhance, audio.to(self.device), lengths), audio.shape[-1])

    @abstractmethod
    def _enhance(self, audio: Tensor) -> Tensor:
        """:meth:`enhance` of the family: audio is checked, full and on the model's device, gradients are off."""

    def check_audio(self, audio: Tensor, lengths: Tensor | None = None) -> None:
        """Refuse what cannot be enhanced.

        Raises:
            ValueError: wrong shape or dtype, an empty batch, clip or row, or values that are not finite.
        """
        if audio.dim() != 3 or audio.shape[1] != 1 or not audio.numel():
            raise ValueError(f"audio must have shape (B, 1, T) with T > 0, got {tuple(audio.shape)}")
        if not audio.is_floating_point() or not torch.isfinite(audio).all():
            raise ValueError(f"audio must be finite floats, got {audio.dtype}"
                             + (" with NaN or infinite samples" if audio.is_floating_point() else ""))
        if lengths is None:
            return
        rows, size = len(audio), audio.shape[-1]
        if lengths.dtype != torch.long or tuple(lengths.shape) != (rows,) or not (
                1 <= int(lengths.min()) <= int(lengths.max()) <= size):
            raise ValueError(f"lengths must be Long ({rows},) of 1..{size}, got {lengths.dtype} {lengths.tolist()}")

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, noisy: Tensor, clean: Tensor, tokens: Tokens | None = None, *, criterion: Criterion = squared_error,
             weights: Mapping[str, float] | None = None) -> LossOutput:
        """The training pass.

        Args:
            noisy, clean: float (B, 1, T).
            tokens: of the clean speech, for families that predict them; None: they are not trained.
            criterion: errors of the enhanced speech.
            weights: of the errors by their names and of ``tokens``, the mean squared error of the normalised tokens;
                1 for what is not named.

        Raises:
            ValueError: the family is not trained as a whole.
        """
        raise ValueError(f"{type(self).__name__} is not trained as a whole")

    def forward(self, noisy: Tensor, clean: Tensor, tokens: Tokens | None = None, *,
                criterion: Criterion = squared_error, weights: Mapping[str, float] | None = None) -> LossOutput:
        """:meth:`loss`, under the name that wrappers for several devices call."""
        return self.loss(noisy, clean, tokens, criterion=criterion, weights=weights)

    def fit_statistics(self, tokens: Tokens) -> None:
        """Set what the model normalises its tokens by; most keep none."""

    # for tests and measurements ---------------------------------------------------------------------------------

    def example_audio(self, rows: int, seed: int = 0) -> Tensor:
        """Random audio (B, 1, T) on the CPU; rows differ."""
        generator = torch.Generator().manual_seed(seed)
        return LEVEL * torch.randn(rows, 1, self.sample_rate // 5 + 77, generator=generator)

    def example_tokens(self, audio: Tensor, seed: int = 0) -> Tokens | None:
        """Random clean tokens, as :meth:`loss` takes them beside audio (B, 1, T); None where the family has none."""
        return None


class ChainEnhancer(Enhancer):
    """An enhancer of several models, which its config describes: argument ``NAME_config`` for the part ``NAME``.

    It is not trained as a whole, and pieces of a long recording are not what the whole would be. Its config has
    ``sample_rate`` and ``context_seconds``, what a piece is given before and after.
    """

    picks_tokens = True

    @classmethod
    def join(cls, parts: Mapping[str, Model], **options: Any) -> Self:
        """Of models that are there, without copies.

        Args:
            parts: by their names.
            options: further arguments of the constructor.

        Raises:
            ValueError: sizes that do not fit each other.
        """
        configs = {f"{name}_config": {key: value for key, value in part.config.items() if not key.startswith("_")}
                   for name, part in parts.items()}
        with torch.device("meta"):
            model = cls(**configs, **options)
        for name, part in parts.items():
            setattr(model, name, part)
        return model.eval()

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def reach(self) -> int:
        return round(self.config.context_seconds * self.config.sample_rate)
