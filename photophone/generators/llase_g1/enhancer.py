"""LLaSE-G1 as a whole: WavLM before it, the decoder of X-Codec 2 behind it, and how its five tasks use them.

Paper: arXiv 2503.00493. Official code: Kevin-naticl/LLaSE-G1, no licence stated. Differences: a recording is filled up
by silence to whole frames, so that speech comes back as long as it was, where the official code loses up to 25 ms; and
the level that the division by the peak takes away is given back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from photophone.codecs.xcodec2.model import XCodec2
from photophone.core.limits import MAX_ENHANCEMENT_PASSES
from photophone.core.noise import GlobalNoise
from photophone.core.tokens import Tokens
from photophone.generators.enhancement import ChainEnhancer
from photophone.generators.llase_g1.model import TASKS, LLaSEG1, LLaSESampler, RecordingFeatures
from photophone.generators.llase_g1.wavlm import WavLM

SMALLEST_PEAK = 1e-8


class LLaSEEnhancer(ChainEnhancer):
    """Recordings float (B, 1, T) at 16 kHz to clean ones.

    It is not trained as a whole: the network in its middle is, see :class:`LLaSEG1`. Its attention sees the whole past
    and its decoder the whole clip, so pieces of a long recording are not what the whole would be: ``reach`` is what
    pieces are given before and after, and neighbours are blended over ``fade_seconds``.

    Args:
        wavlm_config, llase_config, codec_config: arguments of :class:`WavLM`, :class:`LLaSEG1` and :class:`XCodec2`;
            None: the published sizes.
        sample_rate: in Hz.
        context_seconds: of ``reach``.
        fade_seconds: see above.

    Raises:
        ValueError: sizes that do not fit each other.
    """

    def __init__(self, wavlm_config: dict[str, Any] | None = None, llase_config: dict[str, Any] | None = None,
                 codec_config: dict[str, Any] | None = None, sample_rate: int = 16000,
                 context_seconds: float = 2.0, fade_seconds: float = 0.02) -> None:
        super().__init__()
        self.wavlm, self.llase = WavLM(**(wavlm_config or {})), LLaSEG1(**(llase_config or {}))
        self.codec = XCodec2(**{"decodes_only": True, **(codec_config or {})})
        wants, makes = self.llase.config, {"feature_dim": self.wavlm.config.width,
                                           "num_codes": self.codec.codebook_size}
        for name, value in makes.items():
            if wants[name] != value:
                raise ValueError(f"LLaSE-G1 has {name}={wants[name]}, but the parts beside it {value}")
        if self.wavlm.hop_length != self.codec.hop_length:
            raise ValueError(f"WavLM has a feature each {self.wavlm.hop_length} samples, the codec a code each "
                             f"{self.codec.hop_length}")

    @classmethod
    def from_parts(cls, wavlm: WavLM, llase: LLaSEG1, codec: XCodec2, **options: Any) -> LLaSEEnhancer:
        """Of models that are there, without copies; ``options`` are those of the constructor."""
        return cls.join({"wavlm": wavlm, "llase": llase, "codec": codec}, **options)

    @property
    def fade_seconds(self) -> float:
        """Over which neighbouring pieces are blended."""
        return self.config.fade_seconds

    def _enhance(self, audio: Tensor) -> Tensor:
        return self._run(audio, None, "enhance", TASKS["enhance"].passes)

    @torch.no_grad()
    def process(self, audio: Tensor, other: Tensor | None = None, *, task: str = "enhance",
                passes: int | None = None) -> Tensor:
        """One of the five tasks.

        Args:
            audio: float (B, 1, T): noisy speech, speech with lost packets, two or several voices, or a microphone.
            other: float (B, 1, T'), for "extract" the wanted voice alone, for "cancel_echo" the loudspeaker.
            task: of :data:`photophone.generators.llase_g1.model.TASKS`.
            passes: how often the network runs; None: what the task needs. From the second pass on it reads what it
                made.

        Returns:
            Float32 (B, 1, T).

        Raises:
            ValueError: an unknown task, a second recording that the task does not have or that is missing, other
                shapes, or a number of passes outside the limits.
        """
        how = TASKS.get(task)
        if how is None:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
        needs = task in ("extract", "cancel_echo")
        if needs != (other is not None):
            raise ValueError(f"{task} {'needs a second recording' if needs else 'has no second recording'}: "
                             f"{how.other if needs else 'leave other out'}")
        passes = how.passes if passes is None else passes
        if not how.passes <= passes <= MAX_ENHANCEMENT_PASSES:
            raise ValueError(f"{task} takes {how.passes} to {MAX_ENHANCEMENT_PASSES} passes, got {passes}")
        self.check_audio(audio)
        if other is None:
            return self._run(audio.to(self.device), None, task, passes)
        self.check_audio(other)
        return self._run(audio.to(self.device), other.to(self.device), task, passes)

    def _run(self, audio: Tensor, other: Tensor | None, task: str, passes: int) -> Tensor:
        how, length = TASKS[task], audio.shape[-1]
        peak = audio.abs().amax(dim=-1, keepdim=True).clamp(min=SMALLEST_PEAK) if how.scaled else torch.ones(1)
        peak = peak.to(audio)
        audio = audio / peak
        if other is not None:
            other = other[..., :length]
            audio = audio[..., :other.shape[-1]] if task == "cancel_echo" else audio
        features = first = self.features(audio)
        told = None if other is None else self.features(other)
        for step in range(passes):
            codes = self.llase.generate(RecordingFeatures(features, told), noise=GlobalNoise(self.device),
                                        sampler=LLaSESampler(output=how.output))
            made = self.codec.decode(Tokens(codes.values))[..., :audio.shape[-1]]
            if step + 1 < passes:
                features = self.features(made)
                if task == "separate":
                    features, told = first, features
                elif not how.keeps_other:
                    told = None
        return functional.pad(made.float() * peak, (0, length - made.shape[-1]))

    def features(self, audio: Tensor) -> Tensor:
        """Features (B, ceil(T / hop), C) of audio (B, 1, T) and the silence behind it."""
        frames = -(-audio.shape[-1] // self.wavlm.hop_length)
        missing = (frames - 1) * self.wavlm.hop_length + self.wavlm.receptive_field - audio.shape[-1]
        return self.wavlm(functional.pad(audio[:, 0], (0, max(0, missing))))[:, :frames]
