"""BAR's tokenizers: SigLIP 2 and a ViT around binary codes of 10 or 16 bits."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

TINY = {"image_size": 32, "siglip_width": 32, "siglip_depth": 1, "siglip_heads": 2, "siglip_hidden": 48,
        "siglip_positions": 9, "token_bits": 6, "width": 32, "depth": 1, "num_heads": 2}
CLASSES = {"bar-aligned": "photophone.tokenizers.bar.model:AlignedBARTokenizer"}


def _bar(name: str, file: str, bits: int, pixels: int, parameters: int) -> ModelEntry:
    """A published tokenizer."""
    return ModelEntry(name, "image_tokenizer", "photophone.tokenizers.bar.model:BARTokenizer", paper="2602.09024",
                      summary=f"{pixels}x{pixels} pixels to {(pixels // 16) ** 2} codes of {bits} bits",
                      code_licence="Apache-2.0", weights_licence="Apache-2.0; SigLIP 2 inside, Apache-2.0",
                      hub_id="FAR-Amazon/BAR-collections", files=(f"tokenizer/{file}",), parameters=parameters,
                      tiny=TINY, config={"token_bits": bits, "image_size": pixels})


ENTRIES = [
    _bar("bar-fsq-16bits", "bar_fsq_16bits.bin", 16, 256, 716_050_516),
    _bar("bar-fsq-16bits-ft", "bar_fsq_16bits_ft.bin", 16, 256, 716_050_516),
    _bar("bar-fsq-10bits-512", "bar_sfq_10bits_res512.bin", 10, 512, 716_823_886),  # the hub spells it so
]
