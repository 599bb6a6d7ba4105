"""Orthus: Chameleon's VQGAN with and without codes, the transformer, the diffusion head and the loop."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.generators.conditions import CaptionIds
from photophone.generators.orthus.model import TOKEN_SCALE, Orthus
from photophone.tokenizers.chameleon.model import ChameleonVQ, OrthusVAE
from photophone.tokenizers.grid import to_grid, to_sequence

system = System("orthus")


def vqgan(golden: Golden, family: type):
    given = golden.settings["chameleon"]["vq_config"]
    codes = {"num_codes": given["num_embeddings"]} if family is ChameleonVQ else {}
    return golden.load(family, image_size=given["resolution"], channels=given["base_channels"],
                       multipliers=given["channel_multiplier"], blocks=given["num_res_blocks"],
                       latent_channels=given["latent_channels"], token_width=given["embed_dim"], **codes)


def load(golden: Golden) -> Orthus:
    ids, given, head = (golden.settings[name] for name in ("sub", "chameleon", "head"))
    return golden.load(
        Orthus, num_tokens=ids["n_tokens"], token_dim=ids["latent_dim"], num_codes=ids["n_codes"],
        first_code=ids["code0"], vocab_size=given["vocab_size"], image_id=ids["image_token"], image_start=ids["boi"],
        image_end=ids["eoi"], turn_end=ids["sep"], width=given["hidden_size"], depth=given["num_hidden_layers"],
        num_heads=given["num_attention_heads"], num_kv_heads=given["num_key_value_heads"],
        hidden=given["intermediate_size"], head_width=head["diffloss_w"], head_depth=head["num_res_blocks"],
        batch_mul=head["diffusion_batch_mul"])


def drawn(golden: Golden, tokens: Tensor) -> Tensor:
    """The image of continuous tokens (1, N, D)."""
    side = round(tokens.shape[1] ** 0.5)
    return vqgan(golden, OrthusVAE).decode_grid(to_grid(tokens, (side, side)))


@system.part("out_vq_*", "out_decode_latents")
def images(golden: Golden):
    latents = vqgan(golden, OrthusVAE).encode_grid(golden["in_image"])
    size, model = latents.shape[2:], vqgan(golden, ChameleonVQ)
    codes = model.bottleneck.encode(to_sequence(latents))
    values = to_grid(model.bottleneck.decode(codes), size)
    return {"out_vq_latents": latents, "out_vq_ids": codes, "out_vq_quant": values,
            "out_vq_recon": model.decode_grid(values), "out_decode_latents": drawn(golden, to_sequence(latents)[:1])}


@system.part("mid_hidden", "out_logits*", "out_head", "mid_alphas_cumprod", "mid_ddim_timesteps")
def states(golden: Golden):
    model = load(golden)
    hidden = model.states(golden["in_ids"], golden["in_latents"])
    ids, mask = golden["in_gen_ids"], golden["in_gen_mask"].bool()
    text = model.states(ids, mask=mask, places=torch.arange(ids.shape[1]).expand_as(ids))
    # padding, which nothing reads, sees itself here and the mean of all there
    text = torch.where(mask[..., None], model.text_head(text), golden["out_logits_text"])
    net = model.token_head.net
    return {"mid_hidden": hidden, "out_logits": model.text_head(hidden), "out_logits_text": text,
            "out_head": net(golden["in_head_x"][:, None], golden["in_head_t"], golden["in_head_c"][:, None])[:, 0],
            "mid_alphas_cumprod": model.token_head.alphas_cumprod().float(),
            "mid_ddim_timesteps": model.token_head.timesteps(100)}


@system.part("out_diff_loss")
def loss(golden: Golden):
    model, ids = load(golden), golden["in_ids"]
    start = int((ids[0] == model.config.image_id).nonzero()[0])
    count, rows = model.config.num_tokens, len(ids)
    hidden = model.states(ids, golden["in_latents"])[:, start - 1:start - 1 + count]
    shape = (model.config.batch_mul, rows, count)  # the whole batch again and again
    noise = golden.noise(integers=[golden["in_noise_t"].view(shape).transpose(0, 1)],
                         normal=[golden["in_noise_eps"].view(*shape, -1).transpose(0, 1)])
    return {"out_diff_loss": model.token_head.loss(hidden, TOKEN_SCALE * golden["in_latents"], noise=noise)[None]}


@system.part("out_gen_*", tolerance=1e-3, relative=True)
def generated(golden: Golden):
    model, ids, mask = load(golden), golden["in_gen_ids"], golden["in_gen_mask"].bool()
    condition = CaptionIds(ids[:1], mask[:1], ids[1, mask[1]])
    noise = golden.noise(normal=list(golden["in_noise_latents"]))
    tokens = model.generate(condition, noise=noise, sampler=model.Sampler(guidance_scale=golden.settings["cfg_scale"]))
    return {"out_gen_latents": tokens.values[0], "out_gen_pixels": drawn(golden, tokens.values)}
