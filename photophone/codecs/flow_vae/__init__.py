"""The FlowVAE of KALL-E: speech as 12.5 normal distributions a second."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ENTRIES = [
    ModelEntry("kalle-flowvae", "codec", "photophone.codecs.flow_vae.model:FlowVAE",
               "16 kHz speech to 12.5 continuous tokens of 512 a second, the means of distributions", "2412.16846",
               "none stated", "none stated", hub_id="kxxia/KALL-E", files=("flowvae.pt",), parameters=204_351_401,
               tiny={"latent_dim": 6, "encoder_channels": [4, 6, 8], "encoder_strides": [2, 3], "decoder_channels": 16,
                     "decoder_strides": [3, 2], "kernel_sizes": [3, 5], "dilations": [1, 3], "flow_hidden": 8}),
]
