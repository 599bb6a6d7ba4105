"""TokenSet's tokenizer: images to a set of 128 codes without an order."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

ENTRIES = [
    ModelEntry("tokenset-128", "image_tokenizer", "photophone.tokenizers.tokenset.model:SetTokenizer",
               "256x256 pixels to a set of 128 codes of 4,096; set_tokenizer_128_4096.pth is linked at "
               "github.com/Gengzigang/TokenSet", "2503.16425", "MIT; parts derive from TiTok (Apache-2.0)",
               "as the code, none stated apart; trained on ImageNet",
               tiny={"image_size": 32, "num_tokens": 8, "token_width": 6, "num_codes": 2048, "encoder_size": [64, 1, 2],
                     "decoder_size": [64, 1, 2], "encoder_patch": 8, "decoder_patch": 2,
                     "pixel_decoder": {"channels": 64, "multipliers": [1, 1], "blocks": 1, "token_width": 8}},
               parameters=203_322_383, figures={"rFID": 2.74},
               figures_on="50,000 pictures of ImageNet's validation set"),
]
