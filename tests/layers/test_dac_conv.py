"""The DAC-style convolutions against transformers' DAC, and what causal ones see."""

import pytest
import torch

from photophone.codecs.audio_vae.model import AudioVAE, RateCondition
from photophone.layers.dac_conv import DACDecoder, DACEncoder
from photophone.layers.snake import Snake
from photophone.loading.checkpoints import load_strict, rename_keys

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
UNIT = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}


def ours(state, order):
    """Keys of transformers' DAC as those of our stages; ``order`` numbers the parts of a stage."""
    rules = [(r"^block\.", "stages."),
             (r"res_unit(\d)\.(\w+)\.", lambda match: f"{order['res_unit' + match[1]]}.{UNIT[match[2]]}."),
             (r"^(stages\.\d+)\.(snake1|conv1|conv_t1)\.", lambda match: f"{match[1]}.{order[match[2]]}."),
             (r"^conv1\.", "conv_in."), (r"^snake1\.", "snake_out."), (r"^conv2\.", "conv_out.")]
    return rename_keys(state, rules)


def weight_normed(module):
    """The decoder of transformers holds plain weights; the norm of a weight over all but its first axis is its g."""
    state = {}
    for key, value in module.state_dict().items():
        if key.endswith(".weight"):
            stem = key.removesuffix("weight") + "parametrizations.weight.original"
            state |= {stem + "0": value.flatten(1).norm(dim=1)[:, None, None], stem + "1": value}
        else:
            state[key] = value
    return state


@torch.no_grad()
def test_the_family_is_dac_when_it_is_not_causal():
    from transformers import DacConfig, DacModel

    torch.manual_seed(0)
    model = DacModel(DacConfig(encoder_hidden_size=4, downsampling_ratios=[2, 4], decoder_hidden_size=16,
                               upsampling_ratios=[4, 2], hidden_size=16, n_codebooks=1, codebook_size=8,
                               codebook_dim=4)).eval()
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    encoder = DACEncoder(4, [2, 4])
    state = {key: value for key, value in weight_normed(model.encoder).items()
             if not key.startswith(("snake1", "conv2"))}
    load_strict(encoder, ours(state, {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4}))
    x = torch.randn(2, 1, 64)
    expected = model.encoder.conv1(x)
    for block in model.encoder.block:
        expected = block(expected)
    torch.testing.assert_close(encoder(x), expected, **CLOSE)

    decoder = DACDecoder(16, 16, [4, 2])
    order = {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4}
    state = rename_keys(ours(weight_normed(model.decoder), order), [(r"^conv_in\.", "conv_in.0.")])
    load_strict(decoder, state)
    z = torch.randn(2, 16, 7)
    torch.testing.assert_close(decoder(z), model.decoder(z), **CLOSE)


def tiny(**options):
    torch.manual_seed(0)
    return AudioVAE(**{"encoder_channels": 4, "encoder_strides": [2, 3], "latent_dim": 6, "decoder_channels": 16,
                       "decoder_strides": [3, 5], **options}).eval()


@torch.no_grad()
@pytest.mark.parametrize(("delay_odd", "seen"), [(False, 30), (True, 28)])
def test_a_token_hears_nothing_behind_it(delay_odd, seen):
    """A late stage of stride 3 behind one of stride 2 does not hear its last input, two samples."""
    model, audio = tiny(delay_odd=delay_odd), torch.randn(1, 1, 60)
    before = model.encode(audio).values
    for place, changes in ((seen, False), (seen - 1, True)):
        other = audio.clone()
        other[..., place:] += 1
        same = torch.equal(model.encode(other).values[:, :5], before[:, :5])  # 5 tokens are 30 samples
        assert same is not changes


@torch.no_grad()
@pytest.mark.parametrize("condition", [{"rate_condition": "scale_bias"}, {"rate_condition": "add"},
                                       {"rate_condition": "concat", "rate_mix": True, "rate_dim": 4}])
def test_the_decoder_is_told_a_range_of_rates(condition):
    model = tiny(output_sample_rate=48000, rate_boundaries=[20000, 30000], **condition)
    for embedding in model.rate_conditions.modules():
        if isinstance(embedding, torch.nn.Embedding):
            embedding.weight.copy_(torch.randn_like(embedding.weight))
    tokens = model.encode(torch.randn(1, 1, 60))
    sounds = {rate: model.decode(tokens, rate=rate) for rate in (8000, 20000, 20001, 30001, 48000)}
    assert torch.equal(sounds[8000], sounds[20000]) and torch.equal(sounds[30001], sounds[48000])
    assert torch.equal(model.decode(tokens), sounds[48000])
    assert not torch.allclose(sounds[20000], sounds[20001]) and not torch.allclose(sounds[20001], sounds[30001])


def test_training_draws_latents_and_counts_their_divergence():
    model = tiny().train()
    audio = torch.randn(2, 1, 60)
    output = model(audio)
    sound, loss, metrics = output.media, output.loss, output.metrics
    assert sound.shape == (2, 1, 150) and bool(loss > 0) and bool(metrics["kl"] > 0)
    (sound.square().mean() + loss).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]


def test_snake_is_its_formula():
    layer, x = Snake(3), torch.randn(2, 3, 5, dtype=torch.float64)
    layer.alpha.data = torch.tensor([0.5, 1.0, 4.0])[:, None].double()[None]
    alpha = layer.alpha.detach()
    torch.testing.assert_close(layer(x).detach(), x + (1 - torch.cos(2 * alpha * x)) / (2 * alpha))


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="concat needs mixing"):
        RateCondition(4, 2, "concat", 8, mix=False)
    with pytest.raises(ValueError, match="delay must lie in"):
        tiny(encoder_strides=[1, 3])
