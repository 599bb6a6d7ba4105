"""The options of VoxCPM's sampler."""

from __future__ import annotations

from dataclasses import dataclass

from photophone.generators.sampler import Sampler, guidance_option, option, steps_option, temperature_option


@dataclass(frozen=True)
class VoxCPMSampler(Sampler):
    """Options of :class:`photophone.generators.voxcpm.model.VoxCPM`; the defaults are those of the authors."""

    num_inference_steps: int = steps_option(10, "solver steps of a patch; the network runs at one less with zero_star")
    guidance_scale: float = guidance_option(2.0)
    temperature: float = temperature_option()
    sway: float = option(1.0, "how much the solver's times crowd near the noise, see photophone.layers.flow.sway_grid",
                         low=-1, high=1.75)
    zero_star: bool = option(True, "CFG-Zero*: guidance by projection, and no first step, see "
                                   "photophone.layers.flow.zero_star")
    min_patches: int = option(2, "the stop counts after this many further patches", low=0)
    max_patches: int | None = option(None, "patches of a row at most, beside the row's own limit; none: what fits",
                                     low=1)
