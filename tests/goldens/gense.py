"""GenSE: SimCodec, both language models, and the chain from a noisy recording to codes of clean speech."""

from __future__ import annotations

import torch
from golden import Golden, System
from torch import Tensor

from photophone.codecs.simcodec.model import SimCodec
from photophone.core.noise import GlobalNoise
from photophone.core.tokens import Tokens
from photophone.generators.gense.condition import GenSESampler, NoisyUnits, TokenChain
from photophone.generators.gense.model import GenSEN2S, GenSES2S
from photophone.generators.gense.units import PADDING, GenSEUnits

system = System("gense")
CODEC = {"en_filters": "encoder_filters", "de_filters": "decoder_filters", "vq_dim": "dim", "upsample_rates": "rates",
         "upsample_kernel_sizes": "kernels", "resblock_kernel_sizes": "block_kernels",
         "resblock_dilation_sizes": "block_dilations", "n_codes": "num_codes", "n_q": "num_layers",
         "n_code_groups": "num_groups", "codebook_loss_lambda": "codebook_weight",
         "commitment_loss_lambda": "commitment"}


def load_codec(golden: Golden, stem: str, settings: str) -> SimCodec:
    config = golden.config[settings]
    if config["channel"] != 1:
        raise ValueError("published codecs are of one channel")
    return golden.load(SimCodec, stem, **{ours: config[theirs] for theirs, ours in CODEC.items()})


@system.part("*_codec_*")
def codec(golden: Golden):
    model, audio = load_codec(golden, "s2s", "codec_config"), golden["in_wav"]
    latents, tokens = model.latents(audio), model.encode(audio)
    output = model.bottleneck(latents)
    return {"mid_codec_enc": latents.transpose(1, 2), "mid_codec_quant": output.values.transpose(1, 2),
            "mid_codec_vq_loss": output.loss[None], "out_codec_codes": tokens.values[..., None],
            "out_codec_embed": model.bottleneck.decode(tokens.values).transpose(1, 2),
            "out_codec_recon": model.decode(tokens)}


@system.part("*_codec2_*")
def grouped_codec(golden: Golden):
    model, audio = load_codec(golden, "simcodec_groups", "codec_groups_config"), golden["in_wav"]
    tokens, output = model.encode(audio), model.bottleneck(model.latents(audio))
    first = tokens.values[:, :model.config.num_groups]
    return {"mid_codec2_quant": output.values.transpose(1, 2), "mid_codec2_vq_loss": output.loss[None],
            "out_codec2_codes": tokens.values.transpose(1, 2), "out_codec2_recon": model.decode(tokens),
            "out_codec2_recon_first_layer": model.decoder(model.bottleneck.decode(first).transpose(1, 2))}


def load_models(golden: Golden) -> tuple[GenSEN2S, GenSES2S]:
    settings, places = golden.config["model"], golden.config["n_positions"]
    sizes = {"num_semantic": settings["semantic_num"], "width": settings["hidden_size"],
             "depth": settings["num_hidden_layers"], "num_heads": settings["num_attention_heads"]}
    num_codes = golden.config["codec_config"]["n_codes"]
    return (golden.load(GenSEN2S, "n2s", **sizes, num_positions=places["n2s"]),
            golden.load(GenSES2S, "s2s", **sizes, num_codes=num_codes, num_positions=places["s2s"]))


def units(golden: Golden) -> Tensor:
    """Of the recorded features, which stand for XLSR."""
    means = golden.state("n2s")["km.emb.weight"]
    model = GenSEUnits(num_units=len(means), width=means.shape[1], depth=1, num_heads=2, hidden=4,
                       convs=[[4, 10, 5]], position_kernel=4, position_groups=2)
    model.means.copy_(means)
    return model.nearest(golden["in_ssl_feat"])


@system.part("out_n2s_logits", "out_s2s_logits")
def logits(golden: Golden):
    made = {}
    for name, model in zip(("n2s", "s2s"), load_models(golden)):
        ids = golden[f"in_{name}_ids"]
        order = torch.arange(ids.shape[1])
        made[f"out_{name}_logits"] = model.network(ids, golden[f"in_{name}_pos"], order <= order[:, None])
    return made


@system.part("out_semantic_tokens", "out_n2s_*_tokens__*", "mid_s2s_*", "out_wav__*", "mid_padded_wav_len")
def chain(golden: Golden):
    n2s, s2s = load_models(golden)
    codec, audio, noisy = load_codec(golden, "s2s", "codec_config"), golden["in_wav"], units(golden)
    made = {"out_semantic_tokens": noisy, "mid_padded_wav_len": torch.tensor([audio.shape[-1] + PADDING])}
    codes = codec.encode(audio).values
    for mode in ("greedy", "sampled"):
        sampler = GenSESampler(temperature=float(mode == "sampled"))
        noises = [golden.noise(exponential=golden[f"in_noise_{name}"]) if mode == "sampled" else GlobalNoise()
                  for name in ("n2s", "s2s")]
        clean = n2s.generate(NoisyUnits(noisy), noise=noises[0], sampler=sampler).values
        condition = TokenChain(noisy, None, clean, codes)
        prompt, places = s2s.prompt(condition, 0)
        tokens = s2s.generate(condition, noise=noises[1], sampler=sampler).values
        made |= {f"out_n2s_noisy_tokens__{mode}": noisy, f"out_n2s_clean_tokens__{mode}": clean[0],
                 f"mid_s2s_prompt__{mode}": prompt[None], f"mid_s2s_prompt_pos__{mode}": places[None],
                 f"mid_s2s_raw_ids__{mode}": tokens[0] + s2s.first_id,
                 f"out_wav__{mode}": codec.decode(Tokens(tokens))[:, 0]}
    return made
