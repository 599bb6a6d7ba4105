"""Captions as states of CLIP's text tower (arXiv 2103.00020), as TA-TiTok and MaskGen read them.

The tower is transformers', which reads the weights of the hub; :func:`tower_of_open_clip` builds it from a state dict
with the names of OpenAI and open_clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from photophone.loading.checkpoints import State, load_strict, rename_keys
from photophone.text.captions import shorten

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase

PAD = 0
"""What follows the end of a caption, as in OpenAI's code: transformers would repeat the end. All places are read."""
KEYS = [(r"^token_embedding\.", "text_model.embeddings.token_embedding."),
        (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
        (r"^ln_final\.", "text_model.final_layer_norm."), (r"^text_projection$", "text_projection.weight"),
        (r"^transformer\.resblocks\.", "text_model.encoder.layers."), (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
        (r"\.ln_([12])\.", r".layer_norm\1."), (r"\.mlp\.c_fc\.", ".mlp.fc1."), (r"\.mlp\.c_proj\.", ".mlp.fc2.")]
"""Patterns of keys of open_clip and what transformers calls them."""
UNUSED = "logit_scale"


class TowerStates(NamedTuple):
    """What a tower makes of B captions of T places.

    Args:
        states: (B, T, D) in front of the last block.
        pooled: (B, D'), the projected state of each caption's end.
        final: (B, T, D) behind the last block and its norm.
    """

    states: Tensor
    pooled: Tensor
    final: Tensor


def tower_of_open_clip(state: State, num_heads: int, activation: str = "quick_gelu") -> CLIPTextModelWithProjection:
    """The tower of a state dict with the names of open_clip, in eval mode.

    Args:
        state: of the text tower alone.
        num_heads: of its attention.
        activation: "quick_gelu" for OpenAI's weights, "gelu" for most others.

    Raises:
        ValueError: keys or shapes that do not fit.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    named = rename_keys({key: value for key, value in state.items() if key != UNUSED}, KEYS)
    made: State = {}
    for key, value in named.items():
        if ".attn.in_proj_" in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                made[key.replace(".attn.in_proj_", f".self_attn.{name}_proj.")] = part
        else:
            made[key] = value.T if key == "text_projection.weight" else value
    vocabulary, width = state["token_embedding.weight"].shape
    depth = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("transformer.resblocks."))
    tower = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=depth, num_attention_heads=num_heads,
        intermediate_size=len(state["transformer.resblocks.0.mlp.c_fc.weight"]), hidden_act=activation,
        max_position_embeddings=len(state["positional_embedding"]), bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1, pad_token_id=PAD, projection_dim=state["text_projection"].shape[1]))
    load_strict(tower, made, "the text tower")
    return tower.eval()


@torch.no_grad()
def tower_states(tower: CLIPTextModelWithProjection, ids: Tensor) -> TowerStates:
    """States of captions Long (B, T), padded behind their end."""
    output = tower(input_ids=ids.to(tower.device), output_hidden_states=True)
    return TowerStates(*(part.float() for part in (output.hidden_states[-2], output.text_embeds,
                                                   output.last_hidden_state)))


def caption_ids(tokenizer: PreTrainedTokenizerBase, captions: list[str], length: int) -> Tensor:
    """Captions with their beginning and end as ids Long (B, length).

    Raises:
        ValueError: a caption of more tokens.
    """
    ids = torch.full((len(captions), length), PAD)
    for row, (caption, found) in enumerate(zip(captions, tokenizer(captions)["input_ids"])):
        if len(found) > length:
            raise ValueError(f"prompt {shorten(caption)!r} has {len(found)} tokens, the model reads {length}; "
                             "shorten it")
        ids[row, :len(found)] = torch.tensor(found)
    return ids
