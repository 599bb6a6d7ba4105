"""ALIT on a KL autoencoder."""

from __future__ import annotations

import alit
import mar
from golden import Golden, System

from photophone.core.noise import ReplayNoise
from photophone.quantizers.gaussian import mean_and_logvar
from photophone.tokenizers.alit.model import ALIT
from photophone.tokenizers.grid import to_grid, to_sequence

system = System("alit_vae")
SCALING = 0.2325


def load(golden: Golden) -> ALIT:
    vae = golden.settings["vae"]
    levels = len(vae["ch_mult"])
    base = {"channels": vae["ch"], "multipliers": vae["ch_mult"], "blocks": vae["num_res_blocks"],
            "latent_width": vae["embed_dim"], "scaling": SCALING,
            "encoder_attention_levels": mar.attention_levels(levels, vae["resolution"], [16])}
    return golden.load(ALIT, base="kl", base_config=base, **alit.shared_config(golden.settings["alit"]))


def replay(golden: Golden, scope: str) -> ReplayNoise:
    return golden.noise(normal=[to_sequence(golden[f"in_noise_{scope}_000_randn"])])


@system.part("out_vae_*")
def base(golden: Golden):
    model = load(golden)
    moments = model.base.encode_grid(golden["in_image"])
    size = moments.shape[2:]
    mean, logvar = (to_grid(part, size) for part in mean_and_logvar(to_sequence(moments)))
    return {"out_vae_mean": mean, "out_vae_logvar": logvar, "out_vae_decode_mean": model.base.decode_grid(mean)}


@system.part("mid_encoder_iter0", "out_latent_tokens_*", "out_quant_indices_*", "out_code_*", "out_recon_*",
             "out_halting_is_noop_diff")
def passes(golden: Golden):
    model, images = load(golden), alit.images_of(golden)
    cells, truth = model.cells(images, replay(golden, "fwd"))
    begun = model.encoder.advance(model.encoder.begin(cells))
    made = {"mid_encoder_iter0": begun}
    for step, found in enumerate(model.passes(images, replay(golden, "fwd"))):
        output = model.bottleneck(found.hidden)
        code = model.draw_cells(output.values)
        made |= {f"out_latent_tokens_{step}": found.states, f"out_quant_indices_{step}": output.indices,
                 f"out_code_{step}": code, f"out_recon_{step}": alit.pixels(model.cell_pixels(code))}
        if step == 1:  # what the second pass read is the first one's sequence, with no cell at rest
            again = model.encoder.latents_of(model.encoder.advance(model.encoder.grow(begun, 1)))
            made["out_halting_is_noop_diff"] = (again - found.states).abs().max()
    return made


@system.part("out_encode_*")
def lengths(golden: Golden):
    model, images = load(golden), alit.images_of(golden)
    tokens = model.shortest(images, 0.0, replay(golden, "enc_best"))
    found = list(model.passes(images, replay(golden, "enc_best")))[model.steps_of(int(tokens.lengths[0])) - 1]
    return {"out_encode_best_embed": found.states,
            "out_encode_best_recon": alit.pixels(model.reconstruct(model.bottleneck.decode(tokens.values)))}


@system.part("out_pretrain_*")
def distillation(golden: Golden):
    total, parts = load(golden).distillation(alit.images_of(golden), replay(golden, "pre_train"))
    return {"out_pretrain_total_loss": total, **{f"out_pretrain_code_{step}": part["code"]
                                                 for step, part in enumerate(parts)}}
