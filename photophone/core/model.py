"""What all models share: checked settings, saving and strict loading.

The contract is that of diffusers' ``ModelMixin`` and ``ConfigMixin``, with the same files, without importing diffusers:
that alone takes as long as importing torch.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from photophone.core.config import Config, build, checked_init
from photophone.core.files import saving_into
from photophone.core.hub import snapshot
from photophone.core.saved_model import WEIGHTS, check_saved, fitting, read_weights, settle_weights, weights_name
from photophone.core.threads import fitting_threads, threads_for


class Model(nn.Module):
    """A module whose ``config`` is the signature of its constructor, saved with its weights, and loaded whole or not.

    Arguments of the constructors of all subclasses are checked by :func:`photophone.core.config.check_config` and kept
    as ``config``.
    """

    config_name = "config.json"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in cls.__dict__:
            cls.__init__ = checked_init(cls.__dict__["__init__"])

    @property
    def config(self) -> Config:
        """The constructor's arguments, and what :meth:`register_to_config` added."""
        return self.__dict__["_config"]

    def register_to_config(self, **values: Any) -> None:
        """Replace or add values of the config; the model itself does not change."""
        self.__dict__["_config"] = Config({**self.config, **values})

    @classmethod
    def config_keys(cls) -> frozenset[str]:
        """Names of the constructor's arguments: the keys of a config of this class."""
        return frozenset(inspect.signature(cls.__init__).parameters) - {"self"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **overrides: Any) -> Self:
        """A model with random weights; ``overrides`` replace values of the config. Errors as in
        :func:`photophone.core.config.build`."""
        settings = {key: value for key, value in config.items() if not key.startswith("_")}
        return build(cls, settings | overrides)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike, *, subfolder: str | None = None,
                        dtype: torch.dtype | None = None, torch_dtype: torch.dtype | None = None,
                        variant: str | None = None, revision: str | None = None,
                        cache_dir: str | os.PathLike | None = None, token: str | bool | None = None,
                        force_download: bool = False, local_files_only: bool = False, **overrides: Any) -> Self:
        """A model of a saved folder or a hub id, in eval mode.

        Args:
            name: path or hub id.
            subfolder: of the folder or repository.
            dtype: of the floating point weights and buffers; None: float32.
            torch_dtype: diffusers' older name of ``dtype``.
            variant: part of the names of the files, such as "fp16".
            revision, cache_dir, token, force_download, local_files_only: of hub downloads.
            **overrides: replace values of the config.

        Raises:
            ValueError: weights are missing, left over, of another shape or kind, or not finite; a value of the config
                is of another type or outside its range. The message names the file, the key and the value.
            OSError: files are missing or damaged.
        """
        folder = Path(name)
        if not folder.is_dir():
            files = [f"{subfolder}/{file}" if subfolder else file for file in (cls.config_name, f"{WEIGHTS}*")]
            folder = snapshot(str(name), files, revision=revision, cache_dir=cache_dir, token=token,
                              force_download=force_download, local_files_only=local_files_only)
        folder /= subfolder or ""
        header = check_saved(cls, folder, overrides, variant)
        with threads_for(1):  # building a model is many small operations
            model = fitting(cls, folder, header, overrides)
        with fitting_threads(model, 1):
            model.load_state_dict(read_weights(folder, variant), strict=True, assign=True)
            settle_weights(model, dtype or torch_dtype or torch.float32, str(name))
        model.register_to_config(_name_or_path=str(name))
        return model.eval()

    def save_pretrained(self, save_directory: str | os.PathLike, *, variant: str | None = None,
                        max_shard_size: int | str = "10GB") -> None:
        """Save config and weights into a folder, readable for all who may read new files.

        Args:
            save_directory: the folder; files in it are replaced.
            variant: part of the names of the files, such as "fp16".
            max_shard_size: of one file, in bytes or as "5GB"; larger models are saved in several with an index.

        Raises:
            NoSpace: the disk is full.
        """
        from huggingface_hub import save_torch_state_dict

        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.detach().contiguous() for key, value in self.state_dict().items()}
        with saving_into(folder):
            self.save_config(folder)
            save_torch_state_dict(state, folder, filename_pattern=f"{weights_name(variant)}{{suffix}}.safetensors",
                                  max_shard_size=max_shard_size)

    def save_config(self, save_directory: str | os.PathLike) -> None:
        """Write the config into a folder."""
        settings = {**self.config, "_class_name": type(self).__name__}
        text = json.dumps(settings, indent=2, sort_keys=True)
        Path(save_directory, self.config_name).write_text(text + "\n", encoding="utf-8")

    @property
    def device(self) -> torch.device:
        """Where the weights lie; a model without any is on the CPU."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of the first floating point weight; float32 for a model without any."""
        tensors = chain(self.parameters(), self.buffers())
        return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Numbers in all parameters."""
        return sum(weight.numel() for weight in self.parameters() if weight.requires_grad or not only_trainable)

    @property
    def published_name(self) -> str | None:
        """Hub id or built-in name of the weights; None for new models and for local folders, whose path means nothing
        elsewhere."""
        name = str(self.config.get("_name_or_path") or "")
        return name if name.count("/") == 1 and not name.startswith((".", "/")) and not Path(name).exists() else None
