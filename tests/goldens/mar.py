"""MAR: the KL autoencoder."""

from __future__ import annotations

from golden import Golden, System

from photophone.checkpoints import load_strict
from photophone.layers.vqgan import ResnetBlock
from photophone.layers.vqgan_keys import convert_vqgan_keys
from photophone.quantizers.gaussian import gaussian_kl, mean_and_logvar
from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.kl_vae import KLVAE

system = System("mar")


def attention_levels(levels: int, resolution: int, resolutions: list[int]) -> list[int]:
    """Levels whose nominal resolution is in the list."""
    return [level for level in range(levels) if resolution // 2**level in resolutions]


def vae_config(settings: dict) -> dict:
    """Our arguments of the official ``vae`` settings; the defaults are those of the official classes."""
    encoder, decoder = settings.get("encoder_kwargs", {}), settings.get("decoder_kwargs", {})
    multipliers = settings["autoencoder_kwargs"]["ch_mult"]
    levels = len(multipliers)
    return {"multipliers": multipliers, "latent_width": settings["autoencoder_kwargs"]["embed_dim"],
            "channels": encoder.get("ch", 128), "blocks": encoder.get("num_res_blocks", 2),
            "decoder_channels": decoder.get("ch", 128), "decoder_blocks": decoder.get("num_res_blocks", 2) + 1,
            "encoder_attention_levels": attention_levels(levels, encoder.get("resolution", 256),
                                                         encoder.get("attn_resolutions", [16])),
            "decoder_attention_levels": attention_levels(levels, decoder.get("resolution", 256),
                                                         decoder.get("attn_resolutions", []))}


@system.part("mid_vae_encoder", "out_vae_*")
def vae(golden: Golden):
    model = golden.load(KLVAE, "vae", **vae_config(golden.settings["vae"]))
    features = model.encoder(golden["in_image"])
    moments = model.to_latent(features)
    size = moments.shape[2:]
    mean, logvar = mean_and_logvar(to_sequence(moments))
    (_, draw), = golden.draws("vae_sample")
    sample = model.sample(moments, golden.noise(normal=[to_sequence(draw)]))
    return {"mid_vae_encoder": features, "out_vae_moments": moments, "out_vae_mean": to_grid(mean, size),
            "out_vae_logvar": to_grid(logvar, size), "out_vae_kl": gaussian_kl(mean, logvar).sum(dim=(1, 2)),
            "out_vae_sample_scaled": to_grid(sample, size),
            "out_vae_decode": model.reconstruct(golden["in_latent"] / model.config.scaling * 0.2)}


@system.part("out_resblock")
def resblock(golden: Golden):
    settings = golden.settings["resblock"]
    block = ResnetBlock(settings["in_channels"], settings["out_channels"])
    load_strict(block, convert_vqgan_keys(golden.state("resblock")))
    return {"out_resblock": block(golden["in_resblock_x"])}
