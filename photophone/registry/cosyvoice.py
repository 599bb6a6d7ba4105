"""CosyVoice 1, 2 and 3: token-to-mel flows and vocoders."""

from __future__ import annotations

from typing import Any

from photophone.registry.entry import Chain, ModelEntry

PAPERS = {"1": "2407.05407", "2": "2412.10117", "3": "2505.17589"}
SHARED = {"code_licence": "Apache-2.0", "weights_licence": "Apache-2.0 as the hub page states"}
THREE = [[1, 3, 5]] * 3

FLOWS: dict[str, dict[str, Any]] = {
    "1": {"vocab_size": 4096, "input_dim": 512, "token_rate": 50, "encoder": "regulated", "estimator": "unet",
          "estimator_config": {"channels": [256, 256]}},
    "2": {"vocab_size": 6561, "input_dim": 512, "token_rate": 25, "encoder": "upsample", "fixed_noise": True,
          "encoder_config": {"chunk": 25}, "estimator": "unet",
          "estimator_config": {"channels": [256], "causal": True, "chunk": 50}},
    "3": {"vocab_size": 6561, "input_dim": 80, "token_rate": 25, "encoder": "lookahead", "fixed_noise": True,
          "estimator": "dit", "estimator_config": {"chunk": 50}},
}
UNET = {"in_channels": 32, "out_channels": 8, "num_blocks": 1, "num_mid_blocks": 1, "num_heads": 2, "head_dim": 8}
CONFORMER = {"dim": 16, "num_heads": 2, "hidden": 32, "depth": 1}
TINY = {"vocab_size": 40, "input_dim": 8, "mel_dim": 8, "speaker_dim": 12, "fixed_noise": False}
TINY_FLOWS: dict[str, dict[str, Any]] = {
    "1": {**TINY, "encoder_config": {**CONFORMER, "regulator_depth": 2},
          "estimator_config": {**UNET, "channels": [16, 16]}},
    "2": {**TINY, "encoder_config": {**CONFORMER, "up_depth": 1, "chunk": 3},
          "estimator_config": {**UNET, "channels": [16], "causal": True, "chunk": 6}},
    "3": {**TINY, "encoder_config": {"hidden": 16},
          "estimator_config": {"dim": 32, "depth": 2, "num_heads": 2, "head_dim": 16, "mel_dim": 8, "mu_dim": 8,
                               "speaker_dim": 8, "chunk": 6}},
}
VOCODERS: dict[str, dict[str, Any]] = {
    "1": {"sample_rate": 22050, "rates": [8, 8], "kernels": [16, 16], "source_kernels": [7, 11],
          "source_dilations": THREE[:2], "phase": "sample", "mel_n_fft": 1024},
    "2": {},
    "3": {"causal": True, "phase": "frame", "uniform_noise": True, "mel_f_max": None},
}
TINY_VOCODER = {"num_mels": 8, "channels": 16, "rates": [4, 2], "kernels": [8, 4], "block_kernels": [3, 5],
                "block_dilations": [[1, 3], [1, 2]], "source_kernels": [3, 3], "source_dilations": [[1], [1]],
                "pitch_channels": 8, "harmonics": 2, "mel_n_fft": 128}
RELEASES = (("cosyvoice-300m", "1", "FunAudioLLM/CosyVoice-300M", ""),
            ("cosyvoice-300m-sft", "1", "FunAudioLLM/CosyVoice-300M-SFT", ", fine-tuned on some speakers"),
            ("cosyvoice-300m-instruct", "1", "FunAudioLLM/CosyVoice-300M-Instruct", ", follows instructions"),
            ("cosyvoice2-0.5b", "2", "FunAudioLLM/CosyVoice2-0.5B", ""),
            ("cosyvoice3-0.5b", "3", "FunAudioLLM/Fun-CosyVoice3-0.5B-2512", ""))


def _entries(name: str, version: str, hub_id: str, variant: str) -> list[ModelEntry]:
    """The flow and the vocoder of one release."""
    shared = {"paper": PAPERS[version], "hub_id": hub_id, **SHARED}
    chain = Chain({"flow": f"{name}-flow", "hift": f"{name}-hift"},
                  {"num_inference_steps": 10, "guidance_scale": 1.7}, pipeline="TokenToSpeechPipeline")
    return [
        ModelEntry(f"{name}-flow", "generator", "photophone.generators.cosyvoice_flow:CosyVoiceFlow",
                   f"speech tokens at {FLOWS[version]['token_rate']} Hz to mel frames, CosyVoice {version}{variant}",
                   config=FLOWS[version], tiny=TINY_FLOWS[version], files=("flow.pt",), chain=chain, **shared),
        ModelEntry(f"{name}-hift", "codec", "photophone.codecs.hift:HiFT",
                   f"mel frames to speech, vocoder of CosyVoice {version}{variant}",
                   config=VOCODERS[version], tiny=TINY_VOCODER, files=("hift.pt",), **shared),
    ]


ENTRIES = [entry for release in RELEASES for entry in _entries(*release)]
