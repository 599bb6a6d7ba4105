"""SimCodec, the codec of GenSE."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

TINY = {"encoder_filters": 2, "decoder_filters": 2, "dim": 12, "rates": [5, 4, 2], "kernels": [11, 8, 4],
        "block_kernels": [3, 5], "block_dilations": [[1, 3, 5], [1, 2, 3]], "num_codes": 40}
ENTRIES = [
    ModelEntry("simcodec", "codec", "photophone.codecs.simcodec.model:SimCodec",
               "16 kHz speech in 100 codes a second of one book of 8,192, codec of GenSE; sizes but those are not "
               "published and ours", "2502.02942", "none stated", "none published", tiny=TINY,
               parameters=66_682_689),
]
