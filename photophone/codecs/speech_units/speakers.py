"""Named speakers of a CosyVoice release: its ``spk2info.pt``, a table of names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

FILE, SAVED_FILE = "spk2info.pt", "speakers.safetensors"
FIELDS = ("vector", "text", "tokens", "mel")


@dataclass(frozen=True)
class NamedSpeaker:
    """A speaker, perhaps with a recording as the models read it.

    Attributes:
        vector: float (D,), of the network for vectors of speakers.
        text: Long (T,), ids of the words of the recording, or None.
        tokens: Long (P,), its speech tokens, or None.
        mel: float (G, mels), its frames, or None.
    """

    vector: Tensor
    text: Tensor | None = None
    tokens: Tensor | None = None
    mel: Tensor | None = None


class NamedSpeakers(Mapping[str, NamedSpeaker]):
    """Speakers by their names, in the order of the release.

    Args:
        speakers: names and speakers.

    Raises:
        ValueError: a speaker without a vector, or half a recording.
    """

    def __init__(self, speakers: Mapping[str, NamedSpeaker]) -> None:
        for name, speaker in speakers.items():
            if speaker.vector.ndim != 1 or not speaker.vector.is_floating_point() or not speaker.vector.any():
                raise ValueError(f"the vector of the speaker {name!r} must be float (D,), not all 0, got "
                                 f"{speaker.vector.dtype} {tuple(speaker.vector.shape)}")
            if (speaker.tokens is None) != (speaker.mel is None):
                raise ValueError(f"the speaker {name!r} has half a recording: speech tokens and frames belong together")
        self.speakers = dict(speakers)

    def __getitem__(self, name: str) -> NamedSpeaker:
        return self.speakers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.speakers)

    def __len__(self) -> int:
        return len(self.speakers)

    @classmethod
    def from_original(cls, path: str | Path) -> Self:
        """Those of a published file, read without running anything in it.

        An entry holds the ``embedding`` of a speaker, or all that the authors' ``add_zero_shot_spk`` keeps of a
        recording.

        Raises:
            ValueError: the file is missing or damaged, or an entry holds no vector.
        """
        from photophone.loading.files import read_content

        found = {}
        for name, entry in read_content(path).values.items():
            values = entry if isinstance(entry, Mapping) else {}
            tensors = {key: value for key, value in values.items() if isinstance(value, Tensor)}
            vector = next((tensors[key] for key in ("embedding", "flow_embedding", "llm_embedding") if key in tensors),
                          None)
            if vector is None:
                raise ValueError(f"{path} holds no vector of the speaker {name!r}: it must be a table of names, each "
                                 "with an 'embedding'")
            mel = tensors.get("prompt_speech_feat")
            found[str(name)] = NamedSpeaker(vector.flatten().float(), *(
                None if key not in tensors else tensors[key].flatten().long()
                for key in ("prompt_text", "flow_prompt_speech_token")),
                mel=None if mel is None else mel.float().reshape(-1, mel.shape[-1]))
        return cls(found)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """From a folder that :meth:`save_pretrained` wrote.

        Raises:
            ValueError: it holds none.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(folder) / SAVED_FILE
        try:
            with safe_open(path, "pt") as file:
                names = json.loads(file.metadata()["names"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return cls({name: NamedSpeaker(**{field: tensors[f"{index}.{field}"] for field in FIELDS
                                              if f"{index}.{field}" in tensors})
                        for index, name in enumerate(names)})
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} holds no named speakers: {error}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write one safetensors file into a folder."""
        from safetensors.torch import save_file

        tensors: dict[str, Any] = {}
        for index, speaker in enumerate(self.speakers.values()):
            tensors |= {f"{index}.{field}": value.detach().cpu().clone() for field in FIELDS
                        if (value := getattr(speaker, field)) is not None}
        tensors = tensors or {"none": torch.zeros(1)}  # a file must hold something
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(tensors, Path(folder) / SAVED_FILE, {"names": json.dumps(list(self.speakers))})
