"""What the training loop trains: the contract of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn


class Task(ABC):
    """A model, its data and its loss.

    A task holds no state of the run. What changes from step to step comes as an argument, so a resumed run needs
    nothing of a task but its settings.

    Attributes:
        model: what is optimised, averaged and saved. The loop trains this very object, so a task may reach its parts
            through ``self.model`` at any time.
        num_examples: examples in an epoch.
    """

    model: nn.Module
    num_examples: int

    @abstractmethod
    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
        """Examples on the CPU: by name, tensors or what else has ``to(device)``, such as tokens and conditions.

        Args:
            indices: (B,) numbers of examples, from 0 to below ``num_examples``.
            rng: source of all draws of the augmentation.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: dict[str, Any], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch.

        Args:
            model: what to call: ``self.model``, which several processes wrap to sum their gradients.
            batch: of :meth:`batch`, on the model's device.
            step: optimizer steps done before this one, for schedules of loss weights.

        Returns:
            A scalar to minimise, and scalars to log.
        """

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Numbers of the averaged weights on held-apart data; none by default.

        Args:
            model: ``self.model`` in evaluation mode, with the averaged weights.
        """
        return {}

    def preview(self, model: nn.Module) -> Image.Image | None:
        """A picture of what the averaged weights do; none by default.

        Args:
            model: as in :meth:`validate`.
        """
        return None

    @abstractmethod
    def export(self, model: nn.Module, folder: Path) -> None:
        """Save the averaged weights in the form that pipelines load.

        Args:
            model: as in :meth:`validate`.
            folder: the run's ``export`` folder.
        """
