"""Official names of transformer weights to those of :mod:`photophone.layers.transformer`, under any prefix.

The layouts of timm ("attn.qkv", "mlp.fc1"), of OpenAI's CLIP and torch's MultiheadAttention ("attn.in_proj_weight",
"mlp.c_fc", "ln_1"), of BEiT and EVA ("q_bias", "v_bias", a key bias of zero), of BERT ("attention.self.query") and of
transformers' SigLIP ("self_attn.q_proj", "layer_norm1") do not contradict each other, so one table serves all. Joint
projections are split in queries, and keys and values.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import torch

from photophone.loading.checkpoints import State, rename_keys

JOINT = re.compile(r"^(.*\b)attn\.(?:qkv\.|in_proj_)(weight|bias)$")
BEIT_BIAS = re.compile(r"^(.*\b)attn\.(q_bias|v_bias|zero_k_bias)$")
BERT_SELF = re.compile(r"^(.*\battention\.)self\.(query|key|value)\.(weight|bias)$")
APART = re.compile(r"^(.*\b)self_attn\.([qkv])_proj\.(weight|bias)$")
RULES = [
    (r"\bself_attn\.out_proj\.", "attention.to_out."), (r"\blayer_norm([12])\.", r"norm\1."),
    (r"\battn\.(proj|out_proj)\.", "attention.to_out."),
    (r"\bln_([12])\.", r"norm\1."), (r"\bls([12])\.", r"scale\1."),
    (r"\bmlp\.(fc1|c_fc)\.", "feed_forward.0."), (r"\bmlp\.(fc2|c_proj)\.", "feed_forward.2."),
    (r"\bmlp\.w0\.", "feed_forward.gate."), (r"\bmlp\.w1\.", "feed_forward.up."),
    (r"\bmlp\.w2\.", "feed_forward.down."), (r"\bmlp\.norm\.", "feed_forward.norm."),
    (r"\battention\.output\.dense\.", "attention.to_out."), (r"\battention\.output\.LayerNorm\.", "norm1."),
    (r"\bintermediate\.dense\.", "feed_forward.0."), (r"(?<!embeddings)\boutput\.dense\.", "feed_forward.2."),
    (r"\boutput\.LayerNorm\.", "norm2."),
]


def convert_vit_keys(state: State) -> State:
    """Rename the keys of transformer blocks and split or join their projections; the rest stays."""
    converted: State = {}
    for key, value in state.items():
        joint = JOINT.match(key)
        beit = BEIT_BIAS.match(key)
        bert = BERT_SELF.match(key)
        apart = APART.match(key)
        if joint:
            third = len(value) // 3
            converted[f"{joint[1]}attention.to_q.{joint[2]}"] = value[:third]
            converted[f"{joint[1]}attention.to_kv.{joint[2]}"] = value[third:]
        elif beit and beit[2] == "q_bias":
            converted[f"{beit[1]}attention.to_q.bias"] = value
        elif beit and beit[2] == "v_bias":
            converted[f"{beit[1]}attention.to_kv.bias"] = torch.cat([torch.zeros_like(value), value])
        elif bert and bert[2] == "query":
            converted[f"{bert[1]}to_q.{bert[3]}"] = value
        elif bert and bert[2] == "key":
            partner = state[f"{bert[1]}self.value.{bert[3]}"]
            converted[f"{bert[1]}to_kv.{bert[3]}"] = torch.cat([value, partner])
        elif apart and apart[2] == "q":
            converted[f"{apart[1]}attention.to_q.{apart[3]}"] = value
        elif apart and apart[2] == "k":
            partner = state[f"{apart[1]}self_attn.v_proj.{apart[3]}"]
            converted[f"{apart[1]}attention.to_kv.{apart[3]}"] = torch.cat([value, partner])
        elif not beit and not bert and not apart:
            converted[key] = value
    return rename_keys(converted, RULES)


def split_swiglu_keys(state: State) -> State:
    """SwiGLU as DINOv2 writes it ("mlp.w12", "mlp.w3") to the names of a GatedFeedForward; the rest stays."""
    split: State = {}
    for key, value in state.items():
        if ".mlp.w12." in key:
            gate, other = value.chunk(2)
            split[key.replace(".mlp.w12.", ".feed_forward.gate.")] = gate
            split[key.replace(".mlp.w12.", ".feed_forward.value.")] = other
        else:
            split[key.replace(".mlp.w3.", ".feed_forward.out.")] = value
    return split


def drop_leading_axes(state: State, names: Collection[str]) -> State:
    """Weights whose last name is in ``names`` as ``(rows, width)``: official embeddings have axes of one in front."""
    return {key: value.flatten(0, -2) if key.rpartition(".")[2] in names else value for key, value in state.items()}
