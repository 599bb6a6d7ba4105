"""The contract of generators."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from photophone.core.limits import MAX_TEMPERATURE
from photophone.core.model import Model
from photophone.core.tokens import Tokens


class Generator(Model):
    """Predicts tokens from a condition.

    ``forward`` is the training pass and returns the loss; ``generate`` samples. A causal family also has ``stream``,
    which yields tokens as they are made.

    Attributes:
        MAX_TEMPERATURE: the highest temperature that pipelines let users ask for.
    """

    MAX_TEMPERATURE: ClassVar[float] = MAX_TEMPERATURE

    @abstractmethod
    def generate(self, *condition, noise, callback=None, **options) -> Tokens:
        """Sample tokens for each row of the condition.

        Args:
            condition: what the family conditions on; the first axis is the batch.
            noise: a :class:`photophone.core.noise.Noise` with a row for each sample.
            callback: called as ``callback(step, total)`` after each step; a true result stops early.
        """
