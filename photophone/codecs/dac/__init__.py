"""DAC, the Descript Audio Codec, through transformers."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

DAC = {"kind": "codec", "target": "photophone.codecs.dac.model:DAC", "paper": "2306.06546", "weights_licence": "MIT",
       "code_licence": "Apache-2.0 (transformers); MIT (original)", "files": ("model.safetensors",)}
DAC_TINY = {"num_codebooks": 3, "settings": {"encoder_hidden_size": 4, "decoder_hidden_size": 24, "n_codebooks": 3,
                                             "codebook_size": 32, "downsampling_ratios": [2, 5]}}
ENTRIES = [
    ModelEntry("dac-16khz", summary="16 kHz audio to 50 frames of 12 codes of 1,024 a second", tiny=DAC_TINY,
               config={"num_codebooks": 12, "sample_rate": 16000,
                       "settings": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12}},
               hub_id="descript/dac_16khz", **DAC, parameters=74_141_697),
    ModelEntry("dac-24khz", summary="24 kHz audio to 75 frames of 32 codes of 1,024 a second", tiny=DAC_TINY,
               config={"num_codebooks": 32, "sample_rate": 24000,
                       "settings": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32}},
               hub_id="descript/dac_24khz", **DAC, parameters=74_653_857),
    ModelEntry("dac-44khz", summary="44.1 kHz audio to 86 frames of 9 codes of 1,024 a second",
               hub_id="descript/dac_44khz", **DAC,
               tiny={**DAC_TINY, "chunk_frames": 3}, parameters=76_620_777),
]
