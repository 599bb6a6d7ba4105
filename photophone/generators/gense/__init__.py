"""GenSE: speech enhancement by two language models, over semantic units and over the codes of SimCodec."""

from __future__ import annotations

from photophone.loading.entry import Chain, ModelEntry

TINY = {"num_semantic": 20, "width": 32, "depth": 2, "num_heads": 4}
TINY_CODES = {"num_codes": 40, "num_positions": 1100}
TINY_UNITS = {"num_units": 20, "width": 16, "depth": 2, "num_heads": 2, "hidden": 24,
              "convs": [[8, 10, 5], [8, 8, 8]], "position_kernel": 8, "position_groups": 4}
TINY_CODEC = {"encoder_filters": 2, "decoder_filters": 2, "dim": 12, "rates": [5, 4], "kernels": [11, 8],
              "block_kernels": [3, 5], "block_dilations": [[1, 3, 5], [1, 2, 3]], "num_codes": 40}
ABOUT = {"paper": "2502.02942", "code_licence": "none stated", "weights_licence": "none published"}
ENTRIES = [
    ModelEntry("gense", "generator", "photophone.generators.gense.model:GenSES2S",
               "semantic units of noisy and of clean speech, and codes of the noisy, to codes of clean speech",
               **ABOUT, tiny={**TINY, **TINY_CODES}, tiny_sampler={"temperature": 0.5}, parameters=164_791_296,
               training_name="gense-s2s",
               chain=Chain({"units": "gense-units", "n2s": "gense-n2s", "s2s": "gense"}, ("codec", "simcodec"),
                           pipeline="SpeechEnhancementPipeline", within={"units": "n2s", "codec": "s2s"})),
    ModelEntry("gense-n2s", "generator", "photophone.generators.gense.model:GenSEN2S",
               "semantic units of noisy speech to those of clean speech", **ABOUT,
               tiny={**TINY, "num_positions": 64}, tiny_sampler={"temperature": 0.02}, parameters=154_305_536,
               training_name="gense-n2s"),
    ModelEntry("gense-units", "features", "photophone.generators.gense.units:GenSEUnits",
               "16 kHz speech to 50 semantic units a second: layer 6 of XLSR-300M, 1,024 means", **ABOUT,
               tiny=TINY_UNITS, parameters=88_703_616),
    ModelEntry("gense-enhancer", "enhancer", "photophone.generators.gense.enhancer:GenSEEnhancer",
               "noisy 16 kHz speech to clean speech: gense-units, gense-n2s, gense and simcodec in one", **ABOUT,
               parameters=474_483_137,
               tiny={"units_config": TINY_UNITS, "n2s_config": {**TINY, "num_positions": 128},
                     "s2s_config": {**TINY, **TINY_CODES}, "codec_config": TINY_CODEC, "piece_seconds": 0.1}),
]
