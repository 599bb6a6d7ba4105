"""Speech units: CosyVoice's supervised tokenizers v1, v1 at 25 Hz and v2, GLM-4-Voice's, and Whisper's mel frames."""

from __future__ import annotations

import re

from golden import Golden, System

from photophone.codecs.speech_units.blocks import WhisperMel
from photophone.codecs.speech_units.glm import GLM4VoiceTokenizer
from photophone.codecs.speech_units.s3 import S3Tokenizer

system = System("speech_units")


def load_s3(golden: Golden, version: str) -> S3Tokenizer:
    module = "s3_v2" if version == "v2" else "s3_v1"
    sizes = golden.config["modules"][module]["cfg"]
    first = {"num_codes": sizes["n_codebook_size"], "memory": None} if module == "s3_v1" else {}
    return golden.load(S3Tokenizer, module, num_mels=sizes["n_mels"], width=sizes["n_audio_state"],
                       depth=sizes["n_audio_layer"], num_heads=sizes["n_audio_head"], max_length=sizes["n_audio_ctx"],
                       strides=[1, 2] if version == "v1" else [2, 2], **first)


def load_glm(golden: Golden) -> GLM4VoiceTokenizer:
    config = GLM4VoiceTokenizer.convert_config(golden.config["modules"]["glm_encoder"]["cfg"])
    return golden.load(GLM4VoiceTokenizer, "glm_encoder", **config)


@system.part("*_v1_*", "*_v1_25hz_*", "*_v2_*")
def s3(golden: Golden):
    made = {}
    for version in ("v1", "v1_25hz", "v2"):
        if f"out_{version}_codes" not in golden:
            continue
        model = load_s3(golden, version)
        states, counts = model.hidden(golden[f"in_mel_{version[:2]}"], golden["in_len"].long())
        codes = model.quantize(states)
        made |= {f"mid_{version}_hidden": states, f"out_{version}_codes": codes, f"out_{version}_len": counts}
        if model.config.num_codes is None:
            made[f"mid_{version}_projected"] = model.to_digits(states)
        else:
            made[f"out_{version}_decode"] = model.codebook[codes].transpose(1, 2)
    return made


@system.part("out_logmel*")
def mels(golden: Golden):
    bands = [int(re.sub(r"\D", "", name)) for name in golden.names("out_logmel*")]
    return {f"out_logmel{count}": WhisperMel(count)(golden["in_wav"][None])[0] for count in bands}


@system.part("*_glm_*")
def glm(golden: Golden):
    model, mel, valid = load_glm(golden), golden["in_glm_mel"], golden["in_glm_mask"].bool()
    states, units = model.states(mel, valid)
    given, _ = model.states(mel, valid, golden["out_glm_ids"])
    return {**{f"mid_glm_hidden{index}": state for index, state in enumerate(states)}, "out_glm_ids": units,
            "out_glm_last_hidden": states[-1], "out_glm_hidden_from_ids": given[-1],
            "out_glm_valid": valid[:, ::2][:, ::model.config.pool].long()}
