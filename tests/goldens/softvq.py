"""SoftVQ-VAE, MAETok and the KL variant; SiT and DiT on their tokens."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import nn

from photophone.generators.sit.model import DiT, LatentDiT, SiT
from photophone.layers.flow import PATHS
from photophone.layers.latent_vit import LatentEncoder
from photophone.layers.normal import normal_kl
from photophone.layers.vit_keys import convert_vit_keys, drop_leading_axes
from photophone.loading.checkpoints import load_strict, rename_keys
from photophone.quantizers.gaussian import mean_and_logvar
from photophone.tokenizers.softvq.model import SoftVQTokenizer
from photophone.training.losses.alignment import alignment_loss

system = System("softvq")
VIT_SIZES = ("embed_dim", "depth", "num_heads")
system.skip("out_softvq_usage", reason="a display of the official training run, not part of the model")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def tokenizer_config(golden: Golden, name: str, kind: str) -> dict:
    """Our arguments of the official ModelArgs ``name``."""
    args, sizes = golden.settings[name], golden.settings["timm_overrides"]
    rope = args.get("use_rope", False) and args.get("rope_mixed", False)
    drop = args.get("enc_token_drop", 0.0)
    return {"image_size": args["image_size"], "num_tokens": args["num_latent_tokens"], "kind": kind,
            "token_width": args["codebook_embed_dim"], "encoder_patch": args["enc_patch_size"],
            "decoder_patch": args["dec_patch_size"], "num_codewords": args["codebook_size"],
            "num_codebooks": args.get("num_codebooks", 1), "tau": args.get("tau", 0.07),
            "l2_norm": args.get("codebook_l2_norm", True), "entropy_weight": args.get("entropy_loss_ratio", 0.01),
            "kl_weight": args.get("kl_loss_weight", 1e-6), "rope_theta": args["rope_theta"] if rope else None,
            "decoder_class_token": args.get("dec_cls_token", True),
            "drop_patches": [drop, args.get("enc_token_drop_max", 0.6)] if drop else None,
            **{f"{part}_size": [sizes[args[f"{part}_model"]][size] for size in VIT_SIZES]
               for part in ("encoder", "decoder")}}


@system.part("mid_softvq_*", "out_softvq_*")
def softvq(golden: Golden):
    model = golden.load(SoftVQTokenizer, "softvq", **tokenizer_config(golden, "softvq", "soft_vq"))
    encoded = model.encoder(golden["in_image"])
    hidden = model.to_latent(encoded)
    values = model.encode(golden["in_image"]).values
    similarity = model.bottleneck.similarity(hidden)  # (B, N, K)
    shares = (similarity / model.config.tau).softmax(-1)
    rows, books = len(hidden), model.config.num_codebooks
    best = shares.argmax(-1).unflatten(1, (books, -1)).transpose(0, 1)  # (Q, B, N/Q)
    trained = model.bottleneck.train()(hidden)
    return {"mid_softvq_enc": encoded, "mid_softvq_h": hidden, "out_softvq_quant": values,
            # theirs mixes rows and codebooks in this view
            "out_softvq_indices": best.reshape(rows, books, -1), "out_softvq_avg_probs": shares.mean(),
            "out_softvq_max_probs": shares.max(-1).values.mean(),
            "out_softvq_cos": torch.cosine_similarity(hidden, values, dim=-1).mean(),
            "out_softvq_recon": model.reconstruct(values), "out_softvq_forward": model.eval()(golden["in_image"]).media,
            "out_softvq_train_quant": trained.values, "out_softvq_train_entropy_loss": trained.loss,
            **({"out_softvq_repa_loss": repa(golden, values)} if golden.settings["softvq"].get("repa") else {})}


def repa(golden: Golden, values: torch.Tensor) -> torch.Tensor:
    """The alignment loss, with the teacher and the projection that lie in the checkpoint."""
    args = golden.settings["softvq"]
    size = [golden.settings["timm_overrides"][args["repa_model"]][name] for name in VIT_SIZES]
    state = golden.state("softvq")
    teacher = {key.removeprefix("repa_model."): value for key, value in state.items() if key.startswith("repa_model.")}
    teacher = rename_keys(convert_vit_keys(drop_leading_axes(teacher, ("cls_token", "pos_embed"))), [
        (r"^cls_token$", "class_token"), (r"^pos_embed$", "positions"), (r"^norm\.", "norm_out."),
        (r"^patch_embed\.proj\.", "patch_embed.")])
    network = LatentEncoder(*size, patch=args["repa_patch_size"], num_latents=0, norm_eps=1e-6, feed_forward="gelu",
                            layer_scale=1.0, grid=args["image_size"] // args["repa_patch_size"]).eval()
    empty = torch.zeros(0, size[0])
    load_strict(network, {**teacher, "latent_tokens": empty, "latent_positions": empty})
    projection = nn.Sequential(nn.Linear(values.shape[-1], args["repa_proj_dim"]), nn.SiLU(),
                               nn.Linear(args["repa_proj_dim"], args["repa_proj_dim"]), nn.SiLU(),
                               nn.Linear(args["repa_proj_dim"], size[0]))
    load_strict(projection, {key.removeprefix("projection."): value for key, value in state.items()
                             if key.startswith("projection.")})
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in IMAGENET)
    images = ((golden["in_image"] + 1) / 2 - mean) / std
    cells = network.patch_embed(images).flatten(2).transpose(1, 2)
    features = network.run(cells, network.latent_tokens.expand(len(images), -1, -1))[0]
    return args["repa_loss_weight"] * alignment_loss(values, features, projection, args["repa_align"])


@system.part("out_maetok_*")
def maetok(golden: Golden):
    model = golden.load(SoftVQTokenizer, "maetok", **tokenizer_config(golden, "maetok", "none"))
    latents = model.encode(golden["in_image"]).values
    return {"out_maetok_latents": latents, "out_maetok_recon": model.reconstruct(latents),
            "out_maetok_forward": model(golden["in_image"]).media}


@system.part("out_kl_*")
def kl(golden: Golden):
    model = golden.load(SoftVQTokenizer, "kl", **tokenizer_config(golden, "kl", "gaussian"))
    images = golden["in_image"]
    mean, logvar = mean_and_logvar(model.latents(images))
    return {"out_kl_mean": mean, "out_kl_logvar": logvar, "out_kl_kl": normal_kl(mean, logvar).sum(dim=(1, 2)),
            "out_kl_sample": model.encode(images, golden.noise(normal=[golden["in_noise_kl_000_randn"]])).values,
            "out_kl_recon_mode": model.reconstruct(mean), "out_kl_loss": model(images).loss}


def network(golden: Golden, family: type[LatentDiT], name: str) -> LatentDiT:
    """A generator with its official weights."""
    args = golden.settings[name]
    return golden.load(family, name, num_tokens=args["input_size"], token_dim=args["in_channels"],
                       num_classes=args["num_classes"], width=args["hidden_size"], depth=args["depth"],
                       num_heads=args["num_heads"])


@system.part("out_sit_v", "mid_sit_block*", "out_siloss_*")
def sit(golden: Golden):
    model = network(golden, SiT, "sit")
    x, t, labels = golden["in_latents"], golden["in_t"], golden["in_y"]
    made = {"out_sit_v": model.predict(x, t, labels)}
    made |= {name: model.hidden(x, t, labels, int(name.removeprefix("mid_sit_block")))[0]
             for name in golden.names("mid_sit_block*")}
    for name in golden.names("out_siloss_*"):
        path, weighting = name.split("_")[-2:]
        draws = [golden[key] for key in golden.names(f"in_noise_siloss_{path}_{weighting}_*")]
        kinds = {"uniform": draws[:1], "normal": draws[1:]} if weighting == "uniform" else {"normal": draws}
        made[name] = model.loss_per_row(labels, x, golden.noise(**kinds), path, weighting)
    return made


@system.part("out_sit_sample_*", "out_sit_image_*", tolerance=1e-4)
def sit_samples(golden: Golden):
    model = network(golden, SiT, "sit")

    def sample(kind: str, scale: float, low: float, high: float, path: str = "linear", draws: str = "none"):
        noise = golden.noise(normal=[golden[key] for key in golden.names(f"in_noise_sit_{draws}_*")])
        sampler = model.Sampler(num_inference_steps=golden.settings["num_steps"], guidance_scale=scale,
                                guidance_from=low, guidance_until=high, solver=kind)
        return model.integrate(golden["in_latents"], golden["in_y"], noise, sampler, PATHS[path])

    ode = sample("euler", 1.75, 0.0, 0.7)
    tokenizer = golden.load(SoftVQTokenizer, "softvq", **tokenizer_config(golden, "softvq", "soft_vq"))
    return {"out_sit_sample_ode": ode, "out_sit_sample_heun": sample("heun", 2.0, 0.2, 1.0),
            "out_sit_sample_nocfg": sample("euler", 1.0, 0.0, 1.0),
            "out_sit_sample_sde_linear": sample("sde", 1.5, 0.0, 0.8, "linear", "sde_linear"),
            "out_sit_sample_sde_cosine": sample("sde", 1.0, 0.0, 1.0, "cosine", "sde_cosine"),
            "out_sit_image_ode": tokenizer.reconstruct(ode.float())}


@system.part("out_dit")
def dit(golden: Golden):
    model = network(golden, DiT, "dit")
    return {"out_dit": model.predict(golden["in_latents"], golden["in_dit_t"], golden["in_dit_y"])}
