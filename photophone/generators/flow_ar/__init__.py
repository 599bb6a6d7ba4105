"""FlowAR: photophone's own generator of images from captions, over continuous tokens."""

from __future__ import annotations

from photophone.loading.entry import OWN, ModelEntry

FLOW_AR = {"kind": "generator", "target": "photophone.generators.flow_ar.model:FlowARGenerator",
           "paper": "in the line of arXiv 2406.11838 and 2502.20388", **OWN,
           "tiny_sampler": {"num_inference_steps": 3, "guidance_scale": 2.0, "temperature": 0.9}}
CELL_HEAD = {"width": 192, "depth": 3, "num_heads": 3, "batch_mul": 4, "time_distribution": "logit_normal"}
MLP_HEAD = {"width": 384, "depth": 3, "batch_mul": 4, "time_distribution": "logit_normal"}
ENTRIES = [
    ModelEntry("photophone/tiny-image", "pipeline", "photophone.pipelines.text_to_image:TextToImagePipeline",
               "captions to 64x64 images: icons, emoji, pixel art; ships in the wheel",
               "in the line of arXiv 2406.11838 and 2502.20388", "Apache-2.0",
               "Apache-2.0 (training data: CC0, MIT, Apache-2.0, CC BY 3.0 and 4.0, BSD-2-Clause; see the model "
               "card)",
               folder="tiny-image", sampler={"guidance_scale": 3.0}),
    ModelEntry("flowar-tiny-joint", summary="all 16 tokens as one cell, local-DiT flow head",
               config={"order": "next_x", "cell_size": 16, "head": "local_dit",
                       "head_config": {**CELL_HEAD, "cell_size": 16}}, **FLOW_AR, parameters=2_972_640),
    ModelEntry("flowar-tiny-cells", summary="next-X over cells of 4 tokens, local-DiT flow head",
               config={"order": "next_x", "cell_size": 4, "head": "local_dit",
                       "head_config": {**CELL_HEAD, "cell_size": 4}}, **FLOW_AR, parameters=2_970_336),
    ModelEntry("flowar-tiny-raster", summary="token by token, flow MLP head",
               config={"order": "raster", "head": "flow", "head_config": MLP_HEAD}, **FLOW_AR, parameters=4_062_240),
    ModelEntry("flowar-tiny-random", summary="masked in random order (MAR), flow MLP head",
               config={"order": "random", "head": "flow", "head_config": MLP_HEAD}, **FLOW_AR, parameters=4_062_240),
]
