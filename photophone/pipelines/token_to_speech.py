"""Speech tokens, a prompt and a speaker to speech: the second half of CosyVoice 1, 2 and 3.

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
from photophone.core.limits import MAX_GUIDANCE_SCALE, MAX_INFERENCE_STEPS, MAX_TEMPERATURE
from photophone.core.noise import Noise, SeededNoise
from photophone.core.tokens import Tokens
from photophone.decoding.loop import Callback
from photophone.generators.cosyvoice.flow import CosyVoiceFlow
from photophone.generators.cosyvoice.stream import LEFT_CHUNKS
from photophone.loading.chains import check_chain, find_sources
from photophone.loading.registry import load_original
from photophone.pipelines.base import GeneratorInput, Pipeline, StepCallback, row_generators
from photophone.pipelines.speech_output import SpeechOutput

LIMITS = {"num_inference_steps": (1, MAX_INFERENCE_STEPS), "guidance_scale": (0, MAX_GUIDANCE_SCALE),
          "temperature": (0, MAX_TEMPERATURE)}


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
                 callback_on_step_end: StepCallback | None = None) -> SpeechOutput:
        """Speak.

        Args:
            tokens, speaker, prompt_tokens, prompt_mel, chunked, left_chunks: of :meth:`CosyVoiceFlow.generate`.
            generator: one ``torch.Generator``, or one for each row. Without one, CosyVoice 2 and 3 start from their
                fixed noise, and all rows from the seed 0 of the vocoder; CosyVoice 1 draws seeds.
            num_inference_steps, guidance_scale, temperature: of the sampler; None is the published setting.
            callback_on_step_end: ``callback(pipeline, step, total, {})`` after each solver step.

        Raises:
            ValueError: an argument outside its limits, or shapes that do not fit.
            DecodingStopped: the callback set ``_interrupt``.
        """
        tokens = tokens if isinstance(tokens, Tokens) else Tokens(tokens)
        settings = self.settings({"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
                                  "temperature": temperature})
        rows, noise, source_noise = len(tokens), None, None
        seeds = [0] * rows
        if generator is not None or not self.flow.config.fixed_noise:
            generators, seeds = row_generators(generator, rows)
            noise = SeededNoise(generators, self.flow.device)
            source_noise = SeededNoise.from_seeds(seeds, self.vocoder.device)
        with self.watch(callback_on_step_end) as on_step:
            audio, lengths = self.generate(tokens, speaker, prompt_tokens, prompt_mel, noise=noise, chunked=chunked,
                                           left_chunks=left_chunks, source_noise=source_noise, callback=on_step,
                                           **settings)
        made = [row[0, :length].float().cpu().numpy() for row, length in zip(audio, lengths.tolist())]
        settings |= {"chunked": chunked, "left_chunks": left_chunks, "fixed_noise": noise is None}
        return SpeechOutput(made, self.sample_rate, [""] * rows, seeds, settings, **self.source,
                            weights_licence=self.weights_licence)

    def settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """The published options of the sampler with those that users gave.

        Raises:
            ValueError: one outside its limits.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        for name, value in chosen.items():
            low, high = LIMITS[name]
            kind = int if name == "num_inference_steps" else int | float
            if isinstance(value, bool) or not (isinstance(value, kind) and low <= value <= high):  # NaN is refused too
                raise ValueError(f"{name} must be {low} to {high:g}, got {value!r}")
        return self.published_sampler | chosen

    def generate(self, tokens: Tensor | Tokens, speaker: Tensor, prompt_tokens: Tensor | None = None,
                 prompt_mel: Tensor | None = None, *, noise: Noise | None = None, source_noise: Noise | None = None,
                 callback: Callback | None = None, **options: Any) -> tuple[Tensor, Tensor]:
        """Speech float32 (B, 1, T) in [-1, 1], and the samples of each row, Long (B,).

        Args:
            tokens, speaker, prompt_tokens, prompt_mel, noise, callback, options: of :meth:`CosyVoiceFlow.generate`.
            source_noise: of :meth:`HiFT.decode`.
        """
        frames = self.flow.generate(tokens, speaker, prompt_tokens, prompt_mel, noise=noise, callback=callback,
                                    **options)
        audio = self.vocoder.decode(frames, noise=source_noise)
        return audio, self.vocoder.audio_lengths(frames)

    def stream(self, pieces: Iterable[Tensor], speaker: Tensor, prompt_tokens: Tensor | None = None,
               prompt_mel: Tensor | None = None, *, noise: Noise | None = None, source_noise: Noise | None = None,
               left_chunks: int | None = LEFT_CHUNKS, **options: Any) -> Iterator[Tensor]:
        """Speech (B, 1, k), chunk by chunk, of pieces of tokens Long (B, n) as they come.

        The chunks together equal ``generate(chunked=True, left_chunks=left_chunks)`` for CosyVoice 2 and 3. A chunk
        comes when its tokens and those of the look ahead have come, and ``vocoder.delay`` frames later.

        Args:
            pieces, left_chunks, options: of :func:`photophone.generators.cosyvoice.stream.stream_mel`.
            speaker, prompt_tokens, prompt_mel, noise, source_noise: of :meth:`generate`.
        """
        frames = self.flow.stream(pieces, speaker, prompt_tokens, prompt_mel, noise=noise, left_chunks=left_chunks,
                                  **options)
        return self.vocoder.stream(map(Tokens, frames), noise=source_noise)

    @torch.no_grad()
    def prompt_mel(self, audio: Tensor, num_tokens: int) -> Tensor:
        """Frames (B, G, mels) of a prompt's audio (B, 1, T) at :attr:`sample_rate`, at most as many as its tokens make.
        """
        return self.vocoder.encode(audio).values[:, :self.flow.frames(num_tokens)]
