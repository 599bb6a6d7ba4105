"""The options of Pocket TTS's sampler."""

from __future__ import annotations

from dataclasses import dataclass

from photophone.core.limits import MAX_TEMPERATURE
from photophone.generators.sampler import Sampler, option, steps_option


@dataclass(frozen=True)
class PocketTTSSampler(Sampler):
    """Options of :class:`photophone.generators.pocket_tts.model.PocketTTS`; the defaults are those of the authors."""

    num_inference_steps: int = steps_option(1, "jumps from noise to a token; drifting and pointwise heads make one")
    temperature: float = option(0.3, "variance of the noise; 0 is none", low=0, high=MAX_TEMPERATURE)
    end_threshold: float = option(-4.0, "speech ends where the logit of its end is above this", low=-100, high=100)
    min_frames: int = option(6, "the end counts after this many frames", low=0)
    frames_after_end: int = option(3, "frames that are kept from the end on, where the condition does not tell",
                                   low=1, high=1000)
    max_frames: int | None = option(None, "frames of a row at most, beside the row's own limit; none: what fits",
                                    low=1)
