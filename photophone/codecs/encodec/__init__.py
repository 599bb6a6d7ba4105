"""EnCodec at 24 kHz through transformers, and Vocos as a decoder of its codes."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

VOCOS = {"kind": "codec", "paper": "2306.00814", "code_licence": "MIT", "weights_licence": "MIT",
         "files": ("pytorch_model.bin",)}
ENCODEC = {"kind": "codec", "target": "photophone.codecs.encodec.model:EnCodec", "paper": "2210.13438",
           "code_licence": "Apache-2.0 (transformers)", "weights_licence": "CC BY-NC 4.0, see the hub page",
           "files": ("model.safetensors",)}
ENCODEC_TINY = {"num_codebooks": 4,
                "settings": {"num_filters": 4, "upsampling_ratios": [4, 3, 2], "hidden_size": 16, "codebook_size": 32,
                             "target_bandwidths": [80.0], "num_lstm_layers": 1}}
VOCOS_ENCODEC_TINY = {**ENCODEC_TINY, "width": 24, "hidden": 32, "depth": 2, "synthesis_n_fft": 96}
ENTRIES = [
    *(ModelEntry(f"encodec-24khz-{rate}kbps", config={"num_codebooks": books}, hub_id="facebook/encodec_24khz",
                 summary=f"24 kHz audio to 75 frames of {books} codes of 1,024 a second", **ENCODEC,
                 parameters=14_851_810, tiny=ENCODEC_TINY)
      for rate, books in (("1.5", 2), ("3", 4), ("6", 8), ("12", 16), ("24", 32))),
    *(ModelEntry(f"vocos-encodec-24khz-{rate}kbps", target="photophone.codecs.encodec.model:VocosEnCodec",
                 config={"num_codebooks": books}, hub_id="charactr/vocos-encodec-24khz", tiny=VOCOS_ENCODEC_TINY,
                 parameters=24_933_220,
                 summary=f"EnCodec's {books} codebooks, decoded by Vocos; 7.9 M and EnCodec's", **VOCOS)
      for rate, books in (("1.5", 2), ("3", 4), ("6", 8), ("12", 16))),
]
