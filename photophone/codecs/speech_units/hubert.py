"""HuBERT (arXiv 2106.07447) with k-means: the units of VoxInstruct and of many others.

The network is that of transformers, Apache-2.0; weights of facebook/hubert-base-ls960: Apache-2.0. The centres are
published with fairseq as a pickled estimator of scikit-learn, which is not opened here: its centres must be saved as
numbers once, see :meth:`HubertUnits.from_original`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from photophone.codecs.speech_units.base import SpeechUnits
from photophone.kernels.vq import nearest_code
from photophone.loading.checkpoints import WEIGHT_NORM, OriginalCheckpoint, State, content_of, read_state, rename_keys

HOW = ("save its centres once, where scikit-learn and joblib are installed: python -c \"import joblib, numpy; "
       "numpy.save('km500.npy', joblib.load('hubert_base_ls960_L9_km500.bin').cluster_centers_)\"")
FAIRSEQ = [(r"^layer_norm\.", "feature_projection.layer_norm."), (r"^post_extract_proj\.",
                                                                     "feature_projection.projection."),
           (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
           (r"^(feature_extractor\.conv_layers\.\d+)\.2\.", r"\1.layer_norm."),
           (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
           (r"\.self_attn_layer_norm\.", ".layer_norm."), (r"\.self_attn\.", ".attention."),
           (r"\.fc1\.", ".feed_forward.intermediate_dense."), (r"\.fc2\.", ".feed_forward.output_dense.")]
"""Names of the file hubert_base_ls960.pt."""


class HubertUnits(OriginalCheckpoint, SpeechUnits):
    """Speech (B, 1, T) at 16 kHz to units Long (B, N), 50 a second, repeats among them.

    Args:
        layer: whose states are compared with the centres; layers behind it are not loaded.
        num_codes: centres.
        settings: arguments of transformers' HubertConfig that differ from its defaults.
    """

    OTHER = "VoxInstructAR"
    CONTAINERS = ("model",)
    DROPPED_KEYS = ("masked_spec_embed", "hubert.masked_spec_embed", "mask_emb", "final_proj.*", "label_embs_concat")
    """Of the training."""

    def __init__(self, layer: int = 9, num_codes: int = 500, settings: dict | None = None) -> None:
        from transformers import HubertConfig, HubertModel  # seconds, so not before it is needed

        super().__init__()
        config = HubertConfig(**{**(settings or {}), "num_hidden_layers": layer, "mask_time_prob": 0.0})
        self.hubert = HubertModel(config)
        self.register_buffer("centres", torch.randn(num_codes, config.hidden_size))

    @staticmethod
    def convert_state_dict(state: State) -> State:
        """Keys of the hub or of fairseq, and the centres, to ours."""
        return rename_keys(state, [*FAIRSEQ, *WEIGHT_NORM, (r"^(?!hubert\.|centres$)", "hubert.")])

    @classmethod
    def prepare_state_dict(cls, state: State, config: Mapping[str, Any]) -> State:
        """Official tensors to ours, without the layers that are not run."""
        layer = config.get("layer", 9)
        kept = {key: value for key, value in state.items() if _number(key) < layer}
        return cls.convert_state_dict(kept)

    @classmethod
    def from_original(cls, source: str | Path | Mapping[str, Any], *, kmeans: str | Path | Mapping | None = None,
                      take: str | None = None, **config: Any) -> Self:
        """The model with the weights of both files.

        Args:
            source: ``pytorch_model.bin`` of facebook/hubert-base-ls960, or ``hubert_base_ls960.pt`` of fairseq, or
                their content.
            kmeans: the centres, float (num_codes, width), in an ``.npy`` file, or alone in a safetensors or torch file.
            take: as in the base.
            **config: of the constructor.

        Raises:
            ValueError: a file is refused or does not fit, or there are no centres.
        """
        if kmeans is None:
            raise ValueError(f"units need the centres of k-means: kmeans=PATH. {HOW[0].upper()}{HOW[1:]}")
        return cls.load_content(source, content_of(source), take, config, {"centres": read_centres(kmeans)})

    @property
    def hop_length(self) -> int:
        return int(np.prod(self.hubert.config.conv_stride))

    @property
    def num_units(self) -> int:
        return self.config.num_codes

    @property
    def least_samples(self) -> int:
        """Of one frame."""
        size = 1
        for kernel, stride in zip(self.hubert.config.conv_kernel[::-1], self.hubert.config.conv_stride[::-1]):
            size = (size - 1) * stride + kernel
        return size

    def token_lengths(self, lengths: Tensor) -> Tensor:
        lengths = lengths.clamp(min=self.least_samples)
        for kernel, stride in zip(self.hubert.config.conv_kernel, self.hubert.config.conv_stride):
            lengths = (lengths - kernel) // stride + 1
        return lengths

    def units(self, audio: Tensor) -> Tensor:
        """Clips float (B, T) to units Long (B, N)."""
        states = self.hubert(audio.to(self.dtype)).last_hidden_state
        return nearest_code(states.flatten(0, 1).float(), self.centres.float()).view(states.shape[:2])


def _number(key: str) -> int:
    """The layer of the transformer that a key is of; -1 for others."""
    parts = key.split(".")
    place = parts.index("layers") + 1 if "layers" in parts else len(parts)
    return int(parts[place]) if place < len(parts) and parts[place].isdigit() and "encoder" in parts[:place] else -1


def read_centres(source: str | Path | Mapping[str, Any]) -> Tensor:
    """Centres float (K, C) of an ``.npy`` file, or of a table with a single tensor.

    Raises:
        ValueError: no such file, or another content.
    """
    if isinstance(source, Mapping):
        tables = [torch.as_tensor(value) for value in source.values()]
    elif not Path(source).is_file():
        raise ValueError(f"no such file of centres: {source}")
    elif Path(source).suffix == ".npy":
        try:
            tables = [torch.from_numpy(np.load(source, allow_pickle=False))]
        except (ValueError, TypeError, EOFError) as error:
            raise ValueError(f"{source} holds no array of numbers: {error}") from error
    elif Path(source).suffix in (".bin", ".km", ".joblib", ".pkl"):
        raise ValueError(f"{source} is an estimator, and opening one runs what it holds; {HOW}")
    else:
        tables = list(read_state(source).values())
    if len(tables) != 1 or tables[0].ndim != 2 or not tables[0].is_floating_point():
        raise ValueError("centres must be one float array (K, C); got "
                         f"{', '.join(f'{table.dtype} {tuple(table.shape)}' for table in tables[:3]) or 'nothing'}")
    return tables[0].float()
