"""Mel frames from a stream of speech tokens, without computing the past again.

CosyVoice 2 and 3: every layer keeps what it needs of the past, each solver step on its own, so a piece costs what its
own tokens cost, and attention what lies in its sight. With ``left_chunks`` the sight is the prompt and the last pieces:
cost and memory of a piece do not grow with the speech. The result equals ``generate(chunked=True)`` with the same
``left_chunks``; with ``left_chunks=None`` that is what the authors' streaming mode computes, from the beginning for
each piece.

CosyVoice 1 and GLM-4-Voice see whole clips. Their stream runs windows of new tokens after the prompt; neighbours share
noise and mean frames of their overlap and are cross-faded there. The cost of a window is constant, but the result
differs from that of the whole clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from photophone.core.noise import Noise
from photophone.generators.cosyvoice import LEFT_CHUNKS
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
from photophone.generators.cosyvoice.encoders import EDGE_TOKENS
from photophone.generators.cosyvoice.flow import CosyVoiceFlow
from photophone.heads.base import is_guided
from photophone.layers.streaming import StreamMemory

WINDOW_SECONDS = 2.0
"""New speech in a window of CosyVoice 1."""


@torch.no_grad()
def stream_mel(flow: CosyVoiceFlow, pieces: Iterable[Tensor], speaker: Tensor, prompt_tokens: Tensor | None = None,
               prompt_mel: Tensor | None = None, *, noise: Noise, sampler: FlowSampler | None = None
               ) -> Iterator[Tensor]:
    """Mel frames float32 (B, n, mel_dim) for pieces of speech tokens Long (B, k) of any length k.

    Args:
        flow: the model.
        pieces: tokens as they come; all rows are equally long.
        speaker, prompt_tokens, prompt_mel: of :class:`SpeechTokens`.
        noise: B rows.
        sampler: None: the defaults with ``left_chunks=LEFT_CHUNKS``. ``chunked`` goes without saying; with
            ``left_chunks=None`` the cost of a piece grows with the speech. CosyVoice 1 ignores both.

    Raises:
        ValueError: a version 2 or 3 that cannot stream, or shapes that do not fit.
    """
    sampler = FlowSampler(chunked=True, left_chunks=LEFT_CHUNKS) if sampler is None else sampler
    voice = SpeechTokens(torch.zeros(len(speaker), 1, dtype=torch.long), speaker, None, prompt_tokens, prompt_mel)
    flow.check_condition(voice)
    stream = _Pieces if flow.token_encoder.streams else _Windows
    yield from stream(flow, voice.to(flow.device).with_prompt(flow.config.mel_dim), noise, sampler).run(pieces)


class _Pieces:
    """A stream of CosyVoice 2 or 3."""

    def __init__(self, flow: CosyVoiceFlow, voice: SpeechTokens, noise: Noise, sampler: FlowSampler) -> None:
        self.flow, self.noise, self.sampler = flow, noise, sampler
        self.sights = flow.sights(voice.prompt_tokens.shape[1], True, sampler.left_chunks)
        self.speaker, self.prompt_mel = flow.speaker(voice.speaker), voice.prompt_mel.transpose(1, 2)
        rows = len(voice)
        self.encoder_past = StreamMemory(flow.token_encoder, rows)
        solved = 2 * rows if is_guided(sampler.guidance_scale) else rows
        self.solver_past = [StreamMemory(flow.velocity_net, solved) for _ in range(sampler.num_inference_steps)]
        self.waiting, self.frames = voice.prompt_tokens, 0
        self.known = voice.prompt_tokens.shape[1]  # tokens of the prompt that wait

    def run(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Frames behind the prompt."""
        step, ahead = self.flow.step_tokens, self.flow.token_encoder.ahead
        for piece in pieces:
            self.waiting = torch.cat([self.waiting, piece.to(self.waiting.device)], dim=1)
            ready = (self.waiting.shape[1] - ahead) // step * step
            if ready > self.known:  # the prompt alone makes no speech: it goes with the first piece that does
                yield from self._take(ready, self.waiting[:, ready:ready + ahead])
        if self.waiting.shape[1]:
            yield from self._take(self.waiting.shape[1], None)

    def _take(self, count: int, following: Tensor | None) -> Iterator[Tensor]:
        tokens, self.waiting = self.waiting[:, :count], self.waiting[:, count:]
        self.known = max(self.known - count, 0)
        with self.encoder_past.resume():
            mu = self.flow.encode(tokens, 0, 0, self.sights[0], following)
        size, first = mu.shape[-1], self.frames
        self.frames += size
        known = self.prompt_mel[:, :, first:self.frames]
        cond = F.pad(known, (0, size - known.shape[-1])).to(mu)
        start = self.sampler.temperature * self.flow.start(self.noise, len(tokens), size)
        mel = self.flow.solve(start, mu, self.speaker, cond, self.sights[1], sampler=self.sampler,
                              memories=self.solver_past)
        fresh = mel[:, :, known.shape[-1]:]
        if fresh.shape[-1]:
            yield fresh.transpose(1, 2)


class _Windows:
    """A stream of CosyVoice 1."""

    def __init__(self, flow: CosyVoiceFlow, voice: SpeechTokens, noise: Noise, sampler: FlowSampler) -> None:
        self.flow, self.noise, self.sampler = flow, noise, sampler
        self.speaker, self.voice = flow.speaker(voice.speaker), voice
        self.overlap = flow.frames(EDGE_TOKENS)
        self.shared: tuple[Tensor, Tensor] | None = None
        self.fading: Tensor | None = None

    def run(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Frames behind the prompt."""
        hop = max(int(WINDOW_SECONDS * self.flow.config.token_rate), EDGE_TOKENS + 1)
        waiting = self.voice.prompt_tokens[:, :0]
        for piece in pieces:
            waiting = torch.cat([waiting, piece.to(waiting.device)], dim=1)
            while waiting.shape[1] >= hop + EDGE_TOKENS:
                frames = self._window(waiting[:, :hop + EDGE_TOKENS])
                self.fading = frames[:, :, -self.overlap:]
                yield frames[:, :, :-self.overlap].transpose(1, 2)
                waiting = waiting[:, hop:]
        if waiting.shape[1]:
            yield self._window(waiting).transpose(1, 2)

    def _window(self, tokens: Tensor) -> Tensor:
        mel, self.shared = generate_window(self.flow, tokens, self.speaker, self.voice.prompt_tokens,
                                           self.voice.prompt_mel, self.noise, self.shared, sampler=self.sampler)
        if self.fading is not None:
            window = torch.hamming_window(2 * self.overlap, periodic=False).to(mel)
            size = min(self.overlap, mel.shape[-1])
            faded = mel[:, :, :size] * window[:size] + self.fading[:, :, :size] * window[self.overlap:][:size]
            mel = torch.cat([faded, mel[:, :, size:]], dim=2)
        return mel


def generate_window(flow: CosyVoiceFlow, tokens: Tensor, speaker: Tensor, prompt_tokens: Tensor, prompt_mel: Tensor,
                    noise: Noise, shared: tuple[Tensor, Tensor] | None = None, *, sampler: FlowSampler
                    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One window of CosyVoice 1: frames (B, mel_dim, F) of tokens after the prompt, and what the next window shares.

    Args:
        speaker: projected, of :meth:`CosyVoiceFlow.speaker`.
        shared: noise and mean frames (B, mel_dim, S) of the prompt and of the window before, at its end.
        sampler: its steps, guidance and temperature.
    """
    known = prompt_mel.shape[1]
    sight, _ = flow.sights(0, False)
    mu = flow.encode(torch.cat([prompt_tokens, tokens], dim=1), prompt_tokens.shape[1], known, sight)
    start = sampler.temperature * flow.start(noise, len(tokens), mu.shape[-1]).to(mu.device)
    if shared is not None:
        size = shared[0].shape[-1]
        start, mu = (torch.cat([old.to(new), new[:, :, size:]], dim=2)[:, :, :new.shape[-1]]
                     for old, new in zip(shared, (start, mu), strict=True))
    overlap = flow.frames(EDGE_TOKENS)
    shared = tuple(torch.cat([part[:, :, :known], part[:, :, -overlap:]], dim=2) for part in (start, mu))
    cond = F.pad(prompt_mel.transpose(1, 2), (0, mu.shape[-1] - known)).to(mu)
    mel = flow.solve(start, mu, speaker, cond, sight, sampler=sampler)
    return mel[:, :, known:], shared
