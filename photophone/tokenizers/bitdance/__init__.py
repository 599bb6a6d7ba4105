"""BitDance's tokenizers: images to a grid of 32 to 256 signs a token."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

TINY = {"image_size": 8, "channels": 32, "multipliers": [1, 1], "blocks": 1, "token_dim": 8, "num_codebooks": 2}


FIGURES = {(16, 32): {"PSNR": 24.90, "SSIM": 0.72}}


def _bitdance(stride: int, bits: int, parameters: int, **config) -> ModelEntry:
    """A published tokenizer."""
    name = f"ae_d{stride}c{bits}"
    return ModelEntry(f"bitdance-d{stride}c{bits}", "image_tokenizer",
                      "photophone.tokenizers.bitdance.model:BitDanceTokenizer", paper="2602.14041",
                      summary=f"images to {bits} signs for each {stride}x{stride} pixels", code_licence="Apache-2.0",
                      weights_licence="Apache-2.0", hub_id="shallowdream204/BitDance-Tokenizer",
                      files=(f"{name}.safetensors",), parameters=parameters, tiny=TINY, figures=FIGURES[stride, bits],
                      figures_on="pictures of ImageNet's validation set at 256 pixels",
                      config={"token_dim": bits, "num_codebooks": bits // 8, **config})


ENTRIES = [
    _bitdance(16, 32, 460_294_179),
]
