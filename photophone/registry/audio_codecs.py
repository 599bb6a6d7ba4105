"""Codecs of other authors: the data of the registry."""

from __future__ import annotations

from typing import Any

from photophone.registry.entry import ModelEntry

VOCOS = {"kind": "codec", "paper": "2306.00814", "code_licence": "MIT", "weights_licence": "MIT",
         "files": ("pytorch_model.bin",)}
WAVTOKENIZER = {"kind": "codec", "target": "photophone.codecs.wavtokenizer:WavTokenizer", "paper": "2408.16532",
                "code_licence": "MIT", "weights_licence": "MIT",
                "tiny": {"encoder_channels": 4, "encoder_strides": [2, 3, 4], "dim": 16, "lstm_layers": 1,
                         "num_codes": 64, "width": 32, "hidden": 48, "depth": 2}}
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
ENCODEC = {"kind": "codec", "target": "photophone.codecs.encodec:EnCodec", "paper": "2210.13438",
           "code_licence": "Apache-2.0 (transformers)", "weights_licence": "CC BY-NC 4.0, see the hub page",
           "files": ("model.safetensors",)}
ENCODEC_TINY = {"settings": {"num_filters": 4, "upsampling_ratios": [4, 3, 2], "hidden_size": 16, "codebook_size": 32,
                             "target_bandwidths": [80.0], "num_lstm_layers": 1}}
VOCOS_ENCODEC_TINY = {**ENCODEC_TINY, "width": 24, "hidden": 32, "depth": 2, "synthesis_n_fft": 96}
DAC = {"kind": "codec", "target": "photophone.codecs.dac:DAC", "paper": "2306.06546", "weights_licence": "MIT",
       "code_licence": "Apache-2.0 (transformers); MIT (original)", "files": ("model.safetensors",)}
DAC_TINY = {"num_codebooks": 3, "settings": {"encoder_hidden_size": 4, "decoder_hidden_size": 24, "n_codebooks": 3,
                                             "codebook_size": 32, "downsampling_ratios": [2, 5]}}
MIMI = {"kind": "codec", "target": "photophone.codecs.mimi:Mimi", "paper": "2410.00037", "hub_id": "kyutai/mimi",
        "code_licence": "Apache-2.0 (transformers)", "weights_licence": "CC BY 4.0, see the hub page",
        "files": ("model.safetensors",),
        "tiny": {"num_codebooks": 3, "settings": {
            "num_filters": 4, "hidden_size": 16, "upsampling_ratios": [3, 2], "num_hidden_layers": 2,
            "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "upsample_groups": 16,
            "num_quantizers": 3, "codebook_size": 32, "codebook_dim": 8, "sliding_window": 5,
            "vector_quantization_hidden_dimension": 8}}}
STRIDES = {40: [4, 5, 5, 6], 75: [2, 4, 5, 8]}


def _wavtokenizer(name: str, rate: int, owner: str, trained_on: str, *files: str) -> ModelEntry:
    """A published WavTokenizer of ``rate`` codes a second; ``files`` where their names are known."""
    config: dict[str, Any] = {"encoder_strides": STRIDES[rate]}
    return ModelEntry(f"wavtokenizer-{name}-{rate}", config=config, hub_id=f"novateur/{owner}", files=files,
                      summary=f"24 kHz audio to {rate} codes of 4,096 a second; trained on {trained_on}; 74.2 M",
                      **WAVTOKENIZER)


ENTRIES = [
    ModelEntry("vocos-mel-24khz", target="photophone.codecs.vocos:Vocos",
               summary="vocoder of 100 mel bands at 93.75 frames a second; 13.5 M", hub_id="charactr/vocos-mel-24khz",
               tiny={"n_fft": 64, "hop_length": 16, "num_mels": 8, "width": 24, "hidden": 40, "depth": 2}, **VOCOS),
    _wavtokenizer("small", 40, "WavTokenizer", "LibriTTS", "WavTokenizer_small_600_24k_4096.ckpt"),
    _wavtokenizer("small", 75, "WavTokenizer", "LibriTTS", "WavTokenizer_small_320_24k_4096.ckpt"),
    _wavtokenizer("medium-speech", 75, "WavTokenizer-medium-speech-75token", "speech"),
    _wavtokenizer("medium-music-audio", 75, "WavTokenizer-medium-music-audio-75token", "music and audio"),
    _wavtokenizer("large-unify", 40, "WavTokenizer-large-unify-40token", "80,000 h of speech, music and audio",
                  "wavtokenizer_large_unify_600_24k.ckpt"),
    _wavtokenizer("large-speech", 75, "WavTokenizer-large-speech-75token", "speech",
                  "wavtokenizer_large_speech_320_24k.ckpt", "wavtokenizer_large_speech_320_24k_v2.ckpt"),
    ModelEntry("bicodec-spark-tts-0.5b", "codec", "photophone.codecs.bicodec:BiCodec",
               summary="16 kHz speech to 32 voice codes and 50 codes of 8,192 a second; 156 M and wav2vec2's 315 M",
               paper="2503.01710", code_licence="Apache-2.0",
               weights_licence="CC BY-NC-SA 4.0, as users report of the hub page; see it before use",
               config={"features": XLSR}, hub_id="SparkAudio/Spark-TTS-0.5B",
               files=("BiCodec/model.safetensors", "wav2vec2-large-xlsr-53/pytorch_model.bin"), tiny=BICODEC_TINY),
    *(ModelEntry(f"encodec-24khz-{rate}kbps", config={"num_codebooks": books}, hub_id="facebook/encodec_24khz",
                 summary=f"24 kHz audio to 75 frames of {books} codes of 1,024 a second", **ENCODEC,
                 tiny={**ENCODEC_TINY, "num_codebooks": min(books, 16)})
      for rate, books in (("1.5", 2), ("3", 4), ("6", 8), ("12", 16), ("24", 32))),
    *(ModelEntry(f"vocos-encodec-24khz-{rate}kbps", target="photophone.codecs.encodec:VocosEnCodec",
                 config={"num_codebooks": books}, hub_id="charactr/vocos-encodec-24khz", tiny=VOCOS_ENCODEC_TINY,
                 summary=f"EnCodec's {books} codebooks, decoded by Vocos; 7.9 M and EnCodec's", **VOCOS)
      for rate, books in (("1.5", 2), ("3", 4), ("6", 8), ("12", 16))),
    ModelEntry("dac-16khz", summary="16 kHz audio to 50 frames of 12 codes of 1,024 a second", tiny=DAC_TINY,
               config={"num_codebooks": 12, "sample_rate": 16000,
                       "settings": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12}},
               hub_id="descript/dac_16khz", **DAC),
    ModelEntry("dac-24khz", summary="24 kHz audio to 75 frames of 32 codes of 1,024 a second", tiny=DAC_TINY,
               config={"num_codebooks": 32, "sample_rate": 24000,
                       "settings": {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32}},
               hub_id="descript/dac_24khz", **DAC),
    ModelEntry("dac-44khz", summary="44.1 kHz audio to 86 frames of 9 codes of 1,024 a second",
               hub_id="descript/dac_44khz", **DAC,
               tiny={**DAC_TINY, "chunk_frames": 3}),
    ModelEntry("mimi-8", summary="24 kHz speech to 12.5 frames of 8 codes of 2,048 a second, streaming", **MIMI),
    ModelEntry("mimi-32", summary="24 kHz speech to 12.5 frames of 32 codes of 2,048 a second, streaming",
               config={"num_codebooks": 32}, **MIMI),
]
