"""WavTokenizer and X-Codec 2 through our encode and decode against transformers' own calls on shared random weights.

EnCodec, DAC and Mimi are compared in the same way in ``test_wrapped_codecs.py``.
"""

import pytest
import torch
from transformers import (
    WavTokenizerConfig,
    WavTokenizerModel,
    Xcodec2Config,
    Xcodec2FeatureExtractor,
    Xcodec2Model,
)

from photophone import AutoCodec
from photophone.codecs.wavtokenizer.model import WavTokenizer
from photophone.codecs.xcodec2.model import XCodec2

TINY = {"num_filters": 4, "upsampling_ratios": [4, 3, 2], "hidden_size": 16, "codebook_dim": 16, "codebook_size": 64,
        "num_lstm_layers": 1, "decoder_hidden_size": 32, "decoder_intermediate_size": 48, "decoder_num_layers": 2}
OURS = {"encoder_channels": 4, "encoder_strides": [2, 3, 4], "dim": 16, "lstm_layers": 1, "num_codes": 64, "width": 32,
        "hidden": 48, "depth": 2}
XCODEC2 = {"width": 32, "hidden": 48, "depth": 2, "num_heads": 2, "head_width": 16, "encoder_width": 4,
           "levels": [4, 4, 4],
           "semantic": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}}
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
"""The first and last samples of a clip are divided by the foot of a window, which makes roundings larger."""


def randomise(model):
    """Weights so large that codes differ; norms, whose weights are vectors, stay near what they were."""
    generator = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.data.add_((0.3 if value.dim() > 1 else 0.03) * torch.randn(value.shape, generator=generator))
    return model.eval()


def spread_codes(model):
    """Codes around what the encoder of a WavTokenizer makes of a sound, so that it has several nearest ones."""
    with torch.no_grad():
        latents = model.encoder_model.encoder(sound(4, 2_400)).transpose(1, 2).flatten(0, 1)  # (M, C)
    book = model.encoder_model.quantizer.codebook.embed
    noise = torch.randn(book.shape, generator=torch.Generator().manual_seed(4))
    book.copy_(latents.mean(0) + 2 * latents.std(0) * noise)
    return model


def sound(rows, length):
    return 0.3 * torch.randn(rows, 1, length, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def wavtokenizer():
    torch.manual_seed(0)
    return spread_codes(randomise(WavTokenizerModel(WavTokenizerConfig(**TINY))))


@torch.no_grad()
def test_wavtokenizer_equals_that_of_transformers(wavtokenizer):
    model = WavTokenizer.from_original(wavtokenizer.state_dict(), **OURS)
    for length in (40 * model.hop_length, 40 * model.hop_length + 7, 5 * model.hop_length - 1):
        audio = sound(2, length)
        tokens = model.encode(audio)
        theirs = wavtokenizer.encode(audio).audio_codes
        assert torch.equal(tokens.values, theirs[:, 0]) and tokens.values.unique().numel() > 2
        for condition in (0, 2):
            expected = wavtokenizer.decode(theirs, bandwidth_id=condition).audio_values
            made = model.decode(tokens, condition=condition)
            torch.testing.assert_close(made, expected.reshape(made.shape), **CLOSE)


@torch.no_grad()
def test_a_batch_of_wavtokenizer_is_what_transformers_makes_of_each_row(wavtokenizer):
    model = WavTokenizer.from_original(wavtokenizer.state_dict(), **OURS)
    audio, lengths = sound(3, 30 * model.hop_length), torch.tensor([30, 11, 23]) * model.hop_length - 3
    tokens = model.encode(audio, lengths)
    made = model.decode(tokens)
    for row, length in enumerate(lengths.tolist()):
        codes = wavtokenizer.encode(audio[row:row + 1, :, :length]).audio_codes
        count = codes.shape[-1]
        assert torch.equal(tokens.values[row:row + 1, :count], codes[:, 0])
        expected = wavtokenizer.decode(codes).audio_values.reshape(1, 1, -1)
        torch.testing.assert_close(made[row:row + 1, :, :expected.shape[-1]], expected, **CLOSE)


def test_a_folder_of_transformers_opens_as_ours_by_its_name(wavtokenizer, tmp_path):
    """The port that the hub has in transformers' names, in shards."""
    wavtokenizer.save_pretrained(tmp_path, max_shard_size=20_000)
    model = AutoCodec.from_original("wavtokenizer-large-unify-40", tmp_path / "model.safetensors.index.json", **OURS)
    assert type(model) is WavTokenizer
    audio = sound(1, 9 * model.hop_length)
    assert torch.equal(model.encode(audio).values, wavtokenizer.encode(audio).audio_codes[:, 0])


@pytest.fixture(scope="module")
def xcodec2():
    torch.manual_seed(0)
    config = Xcodec2Config(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
                           num_key_value_heads=2, head_dim=16, encoder_hidden_size=4, quantization_levels=[4, 4, 4],
                           quantization_dim=48, semantic_model_config={"model_type": "wav2vec2-bert",
                                                                       **XCODEC2["semantic"]})
    return randomise(Xcodec2Model(config))


@torch.no_grad()
def test_xcodec2_equals_transformers_own_calls(xcodec2):
    model = XCodec2.from_original(xcodec2.state_dict(), **XCODEC2)
    audio = sound(3, 16 * model.hop_length)
    lengths = torch.tensor([16 * model.hop_length, 9 * model.hop_length, 12 * model.hop_length + 5])
    tokens = model.encode(audio, lengths)
    made = model.decode(tokens)
    assert tokens.values.unique().numel() > 3
    for row, length in enumerate(lengths.tolist()):
        inputs = Xcodec2FeatureExtractor(hop_length=model.hop_length)(
            audio[row, 0, :length], sampling_rate=16_000, return_tensors="pt")
        codes = xcodec2.encode(inputs["input_values"], inputs["input_features"]).audio_codes
        assert torch.equal(tokens.values[row:row + 1, :codes.shape[-1]], codes[:, 0].long())
        assert int(tokens.lengths[row]) == codes.shape[-1]
        expected = xcodec2.decode(codes).audio_values.reshape(1, 1, -1)
        torch.testing.assert_close(made[row:row + 1, :, :expected.shape[-1]], expected, **CLOSE)
