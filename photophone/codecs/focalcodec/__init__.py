"""FocalCodec: one binary code a frame, whole clips or streaming."""

from __future__ import annotations

from photophone.loading.entry import ModelEntry

TINY_FOCAL = {"conv_dims": (8, 8, 8), "conv_kernels": (10, 3, 2), "conv_strides": (5, 2, 2), "width": 16,
              "hidden": 24, "depth": 2, "num_heads": 2, "num_buckets": 32, "max_distance": 80, "conv_pos": 8,
              "conv_pos_groups": 4, "attention_window": 12, "code_bits": 6, "vocoder_width": 16, "vocoder_hidden": 24,
              "vocoder_depth": 2, "n_fft": 64}
OFFLINE = {**TINY_FOCAL, "compressor_dims": (16, 12, 8), "decompressor_dims": (8, 12, 16), "vocoder_hop": 20}
CAUSAL = {**TINY_FOCAL, "compressor_dims": (16, 12), "downscale_factors": (1, 1), "decompressor_dims": (12, 16),
          "upscale_factors": (1, 1), "compressor_span": 9, "decompressor_span": 9, "last_span": 7, "vocoder_hop": 30}
APACHE = {"code_licence": "Apache-2.0", "weights_licence": "Apache-2.0"}


def focal(rate: str, parameters: int, down: tuple[int, ...], up: tuple[int, ...]) -> ModelEntry:
    """An offline FocalCodec; the hub names have an underscore in 12.5."""
    return ModelEntry(
        f"focalcodec-offline-{rate}hz", "codec", "photophone.codecs.focalcodec.model:FocalCodec",
        f"one binary code of 8,192 at {rate.replace('_', '.')} Hz, whole clips, 16 kHz, 142 M parameters", "2502.04465",
        **APACHE, hub_id=f"lucadellalib/focalcodec_{rate}hz", files=("model.safetensors",),
        config={"downscale_factors": down, "upscale_factors": up}, tiny=OFFLINE, parameters=parameters,
        figures={"UTMOS": 4.05, "dWER": 2.18} if rate == "50" else {}, figures_on="LibriSpeech test-clean")


def focal_causal(size: str, bits: int, parameters: int) -> ModelEntry:
    """A streaming FocalCodec."""
    return ModelEntry(
        f"focalcodec-causal-{size}", "codec", "photophone.codecs.focalcodec.model:FocalCodec",
        f"one binary code of {2**bits:,} at 50 Hz, streams with 80 ms, 16 kHz in and 24 kHz out", "2509.16195",
        **APACHE, hub_id=f"lucadellalib/focalcodec_50hz_{size}_causal", files=("model.safetensors",), tiny=CAUSAL,
        parameters=parameters,
        config={"causal": True, "code_bits": bits, "compressor_dims": (1024,) * 3, "decompressor_dims": (1024,) * 3,
                "focal_window": 14, "focal_factor": 4, "vocoder_width": 1024, "vocoder_hidden": 2048,
                "vocoder_hop": 480})


ENTRIES = [
    focal("50", 142_126_257, (1, 1, 1), (1, 1, 1)),
    focal("25", 144_223_409, (2, 1, 1), (1, 1, 2)),
    focal("12_5", 145_271_985, (2, 2, 1), (1, 2, 2)),
    focal_causal("65k", 16, 249_046_686),
    focal_causal("4k", 12, 249_038_490),
    focal_causal("2k", 11, 249_036_441),
]
