"""Speech units that language models of speech read: CosyVoice's supervised tokenizers and GLM-4-Voice's."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import ModelEntry

S3 = "photophone.codecs.speech_units.s3:S3Tokenizer"
FIRST = {"num_codes": 4096, "memory": None}
TINY_S3 = {"num_mels": 8, "width": 16, "depth": 1, "num_heads": 2, "max_length": 100}
TINY_FIRST = {**TINY_S3, "num_codes": 32}


def _s3(name: str, summary: str, paper: str, hub_id: str, file: str, parameters: int, config: dict[str, Any],
        tiny: dict[str, Any]) -> ModelEntry:
    """One release of the tokenizer, which the authors publish as an ONNX file."""
    return ModelEntry(name, "features", S3, summary, paper, "Apache-2.0", "Apache-2.0 as the hub page states",
                      config=config, hub_id=hub_id, files=(file,), tiny=tiny, parameters=parameters)


CLASSES = {"campplus": "photophone.codecs.speech_units.campplus:CAMPlusSpeaker",
           "speakers": "photophone.codecs.speech_units.speakers:NamedSpeakers"}
ENTRIES = [
    _s3("s3-tokenizer-v1", "16 kHz speech to 50 units of 4,096 a second, what CosyVoice 1 reads voices with",
        "2407.05407", "FunAudioLLM/CosyVoice-300M", "speech_tokenizer_v1.onnx", 123_473_920,
        {**FIRST, "strides": [1, 2]}, TINY_FIRST),
    _s3("s3-tokenizer-v1-25hz", "16 kHz speech to 25 units of 4,096 a second", "2407.05407",
        "FunAudioLLM/CosyVoice-300M-25Hz", "speech_tokenizer_v1.onnx", 123_473_920, FIRST, TINY_FIRST),
    _s3("s3-tokenizer-v2", "16 kHz speech to 25 units of 6,561 a second, what CosyVoice 2 reads voices with",
        "2412.10117", "FunAudioLLM/CosyVoice2-0.5B", "speech_tokenizer_v2.onnx", 123_722_248, {}, TINY_S3),
    _s3("s3-tokenizer-v3", "16 kHz speech to 25 units of 6,561 a second, what CosyVoice 3 reads voices with",
        "2505.17589", "FunAudioLLM/Fun-CosyVoice3-0.5B-2512", "speech_tokenizer_v3.onnx", 242_024_968,
        {"depth": 12}, TINY_S3),
    ModelEntry("glm-4-voice-tokenizer", "features", "photophone.codecs.speech_units.glm:GLM4VoiceTokenizer",
               "16 kHz speech to 12.5 units of 16,384 a second, what GLM-4-Voice reads", "2412.02612", "Apache-2.0",
               "the GLM-4-Voice licence; see it before use", hub_id="THUDM/glm-4-voice-tokenizer",
               files=("model.safetensors",), parameters=322_648_320,
               tiny={"num_mels": 8, "width": 16, "depth": 2, "num_heads": 2, "hidden": 32, "max_length": 64,
                     "pool_after": 1, "pool": 2, "quantize_after": 2, "block": 8, "num_codes": 32}),
    ModelEntry("hubert-base-km500", "features", "photophone.codecs.speech_units.hubert:HubertUnits",
               "16 kHz speech to 50 units of 500 a second, what VoxInstruct reads voices with", "2106.07447",
               "Apache-2.0 (transformers)", "Apache-2.0 as the hub page states; of the centres none stated apart",
               hub_id="facebook/hubert-base-ls960", files=("pytorch_model.bin",), parameters=73_107_328,
               tiny={"layer": 2, "num_codes": 10,
                     "settings": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24,
                                  "conv_dim": [8, 8], "conv_kernel": [6, 3], "conv_stride": [4, 2],
                                  "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}}),
]
