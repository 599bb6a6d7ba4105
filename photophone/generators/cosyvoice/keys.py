"""Official key names of CosyVoice's flow, and ours: a pure function."""

from __future__ import annotations

import torch

from photophone.loading.checkpoints import State, rename_keys

STACK = [
    (r"\.embed\.out\.0\.", ".stack.input_proj."),
    (r"\.embed\.out\.1\.", ".stack.input_norm."),
    (r"\.encoders\.", ".stack.blocks."),
    (r"\.up_embed\.out\.0\.", ".up_stack.input_proj."),
    (r"\.up_embed\.out\.1\.", ".up_stack.input_norm."),
    (r"\.up_encoders\.", ".up_stack.blocks."),
    (r"\.norm_mha\.", ".norm1."),
    (r"\.norm_ff\.", ".norm2."),
    (r"\.self_attn\.linear_(q|k|v|out)\.", r".attention.to_\1."),
    (r"\.self_attn\.linear_pos\.", ".attention.to_position."),
    (r"\.self_attn\.pos_bias_u$", ".attention.content_bias"),
    (r"\.self_attn\.pos_bias_v$", ".attention.position_bias"),
    (r"\.feed_forward\.w_1\.", ".feed_forward.0."),
    (r"\.feed_forward\.w_2\.", ".feed_forward.2."),
    (r"\.after_norm\.", ".norm."),
    (r"\.pre_lookahead_layer\.", ".lookahead."),
    (r"\.up_layer\.conv\.", ".upsample."),
]
UNET = [
    (r"\.(down|up|mid)_blocks\.(\d+)\.0\.", r".\1.\2.resnet."),
    (r"\.(down|up|mid)_blocks\.(\d+)\.1\.(\d+)\.", r".\1.\2.blocks.\3."),
    (r"\.(down|up)_blocks\.(\d+)\.2\.(?:conv\.)?", r".\1.\2.after."),
    (r"\.block\.0\.", ".conv."),
    (r"\.block\.[12]\.", ".norm."),
    (r"\.mlp\.1\.", ".time_proj.1."),
    (r"\.res_conv\.", ".shortcut."),
    (r"\.time_mlp\.linear_1\.", ".time_embed.mlp.0."),
    (r"\.time_mlp\.linear_2\.", ".time_embed.mlp.2."),
    (r"\.attn1\.", ".attention."),
    (r"\.norm3\.", ".norm2."),
    (r"\.ff\.net\.0\.proj\.", ".feed_forward.0."),
    (r"\.ff\.net\.2\.", ".feed_forward.2."),
]
DIT = [
    (r"\.time_embed\.time_mlp\.", ".time_embed.mlp."),
    (r"\.input_embed\.proj\.", ".input_proj."),
    (r"\.input_embed\.conv_pos_embed\.conv1\.0\.", ".position.0."),
    (r"\.input_embed\.conv_pos_embed\.conv2\.0\.", ".position.2."),
    (r"\.transformer_blocks\.", ".blocks."),
    (r"\.attn_norm\.linear\.", ".modulation.1."),
    (r"\.attn\.", ".attention."),
    (r"\.ff\.ff\.0\.0\.", ".feed_forward.0."),
    (r"\.ff\.ff\.2\.", ".feed_forward.2."),
    (r"\.norm_out\.linear\.", ".final_layer.adaLN_modulation.1."),
    (r"\.proj_out\.", ".final_layer.linear."),
]


def convert_flow_keys(state: State) -> State:
    """Official keys of one of the three flows to those of :class:`photophone.generators.cosyvoice.flow.CosyVoiceFlow`.

    Keys and values of the U-Net's attention become one matrix, and the last modulation of the DiT changes the order of
    its halves.

    Raises:
        ValueError: two keys became one.
    """
    merged: State = {}
    for key, value in state.items():
        if key.endswith("norm_out.linear.weight") or key.endswith("norm_out.linear.bias"):
            scale, shift = value.chunk(2)
            merged[key] = torch.cat([shift, scale])
        elif key.endswith(".attn1.to_k.weight"):
            merged[key.replace("to_k", "to_kv")] = torch.cat([value, state[key.replace("to_k", "to_v")]])
        elif not key.endswith(".attn1.to_v.weight"):
            merged[key] = value
    return rename_keys(merged, [
        (r"^input_embedding\.", "speech_embedding."),
        (r"^spk_embed_affine_layer\.", "speaker_proj."),
        (r"^encoder_proj\.", "encoder.proj."),
        (r"^length_regulator\.", "encoder.regulator."),
        (r"^pre_lookahead_layer\.", "encoder.lookahead."),
        (r"^encoder\.(?=embed|encoders|after_norm|up_|pre_lookahead_layer)", "encoder.conformer."),
        (r"^decoder\.estimator\.", "estimator."),
        *STACK, *(UNET if any(".down_blocks." in key for key in state) else DIT),
        (r"\.to_out\.0\.", ".to_out."),
    ])



def original_stack_keys(place: str, numbered_norms: bool = False) -> list[tuple[str, str]]:
    """Rules from our keys of a Conformer or of a transformer with relative positions to the authors'.

    Args:
        place: its name.
        numbered_norms: norms are called as here, as in the transformer.
    """
    block = rf"^({place}\..*)"
    norms = [] if numbered_norms else [(rf"{block}\.norm1\.", r"\1.norm_mha."), (rf"{block}\.norm2\.", r"\1.norm_ff.")]
    return [
        *norms,
        (rf"^({place})\.norm\.", r"\1.after_norm."),
        (rf"^({place})\.(up_)?stack\.input_proj\.", r"\1.\2embed.out.0."),
        (rf"^({place})\.(up_)?stack\.input_norm\.", r"\1.\2embed.out.1."),
        (rf"^({place})\.(up_)?stack\.blocks\.", r"\1.\2encoders."),
        (rf"{block}\.attention\.to_(q|k|v|out)\.", r"\1.self_attn.linear_\2."),
        (rf"{block}\.attention\.to_position\.", r"\1.self_attn.linear_pos."),
        (rf"{block}\.attention\.content_bias$", r"\1.self_attn.pos_bias_u"),
        (rf"{block}\.attention\.position_bias$", r"\1.self_attn.pos_bias_v"),
        (rf"{block}\.feed_forward\.0\.", r"\1.feed_forward.w_1."),
        (rf"{block}\.feed_forward\.2\.", r"\1.feed_forward.w_2."),
    ]


ORIGINAL = [
    (r"^speech_embedding\.", "input_embedding."),
    (r"^speaker_proj\.", "spk_embed_affine_layer."),
    (r"^token_encoder\.proj\.", "encoder_proj."),
    (r"^token_encoder\.regulator\.", "length_regulator."),
    (r"^token_encoder\.conformer\.", "encoder."),
    (r"^velocity_net\.", "decoder.estimator."),
    (r"^encoder\.lookahead\.", "encoder.pre_lookahead_layer."),
    (r"^encoder\.upsample\.", "encoder.up_layer.conv."),
    *original_stack_keys("encoder"),
    (r"\.time_embed\.mlp\.0\.", ".time_mlp.linear_1."),
    (r"\.time_embed\.mlp\.2\.", ".time_mlp.linear_2."),
    (r"\.(down|mid|up)\.(\d+)\.resnet\.", r".\1_blocks.\2.0."),
    (r"\.(down|mid|up)\.(\d+)\.blocks\.(\d+)\.", r".\1_blocks.\2.1.\3."),
    (r"\.(down|up)\.(\d+)\.after\.", r".\1_blocks.\2.2."),
    (r"\.(block[12]|final_block)\.conv\.", r".\1.block.0."),
    (r"\.(block[12]|final_block)\.norm\.", r".\1.block.2."),
    (r"\.time_proj\.1\.", ".mlp.1."),
    (r"\.shortcut\.", ".res_conv."),
    (r"^(decoder\..*)\.norm2\.", r"\1.norm3."),
    (r"^(decoder\..*)\.attention\.to_out\.", r"\1.attn1.to_out.0."),
    (r"^(decoder\..*)\.attention\.", r"\1.attn1."),
    (r"^(decoder\..*)\.feed_forward\.0\.", r"\1.ff.net.0.proj."),
    (r"^(decoder\..*)\.feed_forward\.2\.", r"\1.ff.net.2."),
]
"""Our keys of the flows with a U-Net, and the authors' of version 2."""
FIRST = [
    (r"\.(block[12]|final_block)\.block\.2\.", r".\1.block.1."),
    (r"\.(down|up)_blocks\.0\.2\.", r".\1_blocks.0.2.conv."),
]
"""Of version 1: its convolutions are not causal, and the first of its two levels changes the length."""
THIRD = [
    (r"^speech_embedding\.", "input_embedding."),
    (r"^speaker_proj\.", "spk_embed_affine_layer."),
    (r"^token_encoder\.lookahead\.", "pre_lookahead_layer."),
    (r"^velocity_net\.", "decoder.estimator."),
    (r"\.time_embed\.mlp\.", ".time_embed.time_mlp."),
    (r"\.input_proj\.", ".input_embed.proj."),
    (r"\.position\.0\.", ".input_embed.conv_pos_embed.conv1.0."),
    (r"\.position\.2\.", ".input_embed.conv_pos_embed.conv2.0."),
    (r"\.blocks\.", ".transformer_blocks."),
    (r"\.modulation\.1\.", ".attn_norm.linear."),
    (r"\.attention\.to_out\.", ".attn.to_out.0."),
    (r"\.attention\.", ".attn."),
    (r"\.feed_forward\.0\.", ".ff.ff.0.0."),
    (r"\.feed_forward\.2\.", ".ff.ff.2."),
    (r"\.final_layer\.adaLN_modulation\.1\.", ".norm_out.linear."),
    (r"\.final_layer\.linear\.", ".proj_out."),
]
"""The same of version 3, whose estimator is a DiT."""
ROTARY = "decoder.estimator.rotary_embed.inv_freq"
"""Constants of version 3 that its files hold."""


def original_flow_keys(state: State) -> State:
    """Our keys to those of the flows of CosyVoice 1, 2 and 3."""
    if any(key.startswith("velocity_net.final_layer.") for key in state):
        made = rename_keys(state, THIRD)
        for key, value in made.items():
            if ".norm_out.linear." in key:
                shift, scale = value.chunk(2)
                made[key] = torch.cat([scale, shift])
        return made
    first = any(key.startswith("token_encoder.regulator.") for key in state)
    made = {}
    for key, value in rename_keys(state, [*ORIGINAL, *(FIRST if first else ())]).items():
        if key.endswith(".attn1.to_kv.weight"):
            for part, rows in zip("kv", value.chunk(2), strict=True):
                made[key.replace("to_kv", f"to_{part}")] = rows.clone()
        else:
            made[key] = value
    return made
