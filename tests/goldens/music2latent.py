"""Music2Latent: spectrograms, encoder, pyramid, U-Net, decoding in one and two steps, chunks, noise levels."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.codecs.music2latent.model import Music2Latent

system = System("music2latent")


def load(golden: Golden, **changes: int) -> Music2Latent:
    return golden.load(Music2Latent, **Music2Latent.convert_config(golden.settings["hparams"]), **changes)


def official_audio(golden: Golden, model: Music2Latent) -> torch.Tensor:
    """The recorded channels as rows (C, 1, T), cut as official code cuts them."""
    wave = golden["in_wav"]
    return wave[:, None, :model.official_length(wave.shape[-1])]


@system.part("mid_repr", "out_repr_roundtrip", "mid_sigmas")
def signals(golden: Golden):
    model = load(golden)
    return {"mid_repr": model.spectrum.analyse(official_audio(golden, model)[:, 0]),
            "out_repr_roundtrip": model.spectrum.synthesise(golden["mid_repr"]),
            "mid_sigmas": model.noise_levels.path(len(golden["mid_sigmas"]) - 1)}


@system.part("mid_enc_raw", "out_features")
def encoder(golden: Golden):
    model = load(golden)
    return {"mid_enc_raw": model.encoder(golden["mid_repr"]),
            "out_features": model.features(official_audio(golden, model)).transpose(1, 2)}


@system.part("out_latent", "out_latent_chunked", relative=True)
def tokens(golden: Golden):
    """Relative, as tokens are the encoder's values in [-1, 1] times 17. The official chunks ran one by one."""
    model, in_pieces = load(golden), load(golden, chunk_samples=golden.config["chunk_wave"])
    audio = official_audio(golden, model)
    alone = torch.cat([in_pieces.encode(row).values for row in audio.split(1)])
    return {"out_latent": model.encode(audio).values.transpose(1, 2), "out_latent_chunked": alone.transpose(1, 2)}


@system.part("mid_pyramid_*", "out_unet_*")
def unet(golden: Golden):
    model = load(golden)
    maps, x = model.decoder(golden["mid_enc_raw"]), golden["in_x"]
    sigmas = {"max": model.config.sigma_max, "mid": 0.5}
    made = {f"out_unet_{name}": model.unet(x, maps, torch.full((len(x),), sigma)) for name, sigma in sigmas.items()}
    return made | {f"mid_pyramid_{level}": level_map for level, level_map in enumerate(maps)}


@system.part("out_wav_?step", tolerance=1e-4)
def decoding(golden: Golden):
    """Official code draws once more behind the last step, which changes nothing and is not replayed."""
    model = load(golden)
    latents = golden["out_latent"].transpose(1, 2)
    made = {}
    for name in golden.names("out_wav_?step"):
        steps = int(name.removeprefix("out_wav_").removesuffix("step"))
        noise = golden.noise(normal=[golden[f"in_noise_{step}"] for step in range(steps)])
        made[name] = model.decode_latents(latents, noise, steps)[:, 0]
    return made
