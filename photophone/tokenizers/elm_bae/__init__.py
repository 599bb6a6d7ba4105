"""ELM's binary autoencoder: images to a grid of 16 to 24 bits each, drawn from learned probabilities."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ELM_BAE = {"kind": "image_tokenizer", "target": "photophone.tokenizers.elm_bae.model:BinaryAutoencoder",
           "paper": "2410.16257", "code_licence": "none stated: own implementation",
           "weights_licence": "none stated; trained on ImageNet", "hub_id": "xuantonglll/ELM",
           "tiny": {"image_size": 16, "channels": 32, "multipliers": [1, 2], "blocks": 1, "latent_width": 32, "bits": 6,
                    "attention_levels": [1]}}


def _bae(name: str, bits: int, parameters: int, kind: str = "") -> ModelEntry:
    """A published autoencoder."""
    return ModelEntry(f"elm-bae-{name}", **ELM_BAE, config={"bits": bits}, files=(f"bae/bae_{name.replace('-', '_')}/"
                                                                                   "binaryae_ema.th",),
                      summary=f"256x256 pixels to 256 codes of {bits} bits{kind}", parameters=parameters)


ENTRIES = [
    _bae("16", 16, 63_029_651),
    _bae("16-deter", 16, 63_029_651, ", trained without draws"),
    _bae("20", 20, 63_031_703),
    _bae("24", 24, 63_033_755),
]
