"""BAR's tokenizer: SigLIP 2, bits, and the decoder."""

from __future__ import annotations

from golden import Golden, System

from photophone.kernels.pack import pack_levels
from photophone.quantizers.fsq import unpack_levels
from photophone.tokenizers.bar.model import AlignedBARTokenizer

system = System("bar_tokenizer")


@system.part("mid_*", "out_*")
def images(golden: Golden):
    given = golden.settings
    siglip, tiny, vq, image = given["siglip"], given["tiny"], given["vq_model"], golden["in_image"]
    bits = vq["token_size"]
    model = golden.load(
        AlignedBARTokenizer, image_size=given["crop_size"], siglip_width=siglip["hidden_size"],
        siglip_depth=siglip["num_hidden_layers"], siglip_heads=siglip["num_attention_heads"],
        siglip_hidden=siglip["intermediate_size"], siglip_positions=siglip["num_patches"], token_bits=bits,
        width=tiny["width"], depth=tiny["num_layers"], num_heads=tiny["num_heads"],
        projector_width=tiny["projector_width"], align_depth=vq["clip_align_layer_id"] + 1)
    features = model.latents(image)
    output = model.bottleneck(features)
    codes = pack_levels(golden["in_tokens"].unflatten(1, (-1, bits)), [2] * bits)
    return {"mid_embedded": model.encoder.embed(image), "mid_features": features,
            "mid_clip_gt": model.frozen_features(image), "out_bits": unpack_levels(output.indices, [2] * bits),
            "out_quantized": output.values, "out_decoded": model.reconstruct(output.values),
            "out_clip_pred": model.guessed_features(output.values),
            "out_decode_tokens": model.reconstruct(model.bottleneck.decode(codes))}
