"""CosyVoice 1, 2 and 3: text to speech tokens; and with GLM-4-Voice: these to mel frames by flow matching."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import Chain, ModelEntry

LEFT_CHUNKS = 2
"""Pieces of a stream before its own that speech sees beside the recording of the voice."""
PARAMETERS = {"1": 104_874_752, "1-25hz": 104_874_752, "2": 112_549_360, "3": 332_257_088, "glm4voice": 111_166_208}
PAPERS = {"1": "2407.05407", "1-25hz": "2407.05407", "2": "2412.10117", "3": "2505.17589", "glm4voice": "2412.02612"}
RELEASES = (("cosyvoice-300m", "1", "FunAudioLLM/CosyVoice-300M", ""),
            ("cosyvoice-300m-25hz", "1-25hz", "FunAudioLLM/CosyVoice-300M-25Hz", ", half as many tokens"),
            ("cosyvoice-300m-sft", "1", "FunAudioLLM/CosyVoice-300M-SFT", ", fine-tuned on some speakers"),
            ("cosyvoice-300m-instruct", "1", "FunAudioLLM/CosyVoice-300M-Instruct", ", follows instructions"),
            ("cosyvoice2-0.5b", "2", "FunAudioLLM/CosyVoice2-0.5B", ""),
            ("cosyvoice3-0.5b", "3", "FunAudioLLM/Fun-CosyVoice3-0.5B-2512", ""))
FLOWS: dict[str, dict[str, Any]] = {
    "1": {"vocab_size": 4096, "input_dim": 512, "token_rate": 50, "encoder": "regulated", "estimator": "unet",
          "estimator_config": {"channels": [256, 256]}},
    "1-25hz": {"vocab_size": 4096, "input_dim": 512, "token_rate": 25, "encoder": "regulated", "estimator": "unet",
               "estimator_config": {"channels": [256, 256]}},
    "2": {"vocab_size": 6561, "input_dim": 512, "token_rate": 25, "encoder": "upsample", "fixed_noise": True,
          "encoder_config": {"chunk": 25}, "estimator": "unet",
          "estimator_config": {"channels": [256], "causal": True, "chunk": 50}},
    "3": {"vocab_size": 6561, "input_dim": 80, "token_rate": 25, "encoder": "lookahead", "fixed_noise": True,
          "estimator": "dit", "estimator_config": {"chunk": 50}},
    "glm4voice": {"vocab_size": 16384, "input_dim": 512, "token_rate": 12.5, "encoder": "blocks", "fixed_noise": True,
                  "reseeded": True, "warped_times": True, "max_prefix": 0.8, "estimator": "unet",
                  "estimator_config": {"channels": [256, 256], "soft_padding": True}},
}
UNET = {"in_channels": 32, "out_channels": 8, "num_blocks": 1, "num_mid_blocks": 1, "num_heads": 2, "head_dim": 8}
CONFORMER = {"dim": 16, "num_heads": 2, "hidden": 32, "depth": 1}
TINY = {"vocab_size": 40, "input_dim": 8, "mel_dim": 8, "speaker_dim": 12, "fixed_noise": False}
TINY_FLOWS: dict[str, dict[str, Any]] = {
    "1": {**TINY, "encoder_config": {**CONFORMER, "regulator_depth": 2},
          "estimator_config": {**UNET, "channels": [16, 16]}},
    "glm4voice": {**TINY, "encoder_config": {**CONFORMER, "regulator_depth": 2, "block": 4},
                  "estimator_config": {**UNET, "channels": [16, 16], "soft_padding": True}},
    "2": {**TINY, "encoder_config": {**CONFORMER, "up_depth": 1, "chunk": 3},
          "estimator_config": {**UNET, "channels": [16], "causal": True, "chunk": 6}},
    "3": {**TINY, "encoder_config": {"hidden": 16},
          "estimator_config": {"dim": 32, "depth": 2, "num_heads": 2, "head_dim": 16, "mel_dim": 8, "mu_dim": 8,
                               "speaker_dim": 8, "chunk": 6}},
}


TINY_FLOWS["1-25hz"] = TINY_FLOWS["1"]


def _entry(name: str, version: str, hub_id: str, variant: str) -> ModelEntry:
    """The flow of one release."""
    return ModelEntry(f"{name}-flow", "generator", "photophone.generators.cosyvoice.flow:CosyVoiceFlow",
                      f"speech tokens at {FLOWS[version]['token_rate']} Hz to mel frames, "
                      f"CosyVoice {version[0]}{variant}",
                      PAPERS[version], "Apache-2.0", "Apache-2.0 as the hub page states", config=FLOWS[version],
                      hub_id=hub_id, files=("flow.pt",), tiny=TINY_FLOWS[version],
                      tiny_sampler={"num_inference_steps": 2}, parameters=PARAMETERS[version],
                      chain=Chain({"flow": f"{name}-flow"}, ("hift", f"{name}-hift"),
                                  {"num_inference_steps": 10, "guidance_scale": 1.7},
                                  pipeline="TokenToSpeechPipeline"))


LMS: dict[str, dict[str, Any]] = {
    "1": {"vocab_size": 51866, "max_length": 10000}, "1-25hz": {"vocab_size": 60515, "max_length": 10000},
    "2": {}, "3": {"num_specials": 200, "own_specials": False},
}
LM_PARAMETERS = {"1": 310_718_465, "1-25hz": 315_146_753, "2": 505_803_812, "3": 506_148_480}
TINY_QWEN = {"vocab_size": 64, "num_tokens": 40, "width": 32, "depth": 2, "num_heads": 4, "num_kv_heads": 2,
             "hidden": 48, "mix": [2, 4], "max_length": 200}
TINY_LMS: dict[str, dict[str, Any]] = {
    "1": {"vocab_size": 64, "text_dim": 16, "num_tokens": 40, "speaker_dim": 12, "width": 32, "depth": 2,
          "num_heads": 4, "hidden": 48, "text_encoder": {"dim": 24, "num_heads": 2, "hidden": 32, "depth": 1},
          "max_length": 200},
    "2": TINY_QWEN, "3": {**TINY_QWEN, "num_specials": 10},
}
TINY_LMS["1-25hz"] = TINY_LMS["1"]
UNITS = {"1": "v1", "1-25hz": "v1-25hz", "2": "v2", "3": "v3"}
WHISPER = "openai/whisper-large-v3"
"""Whose vocabulary CosyVoice 1 at 50 Hz reads text with."""


def _lm(name: str, version: str, hub_id: str, variant: str) -> ModelEntry:
    """The language model of one release."""
    first = version.startswith("1")
    module, owner = ("relative_lm", "CosyVoiceRelativeLM") if first else ("qwen_lm", "CosyVoiceQwenLM")
    vocabulary = {"1": WHISPER, "1-25hz": None}.get(version, hub_id)
    chain = Chain({"llm": name, "flow": f"{name}-flow", "units": f"s3-tokenizer-{UNITS[version]}"},
                  ("hift", f"{name}-hift"), {}, pipeline="TextToSpeechPipeline", text_tokenizer=vocabulary)
    return ModelEntry(name, "generator", f"photophone.generators.cosyvoice.{module}:{owner}",
                      f"text to speech tokens at {FLOWS[version]['token_rate']} Hz, CosyVoice {version[0]}{variant}",
                      PAPERS[version], "Apache-2.0", "Apache-2.0 as the hub page states", config=LMS[version],
                      hub_id=hub_id, files=("llm.pt",), tiny=TINY_LMS[version], parameters=LM_PARAMETERS[version],
                      chain=chain,
                      tiny_sampler={"min_ratio": 2.0, "max_ratio": 2.0, "all_stops": True},
                      training_name=f"cosyvoice{version[0]}-lm")


GLM4VOICE = ModelEntry(
    "glm4voice-flow", "generator", "photophone.generators.cosyvoice.flow:CosyVoiceFlow",
    "speech tokens at 12.5 Hz to mel frames, GLM-4-Voice", PAPERS["glm4voice"], "Apache-2.0",
    "the GLM-4 licence by the hub page", config=FLOWS["glm4voice"], hub_id="zai-org/glm-4-voice-decoder",
    files=("flow.pt",), tiny=TINY_FLOWS["glm4voice"], tiny_sampler={"num_inference_steps": 2},
    parameters=PARAMETERS["glm4voice"],
    chain=Chain({"flow": "glm4voice-flow"}, ("hift", "glm4voice-hift"),
                {"num_inference_steps": 10, "guidance_scale": 1.7}, pipeline="TokenToSpeechPipeline"))
ENTRIES = [*(_entry(*release) for release in RELEASES), GLM4VOICE, *(_lm(*release) for release in RELEASES)]
