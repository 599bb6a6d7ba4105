"""ARRA: the three losses, and the states that are aligned."""

from __future__ import annotations

from golden import Golden, System

from photophone.generators.arra.model import AlignedARRA

system = System("arra")
HIDDEN_IDS = [10, 11]
"""What the recorded losses leave out of the softmax; the recorded logits do not, and the config does not name it."""


@system.part("mid_*", "out_*")
def everything(golden: Golden):
    given = golden.settings
    text, shape = given["text"], given["chameleon"]
    model = golden.load(
        AlignedARRA, num_tokens=given["image_tokens"], num_codes=8, vocab_size=text["vocab_size"], image_start=14,
        image_end=15, width=text["hidden_size"], depth=text["num_hidden_layers"], num_heads=text["num_attention_heads"],
        num_kv_heads=text["num_key_value_heads"], hidden=text["intermediate_size"], eps=shape["rms_norm_eps"],
        rotary_base=shape["rope_theta"], norm_rows=1, post_norm=shape["swin_norm"], feature_dim=given["feature"],
        align_depth=given["layer"], z_weight=given["z_loss_weight"], hidden_ids=HIDDEN_IDS)
    early = model.early_states(golden["in_ids"])
    parts = model.losses(golden["in_ids"], golden["in_labels"])
    alignment = model.alignment_loss(golden["in_ids"], golden["in_features"])
    return {"mid_hidden": early, "mid_projected": model.adaptor(early), "out_ce": parts["ce"],
            "out_logits": model.text_head(model.states(golden["in_ids"])), "out_z_loss": parts["z"],
            "out_alignment": alignment, "out_total": parts["ce"] + model.config.z_weight * parts["z"] + alignment}
