"""FPDM: a diffusion transformer most of whose blocks are one, iterated to a fixed point."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

ENTRIES = [
    ModelEntry("fpdm-xl", "generator", "photophone.generators.fpdm.model:FPDM",
               "ImageNet classes to the tokens of sd-vae-ft-mse: one block is iterated", "2401.08740",
               "none stated (the repository has no licence file); ours is written anew under Apache-2.0",
               "none published", parameters=86_500_256, chain=Chain({"fpdm": "fpdm-xl"}, ("vae", "sd-vae-ft-mse")),
               tiny={"grid_size": 4, "num_classes": 10, "width": 32, "num_heads": 2},
               tiny_sampler={"num_inference_steps": 4, "num_iterations": 2, "guidance_scale": 2.0}),
]
