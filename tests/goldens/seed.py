"""SEED: the image's transformer, the causal Q-Former, codes, and the embedding of unCLIP."""

from __future__ import annotations

from golden import Golden, System

from photophone.tokenizers.seed.model import SEEDTokenizer

system = System("seed")


@system.part("mid_*", "out_*")
def everything(golden: Golden):
    given = golden.settings
    vit, bert, own = given["vit"], given["bert"], given["tokenizer"]
    model = golden.load(
        SEEDTokenizer, image_size=vit["img_size"], patch=vit["patch_size"], vision_width=vit["embed_dim"],
        vision_depth=vit["depth"], vision_heads=vit["num_heads"],
        vision_hidden=int(vit["embed_dim"] * vit["mlp_ratio"]), width=bert["hidden_size"],
        depth=bert["num_hidden_layers"], num_heads=bert["num_attention_heads"], hidden=bert["intermediate_size"],
        token_width=own["codebook_embed_dim"], num_codes=own["n_embed"], decode_depth=own["decode_depth"],
        embedding_dim=own["image_features_dim"])
    seen, states = model.see(golden["in_image"]), model.understand(golden["in_image"])
    latents = model.latents(golden["in_image"])
    output = model.bottleneck(latents)
    decode = model.bottleneck.decode
    return {"mid_vit": seen, "mid_ln_vision": model.vision_norm(seen), "mid_qformer": states, "mid_down": latents,
            "mid_quant": output.values, "out_vq_loss": output.loss[None], "out_ids": output.indices,
            "out_up": model.from_code(output.values), "out_image_embeds": model.embed(decode(golden["in_indices"])),
            "out_image_embeds_roundtrip": model.embed(decode(output.indices)),
            "mid_recon_s": model.meaning(output.values),
            "out_recon_s_loss": model.meaning_loss(states, output.values)[None]}
