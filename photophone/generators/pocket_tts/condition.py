"""What Pocket TTS reads: a voice and a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from photophone.generators.speech_sequence import SpeechSequence


@dataclass(frozen=True)
class VoicedText(SpeechSequence):
    """A voice and a text, a position each frame and id; rows are padded on the left.

    Args:
        frames_after: Long (B,), frames that are kept from the end of the speech on; None: what the sampler says.
    """

    frames_after: Tensor | None = None

    def check(self, vocab_size: int, patch: tuple[int, int]) -> None:
        """As in the base, and positive ``frames_after``."""
        super().check(vocab_size, patch)
        after = self.frames_after
        if after is not None and (after.shape != self.text_ids.shape[:1] or after.dtype != torch.long
                                  or int(after.min()) < 1):
            raise ValueError(f"frames_after must be Long ({len(self)},) and at least 1, got {after.dtype} "
                             f"{after.tolist()}")
