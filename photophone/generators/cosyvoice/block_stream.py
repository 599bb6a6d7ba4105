"""Speech from a stream of tokens as GLM-4-Voice's authors make it: block by block, each after all that came before.

Paper: GLM-4-Voice (arXiv 2412.02612); origin: github.com/zai-org/GLM-4-Voice, ``flow_inference.py``, Apache-2.0.

A block is made with all earlier tokens and their frames as its prompt, so its cost grows with the speech; windows of
constant cost are in :mod:`photophone.generators.cosyvoice.stream`. Neighbours are cross-faded over the frames of
``FADE_TOKENS`` tokens, which are held back until the next block is there. The frame before a block goes through the
vocoder once more and stays among the frames of the prompt, so these are neither as many as their tokens make nor free
of doubles: that is what the published voice was heard with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from photophone.core.noise import Noise
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
from photophone.generators.cosyvoice.flow import CosyVoiceFlow

FADE_TOKENS = 5
Speak = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""Frames (B, mel_dim, F), and the first samples (B, 1, k) of their source if known, to samples (B, F * hop) and their
source (B, 1, F * hop)."""


class BlockSpeech:
    """One stream.

    Args:
        flow: with the "blocks" encoder.
        speak: the vocoder.
        speaker: float (B, speaker_dim); the released pipeline gives zeros.
        noise: of the flow; None: its own.
        sampler: of the flow; None: its defaults.
    """

    def __init__(self, flow: CosyVoiceFlow, speak: Speak, speaker: Tensor, *, noise: Noise | None = None,
                 sampler: FlowSampler | None = None) -> None:
        self.flow, self.speak, self.speaker = flow, speak, speaker
        self.noise = flow.own_noise() if noise is None else noise
        self.sampler = FlowSampler() if sampler is None else sampler
        self.fade = flow.frames(FADE_TOKENS)
        self.window = torch.hamming_window(2 * self.fade, periodic=False)
        rows = len(speaker)
        self.tokens = torch.zeros(rows, 0, dtype=torch.long)
        self.mel = torch.zeros(rows, 0, flow.config.mel_dim)
        self.held: Tensor | None = None
        self.frame: Tensor | None = None
        self.source: Tensor | None = None

    @torch.no_grad()
    def push(self, tokens: Tensor, last: bool = False) -> tuple[Tensor, Tensor]:
        """Samples (B, k) and the frames (B, mel_dim, F) that they were made of.

        Args:
            tokens: Long (B, n); all but the last block must have more frames than are held back.
            last: nothing follows.

        Raises:
            ValueError: a block that is too short, or as :meth:`CosyVoiceFlow.generate`.
        """
        tokens = tokens.to(self.tokens)
        if not last and not len(self.mel[0]) and self.flow.frames(tokens.shape[1]) <= self.fade:
            raise ValueError(f"the first block must have more than {FADE_TOKENS} tokens, got {tokens.shape[1]}")
        condition = SpeechTokens(tokens, self.speaker, None, self.tokens, self.mel)
        mel = self.flow.generate(condition, noise=self.noise, sampler=self.sampler).values.transpose(1, 2)
        self.tokens = torch.cat([self.tokens, tokens], dim=1)
        if self.held is not None:
            window = self.window.to(mel)
            faded = mel[:, :, :self.fade] * window[:self.fade] + self.held * window[self.fade:]
            mel = torch.cat([self.frame, faded, mel[:, :, self.fade:]], dim=2)
        if not last:
            self.held, mel = mel[:, :, -self.fade:], mel[:, :, :-self.fade]
        audio, source = self.speak(mel, self.source)
        if not last:
            hop = source.shape[-1] // mel.shape[-1]
            self.frame, self.source, audio = mel[:, :, -1:], source[:, :, -hop:], audio[:, :-hop]
        self.mel = torch.cat([self.mel, mel.transpose(1, 2).to(self.mel)], dim=1)
        return audio, mel

    def run(self, pieces: Iterable[Tensor], block: int) -> Iterator[Tensor]:
        """Samples (B, k) of pieces of tokens Long (B, n) of any length, in blocks of ``block`` tokens."""
        waiting: Tensor | None = None
        for tokens in blocks_of(pieces, block):
            if waiting is not None:
                yield self.push(waiting)[0]
            waiting = tokens
        if waiting is not None:
            yield self.push(waiting, last=True)[0]


def blocks_of(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Pieces (B, n) cut anew into blocks of ``size``; the last may be shorter."""
    waiting: Tensor | None = None
    for piece in pieces:
        waiting = piece if waiting is None else torch.cat([waiting, piece], dim=1)
        while waiting.shape[1] >= size:
            yield waiting[:, :size]
            waiting = waiting[:, size:]
    if waiting is not None and waiting.shape[1]:
        yield waiting
