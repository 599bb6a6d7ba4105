"""The KL autoencoder of MAR, xAR and CSpD, and Stable Diffusion's, which FPDM reads."""

from __future__ import annotations

from photophone.loading.entry import AS_CODE, ModelEntry

ENTRIES = [
    ModelEntry("mar-kl16", "image_tokenizer", "photophone.tokenizers.kl_vae.model:KLVAE",
               "256x256 pixels to 256 continuous tokens of 16 dimensions; kl16.ckpt is linked at github.com/LTH14/mar",
               "2406.11838", "MIT", f"{AS_CODE}; trained on ImageNet",
               config={"image_size": 256, "channels": 128, "multipliers": [1, 1, 2, 2, 4], "blocks": 2,
                       "latent_width": 16, "encoder_attention_levels": [4], "scaling": 0.2325},
               tiny={"image_size": 16, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "latent_width": 4,
                     "encoder_attention_levels": [2]}, parameters=66_456_019),
    ModelEntry("sd-vae-ft-mse", "image_tokenizer", "photophone.tokenizers.kl_vae.model:KLVAE",
               "256x256 pixels to 1,024 continuous tokens of 4 dimensions, those of latent diffusion", "2112.10752",
               "MIT", "MIT as the hub repository states; trained on LAION",
               config={"image_size": 256, "channels": 128, "multipliers": [1, 2, 4, 4], "blocks": 2, "latent_width": 4,
                       "encoder_attention_levels": [], "scaling": 0.18215},
               hub_id="stabilityai/sd-vae-ft-mse-original", files=("vae-ft-mse-840000-ema-pruned.ckpt",),
               tiny={"image_size": 16, "channels": 32, "multipliers": [1, 1, 2], "blocks": 1, "latent_width": 4},
               parameters=83_653_863),
]
