"""BiCodec, the codec of Spark-TTS: codes of the voice, then codes of what it says."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

BICODEC_TINY_NET = {"width": 24, "hidden": 32, "depth": 1}
BICODEC_TINY = {
    "features": {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24,
                 "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True, "conv_dim": [8, 8],
                 "conv_kernel": [6, 3], "conv_stride": [4, 2], "num_conv_pos_embeddings": 4,
                 "num_conv_pos_embedding_groups": 2},
    "feature_layers": [1, 2, 3], "reference_seconds": 0.02,
    "mel": {"n_fft": 64, "window_length": 40, "hop_length": 16, "f_min": 10.0, "num_mels": 8},
    "speaker": {"channels": 16, "dim": 12, "latent_dim": 8, "num_tokens": 3, "levels": [4, 4]},
    "semantic": {"in_channels": 16, "out_channels": 12, **BICODEC_TINY_NET},
    "prenet_config": {"in_channels": 12, "out_channels": 12, "condition_dim": 12, **BICODEC_TINY_NET},
    "postnet_config": {"in_channels": 12, "out_channels": 16, **BICODEC_TINY_NET},
    "wave": {"in_channels": 12, "channels": 16, "strides": [4, 2], "kernel_sizes": [8, 4]}, "num_codes": 64}
XLSR = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
"""Arguments of transformers' Wav2Vec2Config that differ from its defaults for wav2vec2-large-xlsr-53."""
ENTRIES = [
    ModelEntry("bicodec-spark-tts-0.5b", "codec", "photophone.codecs.bicodec.model:BiCodec",
               summary="16 kHz speech to 32 voice codes and 50 codes of 8,192 a second; 156 M and wav2vec2's 315 M",
               paper="2503.01710", code_licence="Apache-2.0",
               weights_licence="CC BY-NC-SA 4.0, as users report of the hub page; see it before use",
               config={"features": XLSR}, hub_id="SparkAudio/Spark-TTS-0.5B",
               files=("BiCodec/model.safetensors", "wav2vec2-large-xlsr-53/pytorch_model.bin"), tiny=BICODEC_TINY,
               parameters=471_768_068, figures_on="LibriSpeech test-clean",
               figures={"UTMOS": 4.18, "STOI": 0.92, "PESQ (narrow band)": 3.13, "PESQ": 2.51}),
]
