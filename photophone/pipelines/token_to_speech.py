"""Speech tokens, a prompt and a speaker to speech: the second half of CosyVoice 1, 2 and 3, and of GLM-4-Voice.

``stream`` makes speech while tokens still come. For versions 2 and 3 nothing is computed twice but the few frames
around a seam of the vocoder, and with a limited sight the cost of a chunk does not depend on what came before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from photophone.codecs.hift.model import HiFT
from photophone.core.noise import Noise, SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.cosyvoice import LEFT_CHUNKS
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
from photophone.generators.cosyvoice.flow import CosyVoiceFlow
from photophone.generators.cosyvoice.stream import stream_mel
from photophone.loading.chains import check_chain, find_sources
from photophone.loading.registry import load_original
from photophone.pipelines.base import GeneratorInput, Pipeline, StepCallback, row_generators
from photophone.pipelines.speech_output import SpeechChunk, SpeechOutput


class TokenToSpeechPipeline(Pipeline):
    """Tokens of a speech language model to speech.

    Args:
        flow: tokens to mel frames.
        vocoder: mel frames to samples.
        published: ``model`` (registry name) and ``revision`` of published weights; it brings their sampler settings.

    Raises:
        ValueError: they do not speak of the same mel bands.
    """

    def __init__(self, flow: CosyVoiceFlow, vocoder: HiFT, published: dict[str, str | None] | None = None) -> None:
        super().__init__()
        if flow.config.mel_dim != vocoder.config.num_mels:
            raise ValueError(f"the flow makes {flow.config.mel_dim} mel bands, the vocoder reads "
                             f"{vocoder.config.num_mels}")
        self.register_modules(flow=flow, vocoder=vocoder)
        self.register_to_config(published=published)

    @classmethod
    def from_original(cls, name: str, folder: str | Path | None = None, *, revision: str | None = None,
                      cache_dir: str | Path | None = None, local_files_only: bool = False,
                      flow_config: dict[str, Any] | None = None, vocoder_config: dict[str, Any] | None = None,
                      **files: Any) -> Self:
        """A published flow with its vocoder, from official checkpoints.

        Args:
            name: of the flow in the registry, such as "cosyvoice2-0.5b-flow".
            folder: the published folder or a hub id, for what ``files`` does not name; None: the registry's hub id.
            revision, cache_dir, local_files_only: of hub downloads.
            flow_config, vocoder_config: replace settings of the registry's entries.
            **files: checkpoints, ``flow`` and ``hift``; see :meth:`photophone.ClassToImagePipeline.from_original`.

        Raises:
            ValueError: an unknown name, or one for another pipeline; files that are missing or do not fit.
        """
        chain = check_chain(cls.__name__, name, files)
        sources, commit = find_sources(chain, files, folder, revision=revision, cache_dir=cache_dir,
                                       local_files_only=local_files_only)
        return cls(load_original(name, sources["flow"], **(flow_config or {})),
                   load_original(chain.tokenizer[1], sources["hift"], **(vocoder_config or {})),
                   published={"model": name, "revision": commit})

    @property
    def sample_rate(self) -> int:
        """Of the speech, in Hz."""
        return self.vocoder.sample_rate

    @torch.no_grad()
    def __call__(self, tokens: Tensor | Tokens, speaker: Tensor, prompt_tokens: Tensor | None = None,
                 prompt_mel: Tensor | None = None, *, generator: GeneratorInput = None,
                 num_inference_steps: int | None = None, guidance_scale: float | None = None,
                 temperature: float | None = None, chunked: bool = False, left_chunks: int | None = None,
                 callback_on_step_end: StepCallback | None = None, return_dict: bool = True) -> SpeechOutput | tuple:
        """Speak.

        Args:
            tokens: speech tokens, Long (B, N) or Tokens with lengths.
            speaker, prompt_tokens, prompt_mel: of :class:`photophone.generators.cosyvoice.condition.SpeechTokens`.
            generator: one ``torch.Generator``, or one for each row. Without one, CosyVoice 2 and 3 and
                GLM-4-Voice start from their fixed noise, and all rows from the seed 0 of the vocoder; CosyVoice 1 draws
                seeds.
            num_inference_steps, guidance_scale, temperature: of the sampler; None is the published setting.
            chunked, left_chunks: see :class:`photophone.generators.cosyvoice.condition.FlowSampler`.
            callback_on_step_end: ``callback(pipeline, step, total, {})`` after each solver step.
            return_dict: False gives a tuple with the speech alone.

        Raises:
            ValueError: an argument outside its limits, or shapes that do not fit.
            DecodingStopped: the callback set ``_interrupt``.
        """
        tokens = tokens if isinstance(tokens, Tokens) else Tokens(tokens)
        condition = SpeechTokens(tokens.values, speaker, tokens.lengths, prompt_tokens, prompt_mel)
        sampler = self.sampler(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
                               temperature=temperature, chunked=chunked, left_chunks=left_chunks)
        noise, source_noise, seeds = self._noise(generator, len(tokens))
        with self.watch(callback_on_step_end) as on_step:
            frames = self.flow.generate(condition, noise=noise, sampler=sampler, callback=on_step)
        audio = self.vocoder.decode(frames, noise=source_noise)
        made = [row[0, :length].float().cpu().numpy()
                for row, length in zip(audio, self.vocoder.audio_lengths(frames).tolist(), strict=True)]
        if not return_dict:
            return (made,)
        settings = {**sampler.settings(), "left_chunks": left_chunks, "fixed_noise": source_noise is None}
        return SpeechOutput(made, self.sample_rate, [""] * len(tokens), seeds, settings=settings, **self.source,
                            weights_licence=self.weights_licence)

    def stream(self, pieces: Iterable[Tensor], speaker: Tensor, prompt_tokens: Tensor | None = None,
               prompt_mel: Tensor | None = None, *, generator: torch.Generator | None = None,
               num_inference_steps: int | None = None, guidance_scale: float | None = None,
               temperature: float | None = None, left_chunks: int | None = LEFT_CHUNKS) -> Iterator[SpeechChunk]:
        """Speak while tokens still come; the arguments are checked at once.

        The chunks together equal a call of the same seed with ``chunked=True`` and these ``left_chunks`` for CosyVoice
        2 and 3. A chunk comes when its tokens and those of the look ahead have come, and ``vocoder.delay`` frames
        later.

        Args:
            pieces: tokens Long (1, n) as they come.
            speaker, prompt_tokens, prompt_mel: one row, see :meth:`__call__`.
            generator, num_inference_steps, guidance_scale, temperature: see :meth:`__call__`.
            left_chunks: pieces before its own that a frame sees beside the prompt; None: all, at a cost that grows.
                CosyVoice 1 and GLM-4-Voice ignore it; for the blocks of the latter see
                :mod:`photophone.generators.cosyvoice.block_stream`.

        Raises:
            ValueError: several rows, or as :meth:`__call__`.
        """
        if len(speaker) != 1:
            raise ValueError(f"a stream speaks one row, got {len(speaker)} speakers")
        sampler = self.sampler(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
                               temperature=temperature, chunked=True, left_chunks=left_chunks)
        noise, source_noise, _ = self._noise(generator, 1)
        frames = stream_mel(self.flow, pieces, speaker, prompt_tokens, prompt_mel, noise=noise, sampler=sampler)
        return self._chunks(self.vocoder.stream(map(Tokens, frames), noise=source_noise))

    def _chunks(self, parts: Iterable[Tensor]) -> Iterator[SpeechChunk]:
        for audio in parts:  # (1, 1, k)
            yield SpeechChunk(audio[0, 0].float().cpu().numpy(), self.sample_rate)

    def _noise(self, generator: GeneratorInput, rows: int) -> tuple[Noise, Noise | None, list[int]]:
        """Noise of the flow, of the vocoder (None: its own), and the seeds that repeat them."""
        if generator is None and self.flow.config.fixed_noise:
            return self.flow.own_noise(), None, [0] * rows
        generators, seeds = row_generators(generator, rows)
        return SeededNoise(generators, self.flow.device), SeededNoise.from_seeds(seeds, self.vocoder.device), seeds

    def sampler(self, **given: Any) -> FlowSampler:
        """The flow's sampler with the published options, else its defaults; users' come first, None is none.

        Raises:
            ValueError: one outside its limits.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        return FlowSampler.from_settings({**self.published_sampler, **chosen}, type(self.flow).__name__)

    @torch.no_grad()
    def prompt_mel(self, audio: Tensor, num_tokens: int) -> Tensor:
        """Frames (B, G, mels) of a prompt's audio (B, 1, T) at :attr:`sample_rate`, at most as many as its tokens make.
        """
        return self.vocoder.encode(audio).values[:, :self.flow.frames(num_tokens)]
