"""Audio tokenizers of transformers under our contract, against transformers' own calls on the same random weights."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_second_implementations import spread_codes
from transformers import (
    AutoConfig,
    AutoModelForAudioTokenization,
    NeuCodecFeatureExtractor,
    Xcodec2FeatureExtractor,
)

from photophone import AutoCodec, Tokens
from photophone.codecs.transformers_codec import NEUCODEC_TINY, POCKET_TINY, VIBEVOICE_TINY
from photophone.codecs.transformers_codec.model import CALLS
from photophone.loading.registry import find

HIGGS_TINY = {"codebook_size": 32, "codebook_dim": 8, "target_bandwidths": [0.5],
              "acoustic_model_config": {"model_type": "dac", "encoder_hidden_size": 2, "hidden_size": 32,
                                        "downsampling_ratios": [8, 5, 4, 6], "upsampling_ratios": [8, 5, 4, 6],
                                        "decoder_hidden_size": 32},
              "semantic_model_config": {"model_type": "hubert", "hidden_size": 16, "num_hidden_layers": 1,
                                        "num_attention_heads": 2, "intermediate_size": 16, "conv_dim": [4] * 7,
                                        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}}
WAVTOKENIZER_TINY = {"num_filters": 4, "upsampling_ratios": [4, 3, 2], "hidden_size": 16, "codebook_dim": 16,
                     "codebook_size": 64, "num_lstm_layers": 1, "decoder_hidden_size": 32,
                     "decoder_intermediate_size": 48, "decoder_num_layers": 2}
TINY = {"dac": {"encoder_hidden_size": 4, "decoder_hidden_size": 24, "n_codebooks": 3, "codebook_size": 32,
                "downsampling_ratios": [2, 4], "upsampling_ratios": [4, 2], "sampling_rate": 16_000},
        "neucodec": NEUCODEC_TINY, "pocket_tts_audio_tokenizer": POCKET_TINY, "wavtokenizer": WAVTOKENIZER_TINY,
        "vibevoice_acoustic_tokenizer": VIBEVOICE_TINY, "xcodec2": NEUCODEC_TINY,
        "higgs_audio_v2_tokenizer": HIGGS_TINY}
RATES = {"neucodec": (16_000, 24_000), "xcodec2": (16_000, 16_000), "dac": (16_000, 16_000)}


def network(model_type):
    """transformers' model with random weights, codebooks too."""
    torch.manual_seed(0)
    model = AutoModelForAudioTokenization.from_config(AutoConfig.for_model(model_type, **TINY[model_type]))
    generator = torch.Generator().manual_seed(1)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("embed", "embed_avg")):
            value.data.copy_(torch.randn(value.shape, generator=generator))
        elif isinstance(value, torch.nn.Parameter):
            scale = 0.03 if value.dim() < 2 else 0.3
            if value.dim() > 1 and model_type not in ("neucodec", "xcodec2"):  # or layer by layer rounding is magnified
                scale = min(scale, 0.7 * value[0].numel() ** -0.5)
            value.data.add_(scale * torch.randn(value.shape, generator=generator))
    return spread_codes(model.eval()) if model_type == "wavtokenizer" else model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{type: (transformers' model, the folder it was saved to)}"""
    made = {}
    for model_type in TINY:
        folder = tmp_path_factory.mktemp(model_type)
        made[model_type] = network(model_type), folder
        made[model_type][0].save_pretrained(folder, max_shard_size=30_000)
    return made


def own_calls(model_type, model, audio):
    """What transformers makes of whole hops of audio by itself: values as ours, and sound."""
    if model_type in ("neucodec", "xcodec2"):
        kind = NeuCodecFeatureExtractor if model_type == "neucodec" else Xcodec2FeatureExtractor
        inputs = kind(hop_length=320)(list(audio[:, 0]), sampling_rate=16_000, return_tensors="pt")
        codes = model.encode(inputs["input_values"], inputs["input_features"]).audio_codes
        return codes[:, 0], model.decode(codes).audio_values
    if model_type == "dac":
        codes = model.encode(audio).audio_codes
        return codes, model.decode(audio_codes=codes).audio_values[:, None]
    if model_type == "higgs_audio_v2_tokenizer":
        codes = model.encode(audio).audio_codes
        return codes, model.decode(codes).audio_values
    if model_type == "wavtokenizer":
        codes = model.encode(audio).audio_codes
        return codes[:, 0], model.decode(codes).audio_values
    latents = model.encode(audio, **({"sample": False} if "vibevoice" in model_type else {})).latents
    made = model.decode(latents)
    return latents, made.audio if "vibevoice" in model_type else made.audio_values


def assert_near(made, wanted, rtol=1e-4, atol=1e-5):
    """Equal up to rounding of the largest values on the way."""
    torch.testing.assert_close(made, wanted, rtol=rtol, atol=atol * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("model_type", TINY)
@torch.no_grad()
def test_a_saved_folder_opens_and_equals_transformers(saved, model_type):
    model, folder = saved[model_type]
    codec = AutoCodec.from_pretrained(folder)
    assert (codec.sample_rate, codec.output_sample_rate) == RATES.get(model_type, (24_000, 24_000))
    audio = 0.2 * torch.randn(2, 1, 48 * codec.hop_length, generator=torch.Generator().manual_seed(2))
    values, sound = own_calls(model_type, model, audio)
    tokens = codec.encode(audio)
    if tokens.is_continuous:
        assert_near(tokens.values, values, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(tokens.values, values.long()) and tokens.values.unique().numel() > 3
    made = codec.decode(tokens)
    sound = sound if sound.dim() == 3 else sound[:, None]
    assert_near(made[..., :sound.shape[-1]], sound)
    assert made.shape[-1] == int(codec.audio_lengths(tokens)[0]) and not made[..., sound.shape[-1]:].any()


@pytest.mark.parametrize("model_type", TINY)
def test_tokens_of_a_batch_are_those_of_its_rows(saved, model_type):
    codec = AutoCodec.from_pretrained(saved[model_type][1])
    audio = 0.2 * torch.randn(2, 1, 9 * codec.hop_length, generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([9 * codec.hop_length, 5 * codec.hop_length - 2])
    tokens = codec.encode(audio, lengths)
    assert torch.equal(tokens.lengths, codec.token_lengths(lengths))
    alone = codec.encode(audio[1:, :, :int(lengths[1])])
    part = tokens.values[1:].narrow(1 if tokens.is_continuous else -1, 0, alone.num_tokens)
    torch.testing.assert_close(part, alone.values)
    sound = codec.decode(tokens)
    again = codec.decode(alone)
    assert_near(sound[1:, :, :again.shape[-1]], again)
    assert not sound[1, :, again.shape[-1]:].any()


def test_our_own_folder_of_it_opens_too(saved, tmp_path):
    codec = AutoCodec.from_pretrained(saved["vibevoice_acoustic_tokenizer"][1])
    codec.save_pretrained(tmp_path)
    again = AutoCodec.from_pretrained(tmp_path)
    audio = torch.randn(1, 1, 60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.encode(audio).values, codec.encode(audio).values)
    assert torch.equal(again.decode(again.encode(audio)), codec.decode(codec.encode(audio)))


def test_the_types_are_those_that_transformers_knows():
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_TOKENIZATION_NAMES as NAMES

    assert set(CALLS) == set(NAMES)
    assert {find(name).config["model_type"] for name in ("neucodec", "pocket-tts-audio-tokenizer",
                                                         "vibevoice-acoustic-tokenizer")} <= set(CALLS)


def test_tokens_of_another_rate_and_shape_are_refused(saved):
    codec = AutoCodec.from_pretrained(saved["pocket_tts_audio_tokenizer"][1])
    with pytest.raises(ValueError, match=r"decodes float tokens \(B, N, 6\)"):
        codec.decode(Tokens(torch.zeros(1, 4, 5)))
    with pytest.raises(ValueError, match="16000 Hz, this codec reads 24000"):
        codec.decode(Tokens(torch.zeros(1, 4, 6), sample_rate=16_000))


def test_folders_that_do_not_fit_are_users_errors(run, saved, tmp_path):
    _, folder = saved["vibevoice_acoustic_tokenizer"]
    config = json.loads((folder / "config.json").read_text())
    for changed, message in (({"model_type": "bert"}, "'bert' is no audio tokenizer of transformers that is known"),
                             ({"hidden_size": 7}, "does not fit TransformersCodec"),
                             ({"model_type": 3}, "model_type")):
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        place.mkdir()
        state = {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}
        save_file(state, place / "model.safetensors", metadata={"format": "pt"})
        (place / "config.json").write_text(json.dumps({**config, **changed}))
        with pytest.raises(ValueError, match=message):
            AutoCodec.from_pretrained(place)
