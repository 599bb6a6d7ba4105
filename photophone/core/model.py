"""What all models share: saving and strict loading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin

from photophone.core.files import saving_into


class Model(ModelMixin, ConfigMixin):
    """A :class:`diffusers.ModelMixin` that loads all of its weights or none.

    diffusers warns of missing weights and leaves random ones in their place; here they are an error.
    """

    config_name = "config.json"

    @classmethod
    def config_keys(cls) -> frozenset[str]:
        """Names of the constructor's arguments: the keys of a config of this class."""
        return frozenset(cls._get_init_keys(cls)) - {"self", "kwargs"}

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, **options: Any) -> Model:
        """Load a saved folder or a hub id.

        Args:
            name: path or hub id.
            options: as in diffusers; pickled weights are read with ``use_safetensors=False`` only.

        Raises:
            ValueError: weights are missing, left over, of another shape, or not finite.
            OSError: files are missing or damaged.
        """
        with_info = options.pop("output_loading_info", False)
        if options.get("use_safetensors") is None:
            options["use_safetensors"] = True
        model, info = super().from_pretrained(name, output_loading_info=True, **options)
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            if info.get(problem):
                raise ValueError(f"{name} does not hold the weights of {cls.__name__}; "
                                 f"{problem.replace('_', ' ')}: {', '.join(map(str, info[problem]))}")
        for key, weight in model.state_dict().items():
            if weight.is_floating_point() and not weight.is_meta and not torch.isfinite(weight).all():
                raise ValueError(f"{name}: {key} holds NaN or infinite values")
        align_weights(model)
        return (model, info) if with_info else model

    def save_pretrained(self, save_directory: str | os.PathLike, *arguments: Any, **options: Any) -> None:
        """Save config and weights into a folder, readable for all who may read new files; see diffusers for options.

        Raises:
            NoSpace: the disk is full.
        """
        with saving_into(save_directory):
            super().save_pretrained(save_directory, *arguments, **options)

    @property
    def published_name(self) -> str | None:
        """Hub id or built-in name of the weights; None for new models and for local folders, whose path means nothing
        elsewhere."""
        name = str(self.config.get("_name_or_path") or "")
        return name if name.count("/") == 1 and not name.startswith((".", "/")) and not Path(name).exists() else None


def align_weights(model: torch.nn.Module) -> None:
    """Copy weights that lie unaligned in a mapped file.

    The processor's kernels take another path for those, and the last bits of a result would depend on the file.
    """
    for weight in (*model.parameters(), *model.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % 64:
            weight.data = weight.data.clone()
