"""Whisper's hidden states for the loss, against transformers, from a small model written in CTranslate2's format."""

import struct

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperConfig, WhisperEncoder

from photophone.training.losses.speech_features import WhisperFeatures, feature_distance, read_ctranslate2


def small_encoder():
    torch.manual_seed(0)
    config = WhisperConfig(num_mel_bins=80, d_model=128, encoder_layers=2, encoder_attention_heads=2,
                           encoder_ffn_dim=192)
    return WhisperEncoder(config).eval()


def write_ctranslate2(encoder, path):
    state, variables = encoder.state_dict(), {}
    for part in ("weight", "bias"):
        for n in (1, 2):
            variables[f"conv{n}/{part}"] = state[f"conv{n}.{part}"]
        for index in range(2):
            old, new = f"layers.{index}", f"layer_{index}"
            stacked = [state.get(f"{old}.self_attn.{letter}_proj.{part}", torch.zeros(128)) for letter in "qkv"]
            variables[f"{new}/self_attention/linear_0/{part}"] = torch.cat(stacked)
            variables[f"{new}/self_attention/linear_1/{part}"] = state[f"{old}.self_attn.out_proj.{part}"]
            for n in (0, 1):
                variables[f"{new}/ffn/linear_{n}/{part}"] = state[f"{old}.fc{n + 1}.{part}"]
            name = {"weight": "gamma", "bias": "beta"}[part]
            variables[f"{new}/self_attention/layer_norm/{name}"] = state[f"{old}.self_attn_layer_norm.{part}"]
            variables[f"{new}/ffn/layer_norm/{name}"] = state[f"{old}.final_layer_norm.{part}"]
    variables |= {f"layer_norm/{theirs}": state[f"layer_norm.{ours}"] for theirs, ours in
                  (("gamma", "weight"), ("beta", "bias"))}
    variables["position_encodings/encodings"] = state["embed_positions.weight"]

    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, tensor in variables.items():
        values = tensor.numpy().astype(np.float32)
        data += text(f"encoder/{name}") + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        data += struct.pack("<BI", 0, values.nbytes) + values.tobytes()
    path.write_bytes(data)
    return path


def test_hidden_states_are_those_of_transformers(tmp_path):
    encoder = small_encoder()
    features = WhisperFeatures(write_ctranslate2(encoder, tmp_path / "model.bin"), depth=2).eval()
    audio = np.random.default_rng(0).standard_normal(30 * 16000).astype(np.float32) * 0.1
    mel = WhisperFeatureExtractor(feature_size=80)(audio, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        expected, maps = encoder(mel).last_hidden_state, features(torch.from_numpy(audio)[None, None])
        torch.testing.assert_close(encoder.layer_norm(maps[-1]), expected, rtol=1e-4, atol=1e-4)
    assert [tuple(one.shape) for one in maps] == [(1, 1500, 128)] * 3


def test_the_distance_has_a_gradient_and_is_zero_for_equals(tmp_path):
    features = WhisperFeatures(write_ctranslate2(small_encoder(), tmp_path / "model.bin")).eval()
    audio = torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    other = torch.randn(2, 1, 8000, generator=torch.Generator().manual_seed(1))
    distance = feature_distance(features(audio), features(other))
    distance.backward()
    assert distance > 0 and audio.grad.isfinite().all() and audio.grad.abs().max() > 0
    assert float(feature_distance(features(other), features(other))) == 0


@pytest.mark.parametrize("content", [b"", b"\x06\0\0\0", struct.pack("<I", 5) + b"x" * 100, b"\x80\x04cos\nsystem\n"])
def test_other_files_are_refused(content, tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="CTranslate2"):
        read_ctranslate2(path)
