"""UniTok: tokens, images, and the vectors of the contrastive head."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.tokenizers.unitok.model import UniTokCLIP, code_shares, update_usage

system = System("unitok")
system.skip("out_forward_entropy_loss", reason="off in every release (le = 0): a constant")


def model_config(settings: dict) -> dict:
    """Our arguments of the official ``args`` and of the sizes that replace its fixed ones."""
    args, sizes = settings["args"], settings["patched_constants"]
    return {"image_size": args["img_size"], "widths": sizes["embed_dim"], "stem_width": sizes["stem_width"],
            "conv_depths": sizes["depths"][:2], "depth": sizes["vit_depth"], "num_heads": sizes["vit_heads"],
            "decoder_widths": sizes["decoder_embed_dims"], "decoder_depths": sizes["decoder_depths"],
            "token_width": args["vocab_width"], "num_codebooks": args["num_codebooks"],
            "num_codes": args["vocab_size"] // args["num_codebooks"], "commitment": args["vq_beta"],
            "text_width": args["text_width"], "text_heads": args["text_heads"], "text_layers": args["text_layers"],
            "text_vocab_size": args["text_vocab_size"], "text_length": args["text_context_length"],
            "embed_dim": args["embed_dim"]}


@system.part("*")
def unitok(golden: Golden):
    model = golden.load(UniTokCLIP, **model_config(golden.settings))
    images, books = golden["in_image"], model.bottleneck
    features = model.features(images)
    latents = model.to_latent(features)
    output = books(latents)
    codes = books.decode(output.indices)
    hidden = model.from_latent(codes)
    drawn = model.draw(hidden)
    shares = code_shares(output.indices, books.codebook_size)
    decoded = len(golden["out_forward_img_rec"])
    return {"mid_stem": model.stem.stem(images), "mid_backbone": model.stem(images), "mid_encoder": features,
            "mid_quant_proj": latents, "out_indices": output.indices, "mid_codes": codes,
            "mid_post_quant_proj": hidden, "mid_decoder_raw": drawn, "out_idx_to_img": drawn.clamp(-1, 1),
            "out_idx_to_img_in_indices": model.reconstruct(books.decode(golden["in_indices"])).clamp(-1, 1),
            "out_img_to_reconstructed_img": model.reconstruct(output.values).clamp(-1, 1),
            "out_encode_image": model.encode_image(images), "out_encode_text": model.encode_text(golden["in_text"]),
            "out_encode_image_normalized": model.encode_image(images, normalize=True),
            "out_forward_clip_image_features": model.encode_image(images, normalize=True),
            "out_forward_clip_text_features": model.encode_text(golden["in_text"], normalize=True),
            "out_forward_img_rec": model.reconstruct(output.values[:decoded]),
            "out_forward_logit_scale": model.logit_scale.exp(), "out_forward_vq_loss": output.loss,
            "out_forward_codebook_usages": 100 * output.metrics["used_share"],
            "out_vocab_usage_after_two_forwards": update_usage(update_usage(torch.zeros_like(shares), shares, 0),
                                                               shares, 1)}
