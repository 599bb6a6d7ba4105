"""Keys of Kyutai's own files of Mimi, as they lie beside its language models, to those of transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from photophone.loading.checkpoints import State, rename_keys

KYUTAI = re.compile(r"^(?:encoder|decoder)\.model\.")
"""Keys that only such a file has."""
PACKED = re.compile(r"\.in_proj(?:_weight|s\.0\.weight)$")
RULES = [(r"(?:\.conv){2,3}\.", ".conv."), (r"(?:\.convtr){2,3}\.", ".conv."),
         (r"^(encoder|decoder)\.model\.", r"\1.layers."),
         (r"^((?:en|de)coder_transformer)\.transformer\.", r"\1."), (r"\.linear(\d)\.", r".mlp.fc\1."),
         (r"\.self_attn\.out_proj(?:s\.0)?\.", ".self_attn.o_proj."), (r"\.norm1\.", ".input_layernorm."),
         (r"\.norm2\.", ".post_attention_layernorm."), (r"\.layer_scale_1\.", ".self_attn_layer_scale."),
         (r"\.layer_scale_2\.", ".mlp_layer_scale."),
         (r"^quantizer\.rvq_first\.(?:vq\.)?", "quantizer.semantic_residual_vector_quantizer."),
         (r"^quantizer\.rvq_rest\.(?:vq\.)?", "quantizer.acoustic_residual_vector_quantizer."),
         (r"\._codebook\.", ".codebook."), (r"\._initialized$", ".initialized"), (r"\.embedding_sum$", ".embed_sum")]


def is_kyutai(state: Mapping[str, Tensor]) -> bool:
    """Whether a table has the keys of Kyutai's own code."""
    return any(KYUTAI.match(key) for key in state)


def halves_first(weight: Tensor, num_heads: int) -> Tensor:
    """Rows of queries or keys whose rotary pairs are neighbours, put in the order of halves: all first ones of a head,
    then all second ones."""
    return weight.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def from_kyutai(state: State, settings: Mapping[str, Any]) -> State:
    """Kyutai's tensors to those of transformers.

    Args:
        state: with Kyutai's keys.
        settings: arguments of transformers' MimiConfig.
    """
    heads = settings.get("num_attention_heads", 8)
    split: State = {}
    for key, value in state.items():
        match = PACKED.search(key)
        if match is None:
            split[key] = value
            continue
        queries, keys, values = value.chunk(3)
        for name, part in (("q", halves_first(queries, heads)), ("k", halves_first(keys, heads)), ("v", values)):
            split[f"{key[:match.start()]}.{name}_proj.weight"] = part
    return rename_keys(split, RULES)
