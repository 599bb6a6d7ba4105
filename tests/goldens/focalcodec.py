"""FocalCodec: the offline model in both key formats, and the causal model whole and in pieces."""

from __future__ import annotations

import re

import torch
from golden import Golden, System
from torch import Tensor
from torch.nn import functional

from photophone.codecs.focalcodec.model import FocalCodec, nearest
from photophone.core.tokens import Tokens

system = System("focalcodec")
STEMS = {"offline": "weights", "offline_v001": "weights_v001", "causal": "causal"}


def load(golden: Golden, name: str) -> FocalCodec:
    config = golden.config.get(name) or golden.config["offline"]  # one config may serve both releases
    return golden.load(FocalCodec, STEMS[name], **FocalCodec.convert_config(config))


def told(golden: Golden, name: str, option: str, default: int) -> int:
    """A number of the recorded call, as config.json describes it."""
    found = re.search(rf"{option}=(\d+)", golden.config["io"].get(name, ""))
    return int(found[1]) if found else default


def fit(audio: Tensor, length: int) -> Tensor:
    """Cut, or repeat the last sample, as the official forward does."""
    return functional.pad(audio, (0, max(0, length - audio.shape[-1])), mode="replicate")[..., :length]


@system.part("mid_c_*", "out_c_*")
def causal(golden: Golden):
    model = load(golden, "causal")
    wave = golden["in_sig_causal"]
    tokens = model.encode(wave[:, None])
    features = model.encoder(wave)
    places = torch.arange(golden["mid_c_bias"].shape[1])
    return {"mid_c_feats": features, "mid_c_lats": functional.normalize(model.compressor(features), dim=-1),
            "out_c_toks": tokens.values, "mid_c_qfeats": model.features(tokens),
            "out_c_sig": model.decode(tokens)[:, 0],
            "mid_c_bias": model.encoder.encoder.position_bias(places, places)}


@system.part("out_s_*")
def streamed(golden: Golden):
    model = load(golden, "causal")
    wave = golden["in_sig_causal"]
    size = golden.config["stream_chunks"] * model.stream_chunk * model.hop_length
    features, tokens, audio = [], [], []
    with model.streaming(len(wave)):
        for piece in wave.split(size, dim=-1):
            features.append(model.encoder(piece))
            values = model.bottleneck.encode(model.compressor(features[-1]))
            tokens.append(values)
            audio.append(model.decode(Tokens(values))[:, 0])
    return {"out_s_feats": torch.cat(features, 1), "out_s_toks": torch.cat(tokens, 1), "out_s_sig": torch.cat(audio, 1)}


@system.part("out_toks_len", "mid_feats_len")
def padded(golden: Golden):
    """The official mask holds for the attention only; ours goes on to the compressor, so the parts are called here."""
    model = load(golden, "offline" if golden.path().is_file() else "offline_v001")
    states = model.encoder.convolve(golden["in_sig"])
    frames = (golden["in_length"] * states.shape[1]).ceil().long().clamp(max=states.shape[1])
    features = model.encoder.encoder(states, frames)
    return {"mid_feats_len": features, "out_toks_len": model.bottleneck.encode(model.compressor(features))}


@system.part("*")
def offline(golden: Golden):
    """The same weights under the names of one release or of both; both must make the same."""
    names = [name for name in ("offline", "offline_v001") if golden.path(STEMS[name]).is_file()]
    first, *others = [whole(golden, load(golden, name)) for name in names]
    for other in others:
        for name, value in first.items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=1e-6)
    return first


def whole(golden: Golden, model: FocalCodec) -> dict[str, Tensor]:
    wave = golden["in_sig"]
    tokens = model.encode(wave[:, None])
    features = model.encoder(wave)
    audio = model.decode(tokens)[:, 0]
    quantized, converted = model.features(tokens), {}
    if "in_matching_set" in golden:
        voice, count = golden["in_matching_set"], told(golden, "out_sig_knn", "topk", 4)
        converted = {"out_sig_knn": model.decode(tokens, voice=voice, neighbours=count)[:, 0],
                     "out_knn": nearest(quantized, voice, told(golden, "out_knn", "topk", 3))}
    return {"mid_feats": features, "mid_lats": functional.normalize(model.compressor(features), dim=-1),
            "out_toks": tokens.values, "out_codes": model.bottleneck.decode(tokens.values), "mid_qfeats": quantized,
            "out_sig": audio, "out_fwd_sig": fit(audio, wave.shape[-1]),
            **converted}
