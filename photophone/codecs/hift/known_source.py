"""HiFT from a source whose beginning is known: blocks of speech whose ends are heard again, as GLM-4-Voice streams."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from photophone.codecs.hift.model import HiFT
from photophone.core.noise import Noise


def vocoder_speech(vocoder: HiFT, noise: Noise) -> Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]:
    """The vocoder of :class:`photophone.generators.cosyvoice.block_stream.BlockSpeech`.

    Args:
        vocoder: the model.
        noise: of its source; each block draws anew.

    Returns:
        A function of frames (B, mel_dim, F) and of the first samples (B, 1, k) of their source, or None, to samples
        (B, F * hop) and their source (B, 1, F * hop).
    """
    def speak(mel: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
        rows, frames = len(mel), mel.shape[-1]
        begin = vocoder.source.begin(noise, rows)
        source, _ = vocoder.source(vocoder.pitch(mel), vocoder.source.draw(noise, rows, frames), begin)
        if known is not None:
            source = torch.cat([known, source[:, :, known.shape[-1]:]], dim=2)
        return vocoder.trunk(mel, source)[:, 0], source

    return speak
