"""TiTok and TA-TiTok: images to 32 to 256 tokens that lie on no grid."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

TITOK = {"kind": "image_tokenizer", "target": "photophone.tokenizers.titok.model:TiTok", "paper": "2406.07550",
         "code_licence": "Apache-2.0", "weights_licence": "Apache-2.0; trained on ImageNet, for research",
         "tiny": {"image_size": 32, "num_tokens": 8, "token_width": 6, "num_codes": 2048, "encoder_size": [64, 1, 2],
                  "decoder_size": [64, 1, 2], "encoder_patch": 8, "decoder_patch": 2, "proxy_codes": 48,
                  "proxy_decoder": {"channels": 64, "multipliers": [1, 1], "blocks": 1, "token_width": 8}}}
TITOK_TINY_PIXELS = {**TITOK["tiny"], "decoder_patch": 8, "proxy_codes": None, "proxy_decoder": None}
IMAGENET = "50,000 pictures of ImageNet's validation set"
RFID = {"titok-l32": 2.21, "titok-b64": 1.70, "titok-s128": 1.71, "titok-bl64-vq8k": 2.06, "titok-bl128-vq8k": 1.49,
        "titok-sl256-vq8k": 1.03, "titok-ll32-vae-c16": 1.61, "titok-bl64-vae-c16": 1.25, "titok-bl128-vae-c16": 0.84,
        "tatitok-bl32-vq": 3.95, "tatitok-bl64-vq": 2.43, "tatitok-bl128-vq": 1.53, "tatitok-bl32-vae": 1.53,
        "tatitok-bl64-vae": 1.47, "tatitok-sl128-vae": 0.90}
"""As the authors' tables state it."""
VIT_SIZES = {"s": [512, 8, 8], "b": [768, 12, 12], "l": [1024, 24, 16]}
"""Official sizes: width, blocks, heads."""


def _titok(name: str, encoder: str, decoder: str, tokens: int, codes: int | None, width: int, parameters: int,
           legacy: bool = False) -> ModelEntry:
    """A published TiTok; ``legacy`` is the two-stage model."""
    config = {"num_tokens": tokens, "num_codes": codes, "token_width": width, "l2_norm": legacy,
              "encoder_size": VIT_SIZES[encoder], "decoder_size": VIT_SIZES[decoder]}
    kind = f"{tokens} Gaussian tokens of {width} dimensions" if codes is None else f"{tokens} codes of {codes:,}"
    options = dict(TITOK)
    if not legacy:
        config |= {"scrambles_latents": False, "proxy_codes": None, "proxy_decoder": None}
        options["tiny"] = {**TITOK_TINY_PIXELS, "l2_norm": True, "num_codes": None if codes is None else 2048}
    return ModelEntry(name, summary=f"256x256 pixels to {kind}{'; two-stage' if legacy else ''}", config=config,
                      hub_id=f"yucornetto/tokenizer_{name.replace('-', '_')}_imagenet", files=("model.safetensors",),
                      parameters=parameters, figures={"rFID": RFID[name]}, figures_on=IMAGENET, **options)


TATITOK = {"kind": "image_tokenizer", "target": "photophone.tokenizers.titok.text_aware:TATiTok",
           "training_name": "tatitok", "paper": "2501.07730", "code_licence": "Apache-2.0",
           "weights_licence": "Apache-2.0; trained on filtered DataComp", "files": ("model.safetensors",)}
TATITOK_TINY = {"image_size": 32, "num_tokens": 8, "token_width": 6, "encoder_size": [64, 1, 2],
                "decoder_size": [64, 1, 2], "encoder_patch": 8, "decoder_patch": 8, "text_dim": 12, "text_length": 5,
                "l2_norm": True}


def _tatitok(encoder: str, tokens: int, kind: str, parameters: int) -> ModelEntry:
    """A published TA-TiTok, ``kind`` "vq" or "vae"; all have the large decoder."""
    codes, width = (8192, 64) if kind == "vq" else (None, 16)
    name = f"tatitok-{encoder}l{tokens}-{kind}"
    what = "codes of 8,192" if kind == "vq" else "Gaussian tokens of 16 dimensions"
    return ModelEntry(name, **TATITOK, parameters=parameters, figures={"rFID": RFID[name]}, figures_on=IMAGENET,
                      hub_id=f"turkeyju/tokenizer_tatitok_{encoder}l{tokens}_{kind}",
                      summary=f"256x256 pixels to {tokens} {what}, and back with the help of a caption",
                      config={"num_tokens": tokens, "num_codes": codes, "token_width": width,
                              "encoder_size": VIT_SIZES[encoder]},
                      tiny={**TATITOK_TINY, "num_codes": None if codes is None else 2048})


ENTRIES = [
    _titok("titok-l32", "l", "l", 32, 4096, 12, 641_054_735, legacy=True),
    _titok("titok-b64", "b", "b", 64, 4096, 12, 204_814_095, legacy=True),
    _titok("titok-s128", "s", "s", 128, 4096, 12, 83_674_639, legacy=True),
    _titok("titok-bl64-vq8k", "b", "l", 64, 8192, 64, 390_016_148),
    _titok("titok-bl128-vq8k", "b", "l", 128, 8192, 64, 390_179_988),
    _titok("titok-sl256-vq8k", "s", "l", 256, 8192, 64, 330_260_884),
    _titok("titok-ll32-vae-c16", "l", "l", 32, None, 16, 606_879_604),
    _titok("titok-bl64-vae-c16", "b", "l", 64, None, 16, 389_418_100),
    _titok("titok-bl128-vae-c16", "b", "l", 128, None, 16, 389_581_940),
    _tatitok("b", 32, "vq", 390_800_532),
    _tatitok("b", 64, "vq", 390_882_452),
    _tatitok("b", 128, "vq", 391_046_292),
    _tatitok("b", 32, "vae", 390_202_484),
    _tatitok("b", 64, "vae", 390_284_404),
    _tatitok("s", 128, "vae", 330_275_188),
]
