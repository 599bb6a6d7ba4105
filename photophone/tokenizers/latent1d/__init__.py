"""Latent1D: photophone's own one-dimensional image tokenizer."""

from __future__ import annotations

from photophone.loading.entry import OWN, ModelEntry

LATENT1D = {"kind": "image_tokenizer", "target": "photophone.tokenizers.latent1d.model:Latent1DTokenizer",
            "paper": "in the line of arXiv 2501.07730 and 2412.10958", **OWN}
ENTRIES = [
    ModelEntry("latent1d-tiny-c32", summary="64x64 pixels to 16 continuous tokens of 32 dimensions",
               config={"encoder_channels": [48, 96], "decoder_channels": [128, 64]}, **LATENT1D,
               parameters=2_996_384),
    ModelEntry("latent1d-tiny-fsq", summary="64x64 pixels to 32 codes of 64,000 (FSQ)",
               config={"num_tokens": 32, "token_dim": 6, "quantizer": "fsq",
                       "quantizer_config": {"levels": [8, 8, 8, 5, 5, 5]}}, **LATENT1D, parameters=2_692_230),
    ModelEntry("latent1d-tiny-vq", summary="64x64 pixels to 32 codes of 4,096 (VQ with an averaged codebook)",
               config={"num_tokens": 32, "token_dim": 16, "quantizer": "vq",
                       "quantizer_config": {"codebook_size": 4096, "ema_decay": 0.99}}, **LATENT1D,
               parameters=2_697_360),
    ModelEntry("latent1d-tiny-softvq", summary="64x64 pixels to 16 soft mixtures of codewords (SoftVQ)",
               config={"quantizer": "soft_vq", "quantizer_config": {"num_codewords": 2048, "num_codebooks": 4}},
               **LATENT1D, parameters=2_959_008),
    ModelEntry("latent1d-vit-c32", summary="the same as a plain ViT on patches of 8",
               config={"stem": "patch", "patch": 8, "encoder_depth": 4, "decoder_depth": 4}, **LATENT1D,
               parameters=6_477_536),
]
