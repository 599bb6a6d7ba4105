"""Music2Latent: 44.1 kHz audio to 64 continuous values 10.8 times a second, and back in a step of a consistency model.

Paper: arXiv 2408.06500 (ISMIR 2024). Official code: SonyCSLParis/music2latent, CC BY-NC 4.0; this is written anew from
the paper and recorded tensors. Weights: CC BY-NC 4.0, so not for commercial use.

Reading order: ``spectrum.py`` (waveforms and complex spectrograms), ``blocks.py``, ``latents.py`` (a spectrogram to
latents, latents to a pyramid of maps), ``consistency.py`` (noise levels), ``unet.py`` (noise and the pyramid to a
spectrogram), ``hparams.py`` (official settings and keys), ``model.py`` (the codec).
"""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

TINY = {"stft_hop": 16, "channels": 8, "multipliers": [1, 2, 2], "layers": [1, 2, 1], "attention": [False, False, True],
        "frequency_only": [True, False], "encoder_layers": [1, 1, 1], "encoder_attention": [False, False, True],
        "hidden_dim": 16, "hidden_layers": 1, "latent_dim": 8, "heads": 2, "condition_dim": 16}

ENTRIES: list[ModelEntry] = [
    ModelEntry("music2latent", "codec", "photophone.codecs.music2latent.model:Music2Latent",
               summary="44.1 kHz music and speech to 10.8 tokens of 64 values a second",
               paper="2408.06500", code_licence="CC BY-NC 4.0 (reimplemented here)", weights_licence="CC BY-NC 4.0",
               hub_id="SonyCSLParis/music2latent", files=("music2latent.pt",), tiny=TINY,
               parameters=57_658_690),
]
