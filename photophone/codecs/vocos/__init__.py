"""Vocos: a vocoder of mel frames."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

VOCOS = {"kind": "codec", "paper": "2306.00814", "code_licence": "MIT", "weights_licence": "MIT",
         "files": ("pytorch_model.bin",)}
VOCODER = {"sample_rate": 16000, "n_fft": 1024, "hop_length": 256, "num_mels": 80, "width": 256, "hidden": 640,
           "depth": 6}
ENTRIES = [
    ModelEntry("vocos-mel-24khz", target="photophone.codecs.vocos.model:Vocos",
               summary="vocoder of 100 mel bands at 93.75 frames a second; 13.5 M", hub_id="charactr/vocos-mel-24khz",
               tiny={"n_fft": 64, "hop_length": 16, "num_mels": 8, "width": 24, "hidden": 40, "depth": 2}, **VOCOS,
               parameters=13_531_650),
    ModelEntry("photophone/tiny-vocoder", "codec", "photophone.codecs.vocos.model:Vocos",
               "vocoder of 80 mel bands at 62.5 frames a second, 16 kHz, 2.4 million parameters", "2306.00814",
               "Apache-2.0", "Apache-2.0; training data in its card", config=VOCODER, folder="tiny-vocoder",
               tiny={"n_fft": 64, "hop_length": 16, "num_mels": 8, "width": 16, "hidden": 24, "depth": 2},
               parameters=2_396_674),
]
