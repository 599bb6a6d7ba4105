"""Audio tokenizers of transformers without a family of their own here: NeuCodec, those of Pocket TTS and VibeVoice."""

from __future__ import annotations

from typing import Any

from photophone.loading.entry import ModelEntry

WRAPPED: dict[str, Any] = {"kind": "codec",
                           "target": "photophone.codecs.transformers_codec.model:TransformersCodec",
                           "code_licence": "Apache-2.0 (transformers)", "files": ("model.safetensors",)}
NEUCODEC_TINY = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                 "num_key_value_heads": 2, "head_dim": 16, "encoder_hidden_size": 2, "quantization_levels": [4, 4, 4],
                 "quantization_dim": 48,
                 "semantic_model_config": {"model_type": "wav2vec2-bert", "hidden_size": 16, "num_hidden_layers": 1,
                                           "num_attention_heads": 2, "intermediate_size": 16}}
POCKET_TINY = {"hidden_size": 16, "num_filters": 4, "upsampling_ratios": [3, 2], "upsample_groups": 16,
               "num_hidden_layers": 1, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2,
               "latent_stride": 2, "latent_dim": 6, "sliding_window": 5}
VIBEVOICE_TINY = {"hidden_size": 6, "num_filters": 4, "downsampling_ratios": [2, 3], "depths": [1, 1, 1]}
ENTRIES = [
    ModelEntry("neucodec", summary="16 kHz speech to 50 codes of 65,536 a second, and those to 24 kHz",
               paper="2509.09550", weights_licence="Apache-2.0, see the hub page", hub_id="neuphonic/neucodec",
               config={"model_type": "neucodec"}, **WRAPPED, tiny={"settings": NEUCODEC_TINY}, parameters=629_937_706),
    ModelEntry("pocket-tts-audio-tokenizer", summary="24 kHz speech to 12.5 continuous tokens of 32 channels a second",
               paper="2509.06926", weights_licence="CC BY 4.0, see the hub page",
               hub_id="eustlb/pocket-tts-audio-tokenizer", config={"model_type": "pocket_tts_audio_tokenizer"},
               **WRAPPED, tiny={"settings": POCKET_TINY}, parameters=20_054_337),
    ModelEntry("vibevoice-acoustic-tokenizer",
               summary="24 kHz speech to 7.5 continuous tokens of 64 channels a second", paper="2508.19205",
               weights_licence="MIT, see the hub page", hub_id="microsoft/VibeVoice-AcousticTokenizer",
               config={"model_type": "vibevoice_acoustic_tokenizer"}, **WRAPPED, tiny={"settings": VIBEVOICE_TINY},
               parameters=687_392_001),
]
