"""LLaSE-G1 and WavLM beyond the contract: what frames see, batches, inputs, published sizes."""

import pytest
import torch
from tiny import shake

from photophone import SeededNoise, Tokens, create_model
from photophone.generators.llase_g1.model import OUTPUTS, TASKS, LLaSEG1, LLaSESampler, RecordingFeatures
from photophone.generators.llase_g1.wavlm import LARGE_CONVS, WavLM, official_config
from photophone.loading.registry import find

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
TINY_WAVLM = {"width": 32, "depth": 2, "num_heads": 4, "hidden": 48, "convs": [[8, 10, 5], [8, 3, 2], [8, 2, 2]],
              "position_kernel": 8, "position_groups": 4, "num_buckets": 16, "max_distance": 40}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return shake(create_model("llase-g1", **find("llase-g1").tiny), scale=0.1)


def generate(model, features, other=None, lengths=None, **options):
    noise = SeededNoise.from_seeds(range(len(features)))
    return model.generate(RecordingFeatures(features, other, lengths), noise=noise, sampler=LLaSESampler(**options))


@torch.no_grad()
def test_frames_see_no_later_frames(model):
    features, other = torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    hidden = model.hidden(features, other)
    for place in (0, 1):
        changed = [features.clone(), other.clone()]
        changed[place][:, 4:] += 1
        after = model.hidden(*changed)
        torch.testing.assert_close(after[:, :4], hidden[:, :4], **CLOSE)
        assert not torch.allclose(after[:, 4], hidden[:, 4], **CLOSE)


@torch.no_grad()
def test_rows_behind_their_length_change_nothing_in_front(model):
    features, lengths = torch.randn(2, 7, 16), torch.tensor([4, 7])
    tokens = generate(model, features, lengths=lengths)
    alone = generate(model, features[:1, :4])
    assert torch.equal(tokens.values[0, :4], alone.values[0]) and torch.equal(tokens.lengths, lengths)


@torch.no_grad()
def test_a_missing_recording_is_silence_of_features_and_a_short_one_is_not(model):
    features = torch.randn(1, 6, 16)
    silent, absent = model.hidden(features, torch.zeros(1, 6, 16)), model.hidden(features)
    assert torch.equal(silent, absent)  # both are the bias of the layer
    short = model.embed(features, torch.zeros(1, 3, 16))
    assert not short[:, 3:, :16].any() and short[:, :3, :16].any()


def test_outputs_have_heads_of_their_own(model):
    features = torch.randn(2, 6, 16)
    made = [generate(model, features, output=output).values for output in OUTPUTS]
    assert not torch.equal(*made) and {task.output for task in TASKS.values()} == set(OUTPUTS)
    with torch.no_grad():
        logits = model.main_head.logits(model.hidden(features))
    assert torch.equal(made[0], logits.argmax(-1))


def test_codes_of_one_output_train_its_head_alone(model):
    condition, tokens = model.example_condition(3), model.example_tokens(3)
    whole = model.loss(tokens, condition)
    assert set(whole.metrics) == {"main_loss", "other_loss"}
    for row, output in enumerate(OUTPUTS):
        values = tokens.values.clone()
        values[:, 1 - row] = -1
        part = model.loss(Tokens(values, tokens.lengths), condition)
        torch.testing.assert_close(part.loss, whole.metrics[f"{output}_loss"])


def test_misuse_is_refused(model):
    features = torch.randn(1, 6, 16)
    with pytest.raises(ValueError, match="output must be one of main, other"):
        LLaSESampler(output="third")
    for given in ((features[..., 1:],), (features, features[:0])):
        with pytest.raises(ValueError, match=r"must be \(B, T, 16\)"):
            generate(model, *given)
    with pytest.raises(ValueError, match="lengths must lie in 0..6"):
        generate(model, features, lengths=torch.tensor([7]))
    for codes, words in ((torch.zeros(1, 6), r"needs codes Long \(B, 2, T\)"),
                         (torch.full((1, 2, 6), -1), "of one output at least")):
        with pytest.raises(ValueError, match=words):
            model.loss(Tokens(codes.long()), RecordingFeatures(features))


def test_the_published_network_without_the_unused_text_model():
    with torch.device("meta"):
        count = sum(weight.numel() for weight in LLaSEG1().parameters())
    block = 4 * 2048**2 + 3 * 2048 * 4096 + 2 * 2048
    assert count == 16 * block + 2048 + 2 * (1025 * 1024) + 2 * (2049 * 65536)


def test_wavlm_of_a_padded_batch_equals_its_rows():
    torch.manual_seed(0)
    model = shake(WavLM(**TINY_WAVLM))
    audio, lengths = torch.randn(2, 900), torch.tensor([511, 900])
    both = model(audio, lengths)
    for row, length in enumerate(lengths.tolist()):
        frames = int(model.frames(torch.tensor([length])))
        alone = model(audio[row:row + 1, :length])
        assert alone.shape == (1, frames, 32)
        torch.testing.assert_close(both[row, :frames], alone[0], **CLOSE)
    with pytest.raises(ValueError, match="a frame of samples"):
        model(torch.randn(1, 20))


def test_the_official_settings_of_wavlm_large_are_the_defaults():
    settings = {"extractor_mode": "layer_norm", "encoder_layers": 24, "encoder_embed_dim": 1024,
                "encoder_ffn_embed_dim": 4096, "encoder_attention_heads": 16, "activation_fn": "gelu",
                "layer_norm_first": True, "conv_bias": False, "conv_pos": 128, "conv_pos_groups": 16,
                "num_buckets": 320, "max_distance": 800,
                "conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"}
    config = official_config(settings)
    with torch.device("meta"):
        model = WavLM()
    assert config.pop("depth") == 24 and config.pop("convs") == LARGE_CONVS and config.pop("final_norm")
    assert {name: model.config[name] for name in config} == config
    assert int(model.frames(torch.tensor([16000]))) == 49  # (16000 - 400) // 320 + 1
    with pytest.raises(ValueError, match="must be a list"):
        official_config(settings | {"conv_feature_layers": "__import__('os')"})
    with pytest.raises(ValueError, match="gru_rel_pos=False"):
        official_config(settings | {"gru_rel_pos": False})
