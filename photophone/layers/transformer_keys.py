"""Official key names of transformer blocks, and ours."""

from __future__ import annotations

from photophone.loading.checkpoints import State, rename_keys


def convert_vit_block_keys(state: State) -> State:
    """Blocks of timm's Vision Transformer to :class:`photophone.layers.transformer.TransformerBlock`.

    The fused ``attn.qkv`` is split into queries, and keys with values; all other keys stay as they are.

    Raises:
        ValueError: two keys became one.
    """
    split: State = {}
    for key, value in state.items():
        stem, found, kind = key.rpartition(".attn.qkv.")
        if not found:
            split[key] = value
            continue
        width = len(value) // 3
        split[f"{stem}.attention.to_q.{kind}"], split[f"{stem}.attention.to_kv.{kind}"] = value[:width], value[width:]
    return rename_keys(split, [
        (r"\.attn\.proj\.", ".attention.to_out."),
        (r"\.mlp\.fc1\.", ".feed_forward.0."),
        (r"\.mlp\.fc2\.", ".feed_forward.2."),
    ])
