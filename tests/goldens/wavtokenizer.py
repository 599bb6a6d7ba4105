"""WavTokenizer: encoder, codes, decoder, and a training step of the quantizer."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.codecs.wavtokenizer.model import WavTokenizer
from photophone.core.tokens import Tokens

system = System("wavtokenizer")


def load(golden: Golden, **options) -> WavTokenizer:
    settings = golden.settings
    given, backbone = settings["feature_extractor"], settings["backbone"]
    sizes = {"n_filters": 32, "dimension": 512, "lstm": 2} | settings.get("encoder_overrides", {})
    return golden.load(
        WavTokenizer, encoder_channels=sizes["n_filters"], dim=sizes["dimension"], lstm_layers=sizes["lstm"],
        encoder_strides=given["dowmsamples"][::-1], num_codes=given["vq_bins"], width=backbone["dim"],
        hidden=backbone["intermediate_dim"], depth=backbone["num_layers"],
        num_conditions=backbone["adanorm_num_embeddings"], synthesis_n_fft=settings["head"]["n_fft"], **options)


@system.part("mid_*", "out_features*", "out_codes*", "out_audio*")
def codec(golden: Golden):
    model, first, second = load(golden), golden.config["bandwidth_id"], golden.config["bandwidth_id_2"]
    audio, odd = golden["in_wav"][:, None], golden["in_wav_odd"][:, None]
    tokens, odd_tokens, given = model.encode(audio), model.encode(odd), golden["in_codes"][0]
    values = model.bottleneck.decode(tokens.values).transpose(1, 2)
    embedded = model.backbone.embed(values)
    return {"mid_encoder": model.latents(audio).transpose(1, 2), "out_features": values,
            "out_codes": tokens.values[None], "mid_embed": embedded, "mid_posnet": model.backbone.pos_net(embedded),
            "mid_backbone": model.backbone(values, torch.tensor([first])),
            "out_audio": model.decode(tokens, condition=first)[:, 0],
            "out_features_from_codes": model.bottleneck.decode(given).transpose(1, 2),
            "out_audio_from_codes": model.decode(Tokens(given), condition=second)[:, 0],
            "out_codes_odd": odd_tokens.values[None], "out_audio_odd": model.decode(odd_tokens, condition=first)[:, 0]}


@system.part("out_train_*")
def training_step(golden: Golden):
    quantizer = load(golden, commitment=1.0).bottleneck.train()
    output = quantizer(golden["in_train_x"].transpose(1, 2))
    return {"out_train_quantize": output.values.transpose(1, 2), "out_train_codes": output.indices,
            "out_train_loss": output.loss[None], "out_train_embed": quantizer.codebook,
            "out_train_cluster_size": quantizer.cluster_size}
