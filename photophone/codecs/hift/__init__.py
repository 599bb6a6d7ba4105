"""HiFT: the vocoder of CosyVoice 1, 2 and 3, and of GLM-4-Voice."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import ModelEntry

PARAMETERS = {"1": 20_460_591, "2": 20_821_295, "3": 20_779_887}
PAPERS = {"1": "2407.05407", "2": "2412.10117", "3": "2505.17589"}
RELEASES = (("cosyvoice-300m", "1", "FunAudioLLM/CosyVoice-300M", ""),
            ("cosyvoice-300m-25hz", "1", "FunAudioLLM/CosyVoice-300M-25Hz", ", half as many tokens"),
            ("cosyvoice-300m-sft", "1", "FunAudioLLM/CosyVoice-300M-SFT", ", fine-tuned on some speakers"),
            ("cosyvoice-300m-instruct", "1", "FunAudioLLM/CosyVoice-300M-Instruct", ", follows instructions"),
            ("cosyvoice2-0.5b", "2", "FunAudioLLM/CosyVoice2-0.5B", ""),
            ("cosyvoice3-0.5b", "3", "FunAudioLLM/Fun-CosyVoice3-0.5B-2512", ""))
THREE = [[1, 3, 5]] * 3
VOCODERS: dict[str, dict[str, Any]] = {
    "1": {"sample_rate": 22050, "rates": [8, 8], "kernels": [16, 16], "source_kernels": [7, 11],
          "source_dilations": THREE[:2], "phase": "sample", "mel_n_fft": 1024},
    "2": {},
    "3": {"causal": True, "phase": "frame", "uniform_noise": True, "mel_f_max": None},
}
TINY_VOCODER = {"num_mels": 8, "channels": 16, "rates": [4, 2], "kernels": [8, 4], "block_kernels": [3, 5],
                "block_dilations": [[1, 3], [1, 2]], "source_kernels": [3, 3], "source_dilations": [[1], [1]],
                "pitch_channels": 8, "harmonics": 2, "mel_n_fft": 128}


def _entry(name: str, version: str, hub_id: str, variant: str) -> ModelEntry:
    """The vocoder of one release."""
    return ModelEntry(f"{name}-hift", "codec", "photophone.codecs.hift.model:HiFT",
                      f"mel frames to speech, vocoder of CosyVoice {version}{variant}", PAPERS[version], "Apache-2.0",
                      "Apache-2.0 as the hub page states", config=VOCODERS[version], hub_id=hub_id, files=("hift.pt",),
                      tiny=TINY_VOCODER, parameters=PARAMETERS[version])


GLM4VOICE = ModelEntry(
    "glm4voice-hift", "codec", "photophone.codecs.hift.model:HiFT", "mel frames to speech, vocoder of GLM-4-Voice",
    "2412.02612", "Apache-2.0", "the GLM-4 licence by the hub page", config=VOCODERS["1"],
    hub_id="zai-org/glm-4-voice-decoder", files=("hift.pt",), tiny=TINY_VOCODER, parameters=PARAMETERS["1"])
ENTRIES = [*(_entry(*release) for release in RELEASES), GLM4VOICE]
