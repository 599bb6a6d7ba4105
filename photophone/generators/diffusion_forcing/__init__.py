"""Diffusion Forcing: sequences of frames, each with a noise level of its own. No weights are published."""

from __future__ import annotations

ENTRIES = []
CLASSES = {"diffusion-forcing": "photophone.generators.diffusion_forcing.model:DiffusionForcing",
           "diffusion-forcing-planner": "photophone.generators.diffusion_forcing.planning:DiffusionForcingPlanner"}
