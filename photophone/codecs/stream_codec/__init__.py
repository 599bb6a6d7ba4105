"""StreamCodec: photophone's own causal codec of speech."""

from __future__ import annotations

from photophone.loading.entry import OWN, ModelEntry

CODEC = {"kind": "codec", "target": "photophone.codecs.stream_codec.model:StreamCodec",
         "paper": "in the line of arXiv 2306.00814 and 2509.24650", **OWN,
         "tiny": {"frame_length": 40, "window": 160, "num_mels": 20, "latent_dim": 6, "encoder_width": 16,
                  "encoder_depth": 1, "decoder_depth": 2, "width": 32, "hidden": 48}}
ENTRIES = [
    ModelEntry("stream-codec", summary="causal streaming codec, 16 kHz, 40 continuous tokens a second of 24 channels",
               **CODEC, parameters=3_630_738),
    ModelEntry("stream-codec-fsq", summary="its discrete sibling: one FSQ codebook of 5,000 codes",
               **{**CODEC, "tiny": {**CODEC["tiny"], "latent_dim": 5}},
               config={"latent_dim": 5, "quantizer": "fsq", "quantizer_config": {"levels": [8, 5, 5, 5, 5]}},
               parameters=3_585_639),
    ModelEntry("stream-codec-vq", summary="its discrete sibling: one learned codebook of 4,096 codes",
               config={"quantizer": "vq", "quantizer_config": {"codebook_size": 4096}}, **CODEC,
               parameters=3_722_874),
]
