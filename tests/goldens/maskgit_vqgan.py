"""MaskGIT-VQGAN of bytedance/1d-tokenizer."""

from __future__ import annotations

from golden import Golden, System

from photophone.tokenizers.grid import to_grid, to_sequence
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN

system = System("maskgit_vqgan")


def vqgan_config(constants: dict) -> dict:
    """Our arguments of the official constants "pixel_vqgan"."""
    return {"channels": constants["hidden_channels"], "multipliers": constants["channel_mult"],
            "blocks": constants["num_res_blocks"], "token_width": constants["z_channels"],
            "num_codes": constants["num_embeddings"]}


@system.part("*")
def vqgan(golden: Golden):
    config = vqgan_config(golden.settings["patched_constants"]["pixel_vqgan"])
    model = golden.load(MaskGITVQGAN, image_size=2 ** (len(config["multipliers"]) - 1), **config)
    images = golden["in_image"] * 2 - 1  # theirs are in [0, 1]
    features = model.encode_grid(images)
    size = features.shape[2:]
    output = model.bottleneck(to_sequence(features))
    values = to_grid(model.bottleneck.decode(output.indices), size)
    pixels = (model.decode_grid(values) + 1) / 2
    return {"mid_encoder": features, "out_codes": output.indices, "out_quantize_loss": output.loss, "mid_zq": values,
            "mid_decoder_raw": pixels, "out_decode": pixels.clamp(0, 1), "out_decode_tokens": pixels.clamp(0, 1)}
