"""X-Codec 2. The features of w2v-bert are an input, so its own weights are random here."""

from __future__ import annotations

import torch
from golden import Golden, System

from photophone.codecs.xcodec2.model import XCodec2
from photophone.core.tokens import Tokens

system = System("xcodec2")


def load(golden: Golden) -> XCodec2:
    encoder, decoder = golden.config["codec_encoder"], golden.config["codec_decoder"]
    width = decoder["hidden_dim"]
    config = {"width": width, "hidden": 4 * width, "depth": decoder["depth"], "num_heads": decoder["heads"],
              "head_width": decoder["pos_meb_dim"], "encoder_width": encoder["ngf"], "ratios": encoder["up_ratios"],
              "semantic": {"hidden_size": golden.config["semantic_hidden_size"], "num_hidden_layers": 1,
                           "num_attention_heads": 1, "intermediate_size": 8}}
    own = "codec.semantic_encoder."
    semantic = {key.removeprefix(own): value for key, value in XCodec2(**config).state_dict().items()
                if key.startswith(own)}
    return golden.load(XCodec2, w2v_bert=semantic, **config)


@system.part("*")
def everything(golden: Golden):
    model = load(golden)
    codec, wave, semantic = model.codec, golden["in_wav"], golden["in_semantic"][:, 0]
    made = {"mid_acoustic": codec.acoustic_encoder(wave).transpose(1, 2),
            "mid_semantic": codec.semantic_adapter(semantic.transpose(1, 2))}
    made["mid_prior"] = codec.fc_encoder(torch.cat([made["mid_semantic"].transpose(1, 2), made["mid_acoustic"]], 2))
    codes = model.quantize(wave, semantic)
    made |= {"out_codes": codes[:, None], "mid_vq_out": codec.quantizer(made["mid_prior"])[0].transpose(1, 2),
             "mid_vq_emb": codec.quantizer.from_codes(codes[..., None])}
    codec.acoustic_decoder.norm.register_forward_hook(lambda *call: made.update(mid_backbone=call[-1]))
    made["out_wav_codes"] = model.decode(Tokens(golden["in_codes"][:, 0].long()))
    made["out_wav"] = model.decode(Tokens(codes))
    attention, x = codec.acoustic_decoder.layers[0].self_attn, golden["in_attn"]
    heads = torch.arange(model.config.num_heads)[None]
    made["mid_attn_out"] = attention(x, position_embeddings=codec.acoustic_decoder.rotary_emb(x, heads))[0]
    return made
