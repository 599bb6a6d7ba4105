"""Pretokenised examples for language models of speech: ids that are read, and tokens that are written.

A file is a ``.safetensors`` with ``ids`` int32, the ids of all examples one behind the other, ``tokens``, int32 or
float (M, D), the same of what is written, and ``id_offsets`` and ``token_offsets`` int64 (examples + 1). What the ids
and tokens are the model says: text and speech of CosyVoice, prompts and answers of Spark-TTS. Models that read the
vector of a speaker find it in ``speakers``, float (examples, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from photophone.core.files import atomic_write

NAMES = {"ids", "id_offsets", "tokens", "token_offsets"}


def write_examples(path: str | Path, ids: Sequence[Tensor], tokens: Sequence[Tensor],
                   speakers: Tensor | None = None) -> None:
    """Write a file atomically.

    Args:
        path: the ``.safetensors`` file.
        ids: Long (L,) of each example.
        tokens: Long (N,) or float (N, D) of each example.
        speakers: float (examples, D), or None.

    Raises:
        ValueError: no examples, or not as many ids as tokens or speakers.
    """
    if not ids or len(ids) != len(tokens) or (speakers is not None and len(speakers) != len(ids)):
        raise ValueError(f"{len(ids)} rows of ids, {len(tokens)} of tokens and "
                         f"{'no' if speakers is None else len(speakers)} speakers; every example needs its own")

    def offsets(rows: Sequence[Tensor]) -> Tensor:
        return torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)

    def joined(rows: Sequence[Tensor]) -> Tensor:
        values = torch.cat(list(rows))
        return values if values.is_floating_point() else values.int()

    tensors = {"ids": joined(ids), "id_offsets": offsets(ids), "tokens": joined(tokens),
               "token_offsets": offsets(tokens)}
    with atomic_write(path) as partial:
        save_file(tensors if speakers is None else {**tensors, "speakers": speakers.float().contiguous()}, partial)


class SpeechExamples:
    """One or more files in memory.

    Attributes:
        ids: Long (L,) of each example.
        tokens: Long (N,) or float (N, D) of each example.
        speakers: float (examples, D), or None where not all files have some.

    Raises:
        ValueError: a file that is missing, is of another kind, or contradicts itself.
    """

    def __init__(self, *paths: str | Path) -> None:
        self.ids: list[Tensor] = []
        self.tokens: list[Tensor] = []
        speakers = []
        for path in paths:
            try:
                tensors = load_file(path)
            except (OSError, SafetensorError) as error:
                raise ValueError(f"{path} is no file of examples: {error}") from error
            if set(tensors) - {"speakers"} != NAMES:
                raise ValueError(f"{path} holds {sorted(tensors)}; a file of examples holds {sorted(NAMES)}")
            ids = _rows(tensors["ids"], tensors["id_offsets"], path)
            tokens = _rows(tensors["tokens"], tensors["token_offsets"], path)
            speakers.append(tensors.get("speakers"))
            if len({len(ids), len(tokens), len(ids) if speakers[-1] is None else len(speakers[-1])}) > 1:
                raise ValueError(f"{path} has ids, tokens and speakers of different numbers of examples")
            self.ids += ids
            self.tokens += tokens
        self.speakers = None if any(rows is None for rows in speakers) else torch.cat(speakers)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Tensor:
        """Ids and tokens of each example together, Long (N,)."""
        return torch.tensor([len(ids) + len(tokens) for ids, tokens in zip(self.ids, self.tokens, strict=True)])


def _rows(values: Tensor, offsets: Tensor, path: str | Path) -> list[Tensor]:
    """The part of each example."""
    sizes = offsets.diff()
    if int(offsets[0]) or int(offsets[-1]) != len(values) or not len(sizes) or bool((sizes < 0).any()):
        raise ValueError(f"{path} is damaged: its offsets do not fit its values")
    values = values if values.is_floating_point() else values.long()
    return list(values.split(sizes.tolist()))


def groups_of_like_length(lengths: Tensor, most: int) -> list[np.ndarray]:
    """Numbers of examples in groups whose rows, padded to the longest, have at most ``most`` positions together.

    Args:
        lengths: Long (N,), positions of each example; one longer than ``most`` is a group of its own.
        most: positions of a group.
    """
    order, groups = lengths.argsort(stable=True).tolist(), []
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * int(lengths[index]) > most:
            groups.append(np.asarray(group))
            group = []
        group.append(index)
    return [*groups, np.asarray(group)]
