"""VAR's tokenizer, images to codes on several scales, and HART's, which keeps what they leave over."""

from __future__ import annotations

from photophone.loading.entry import AS_CODE, ModelEntry

VAR_VQ = {"kind": "image_tokenizer", "target": "photophone.tokenizers.var_vq.model:VARTokenizer", "paper": "2404.02905",
          "code_licence": "MIT", "weights_licence": f"{AS_CODE}; trained on OpenImages",
          "hub_id": "FoundationVision/var", "files": ("vae_ch160v4096z32.pth",),
          "tiny": {"image_size": 16, "channels": 32, "multipliers": [1, 2, 2], "blocks": 1, "token_width": 8,
                   "num_codes": 64, "scales": [1, 2, 4], "num_phis": 2}}
VAR_VQ16 = {"channels": 160, "multipliers": [1, 1, 2, 2, 4], "blocks": 2, "token_width": 32, "num_codes": 4096,
            "num_phis": 4}
ENTRIES = [
    ModelEntry("var-vq16-256", summary="256x256 pixels to 680 codes of 4,096 on ten scales", **VAR_VQ,
               config={**VAR_VQ16, "image_size": 256, "scales": [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]},
               parameters=108_948_355),
    ModelEntry("var-vq16-512", summary="512x512 pixels to 2,240 codes of 4,096 on ten scales", **VAR_VQ,
               config={**VAR_VQ16, "image_size": 512, "scales": [1, 2, 3, 4, 6, 9, 13, 18, 24, 32]},
               parameters=108_948_355),
    ModelEntry("hart-vq16-1024", "image_tokenizer", "photophone.tokenizers.var_vq.hybrid:HARTTokenizer",
               "1024x1024 pixels to 9,451 continuous tokens of 32 dimensions on fourteen scales; scales are inferred",
               "2410.10812", "MIT", f"{AS_CODE}; trained on OpenImages",
               config={**VAR_VQ16, "image_size": 1024,
                       "scales": [1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64]},
               hub_id="mit-han-lab/hart-0.7b-1024px", files=("tokenizer/pytorch_model.bin",), tiny=VAR_VQ["tiny"],
               training_name="hart-vq", parameters=108_948_355),
]
