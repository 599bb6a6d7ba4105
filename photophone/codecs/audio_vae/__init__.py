"""The AudioVAE of VoxCPM: waveforms to continuous tokens at 25 Hz."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import ModelEntry

LICENCES = {"code_licence": "Apache-2.0", "weights_licence": "Apache-2.0"}
TINY_VAE = {"encoder_channels": 4, "encoder_strides": [2, 3], "latent_dim": 16, "decoder_channels": 16,
            "decoder_strides": [3, 2]}


def _vae(name: str, parameters: int, summary: str, hub_id: str, config: dict[str, Any], paper: str = "2509.24650",
         tiny: dict[str, Any] | None = None) -> ModelEntry:
    """A published AudioVAE."""
    return ModelEntry(name, "codec", "photophone.codecs.audio_vae.model:AudioVAE", summary, paper, **LICENCES,
                      config=config, parameters=parameters, hub_id=hub_id, files=("audiovae.pth",),
                      tiny=tiny or TINY_VAE)


ENTRIES = [
    _vae("voxcpm-vae-16k", 75_355_202,
         "16 kHz audio to 25 continuous tokens of 64 a second; of VoxCPM-0.5B, 75M parameters",
         "openbmb/VoxCPM-0.5B", {}),
    _vae("voxcpm-vae-44k", 86_483_330,
         "44.1 kHz audio to 25 continuous tokens of 64 a second; of VoxCPM 1.5, 86M parameters",
         "openbmb/VoxCPM1.5", {"sample_rate": 44100, "encoder_channels": 64, "encoder_strides": [2, 3, 6, 7, 7],
                               "decoder_channels": 2048, "decoder_strides": [7, 7, 6, 3, 2]}),
    _vae("voxcpm-vae-48k", 94_213_954,
         "16 kHz audio to 25 continuous tokens of 64 a second to 48 kHz; of VoxCPM 2, 94M parameters",
         "openbmb/VoxCPM2", {"output_sample_rate": 48000, "decoder_channels": 2048,
                             "decoder_strides": [8, 6, 5, 2, 2, 2], "delay_odd": False,
                             "rate_boundaries": [20000, 30000, 40000]}, "2606.06928",
         TINY_VAE | {"decoder_strides": [3, 6]}),
]
