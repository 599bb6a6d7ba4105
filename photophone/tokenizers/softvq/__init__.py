"""SoftVQ-VAE and MAETok: images to a few continuous tokens."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

SOFTVQ = {"kind": "image_tokenizer", "target": "photophone.tokenizers.softvq.model:SoftVQTokenizer",
          "code_licence": "Apache-2.0 as the model classes state, no licence file",
          "weights_licence": "Apache-2.0 as the hub repository states; trained on ImageNet",
          "files": ("model.safetensors",)}
IMAGENET = "50,000 pictures of ImageNet's validation set"
SOFTVQ_TINY = {"image_size": 32, "num_tokens": 8, "token_width": 6, "encoder_size": [64, 1, 2],
               "decoder_size": [64, 1, 2], "encoder_patch": 8, "decoder_patch": 8, "layer_scale": 1.0}
RFID = {"softvq-l-64": 0.61, "softvq-bl-64": 0.65, "softvq-b-64": 0.88, "softvq-l-32": 0.74, "softvq-bl-32": 0.68,
        "softvq-b-32": 0.89, "softvq-bl-64-512": 0.71, "softvq-l-32-512": 0.64, "maetok-b-128": 0.48,
        "maetok-b-512": 0.62}
"""As the authors' tables state it."""
VIT_SIZES = {"s": [384, 12, 6], "b": [768, 12, 12], "l": [1024, 24, 16]}
"""Official sizes: width, blocks, heads. No model of the smallest is published."""


def _softvq(sizes: str, tokens: int, parameters: int, image_size: int = 256) -> ModelEntry:
    """A published SoftVQ-VAE; ``sizes`` are the letters of its encoder and decoder."""
    name = f"softvq-{sizes}-{tokens}" + ("" if image_size == 256 else f"-{image_size}")
    config = {"image_size": image_size, "num_tokens": tokens, "encoder_size": VIT_SIZES[sizes[0]],
              "decoder_size": VIT_SIZES[sizes[-1]]}
    return ModelEntry(name, summary=f"{image_size}x{image_size} pixels to {tokens} soft mixtures of codewords",
                      paper="2412.10958", config=config, hub_id=f"SoftVQVAE/{name}", parameters=parameters,
                      **SOFTVQ, figures={"rFID": RFID[name]}, figures_on=IMAGENET,
                      tiny={**SOFTVQ_TINY, "num_codewords": 32, "num_codebooks": 2})


def _maetok(image_size: int, parameters: int) -> ModelEntry:
    """A published MAETok; which position codes its weights have is inferred from the code."""
    name = "maetok-b-128" if image_size == 256 else f"maetok-b-{image_size}"
    config = {"image_size": image_size, "num_tokens": 128, "kind": "none", "encoder_size": VIT_SIZES["b"],
              "decoder_size": VIT_SIZES["b"], "rope_theta": 10.0, "drop_patches": [0.4, 0.6]}
    return ModelEntry(name, summary=f"{image_size}x{image_size} pixels to 128 continuous tokens of 32 dimensions",
                      paper="2502.03444", config=config, hub_id=f"MAETok/{name}", parameters=parameters,
                      **SOFTVQ, tiny=SOFTVQ_TINY, figures={"rFID": RFID[name]}, figures_on=IMAGENET)


ENTRIES = [
    _softvq("l", 64, 608_136_992),
    _softvq("bl", 64, 390_546_976),
    _softvq("b", 64, 172_973_088),
    _softvq("l", 32, 608_038_688),
    _softvq("bl", 32, 390_465_056),
    _softvq("b", 32, 172_899_360),
    _softvq("bl", 64, 391_923_232, 512),
    _softvq("l", 32, 609_611_552, 512),
    _maetok(256, 171_893_792),
    _maetok(512, 172_483_616),
]
