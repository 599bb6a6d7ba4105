"""CosyVoice's flows: streams equal the whole, cost no more at their end, and start from the authors' noise."""

import numpy as np
import pytest
import torch
from tiny import shake
from torch.utils.flop_counter import FlopCounterMode

from photophone import SeededNoise, Tokens, TokenToSpeechPipeline, create_model
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
from photophone.generators.cosyvoice.stream import stream_mel
from photophone.loading.registry import find

CAUSAL = ["cosyvoice2-0.5b", "cosyvoice3-0.5b"]
ALL = ["cosyvoice-300m", *CAUSAL]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def build(name, **overrides):
    torch.manual_seed(0)
    return shake(create_model(name, **{**find(name).tiny, **overrides}), scale=0.1)


def inputs(model, tokens=17, prompt=4, rows=2):
    generator, config = torch.Generator().manual_seed(1), model.config
    return (torch.randint(0, config.vocab_size, (rows, tokens), generator=generator),
            torch.randn(rows, config.speaker_dim, generator=generator),
            torch.randint(0, config.vocab_size, (rows, prompt), generator=generator),
            torch.randn(rows, model.frames(prompt), config.mel_dim, generator=generator))


def generate(model, tokens, speaker, past=None, mel=None, seeds=(1, 2), lengths=None, noise=None, **options):
    return model.generate(SpeechTokens(tokens, speaker, lengths, past, mel),
                          noise=noise or SeededNoise.from_seeds(seeds), sampler=FlowSampler(**options))


def stream(model, pieces, *voice, seeds=(1, 2), **options):
    sampler = FlowSampler(chunked=True, **options)
    return stream_mel(model, pieces, *voice, noise=SeededNoise.from_seeds(seeds), sampler=sampler)


@pytest.mark.parametrize("left", [None, 0, 1])
@pytest.mark.parametrize("name", CAUSAL)
def test_streams_equal_the_whole(name, left):
    model = build(f"{name}-flow")
    tokens, *voice = inputs(model)
    settings = {"num_inference_steps": 3, "left_chunks": left}
    whole = generate(model, tokens, *voice, chunked=True, **settings).values
    for sizes in ([1] * 17, [9, 8], [17]):
        parts = list(stream(model, tokens.split(sizes, dim=1), *voice, **settings))
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, **CLOSE)
        assert len(parts) > 2 or len(sizes) < 17
    other = generate(model, tokens, *voice, num_inference_steps=3).values
    assert not torch.allclose(other, whole, **CLOSE)  # the mask matters


@pytest.mark.parametrize("name", CAUSAL)
def test_frames_do_not_see_chunks_that_come_later(name):
    model = build(f"{name}-flow")
    tokens, *voice = inputs(model, 17, 0)
    other = tokens.clone()
    other[:, 12:] = (other[:, 12:] + 1) % model.config.vocab_size
    one, two = (generate(model, given, *voice, chunked=True, num_inference_steps=2).values for given in (tokens, other))
    ahead = model.token_encoder.ahead
    known = (12 - ahead) // model.step_tokens * model.step_tokens
    torch.testing.assert_close(one[:, :known * 2], two[:, :known * 2], **CLOSE)
    assert not torch.allclose(one[:, 24:], two[:, 24:], **CLOSE)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_minute_costs_the_same_at_its_end(name):
    model = build(f"{name}-flow")
    _, *voice = inputs(model, 1, 3, rows=1)
    total, size = 60 * model.config.token_rate, 30
    pieces, costs = iter(torch.randint(0, 40, (1, total)).split(size, dim=1)), []
    parts = stream(model, pieces, *voice, seeds=[1], num_inference_steps=1, left_chunks=2)
    while True:
        with FlopCounterMode(display=False) as counter:
            part = next(parts, None)
        if part is None:
            break
        costs.append(counter.get_total_flops())
    assert len(costs) == total // size + 1
    assert len(set(costs[3:-2])) == 1 and costs[3] > 0  # the last two end the speech


@pytest.mark.parametrize("name", ALL)
def test_rows_of_different_length_equal_single_runs(name):
    model = build(f"{name}-flow")
    tokens, *voice = inputs(model)
    batch = generate(model, tokens, *voice, lengths=torch.tensor([17, 11]), num_inference_steps=2)
    assert batch.lengths.tolist() == [model.frames(17), model.frames(11)]
    for row, length in enumerate((17, 11)):
        alone = generate(model, tokens[row:row + 1, :length], *(part[row:row + 1] for part in voice), seeds=[row + 1],
                         num_inference_steps=2).values
        torch.testing.assert_close(batch.values[row:row + 1, :model.frames(length)], alone, **CLOSE)


@pytest.mark.parametrize("name", ALL)
def test_the_mean_frames_are_learned_alone_or_too(name):
    plain, both = build(f"{name}-flow"), build(f"{name}-flow", mean_weight=0.5)
    condition, mel = plain.example_condition(1), plain.example_tokens(1)
    for seed in (1, 5):
        chunked = plain.has_chunks and float(SeededNoise.from_seeds([seed]).uniform(1)[0]) < 0.5
        mean = plain.encode(condition.tokens, 0, 0, plain.sights(0, chunked)[0])  # of generation
        expected = (mean.transpose(1, 2) - mel.values).square().mean().detach()
        velocity, told = (model.loss(mel, condition, noise=SeededNoise.from_seeds([seed])) for model in (plain, both))
        assert not velocity.metrics and float(expected) > 0.1
        torch.testing.assert_close(told.loss, velocity.loss + 0.5 * expected, **CLOSE)
        assert torch.equal(told.metrics["velocity"], velocity.loss.detach())
        torch.testing.assert_close(told.metrics["mean"], expected, **CLOSE)
        plain.mean_only = True
        alone = plain.loss(mel, condition, noise=SeededNoise.from_seeds([seed])).loss
        plain.mean_only = False
        torch.testing.assert_close(alone, expected, check_dtype=False, **CLOSE)
        alone.backward()
    learned = {key.split(".")[0] for key, weight in plain.named_parameters() if weight.grad is not None}
    assert learned == {"speech_embedding", "token_encoder"}


@pytest.mark.parametrize("name", ALL)
def test_mean_frames_are_not_learned_from_padding(name):
    model = build(f"{name}-flow")
    model.mean_only = True
    condition, mel = model.example_condition(2), model.example_tokens(2)
    values = torch.where(mel.mask[..., None], mel.values, 100.0)
    one, two, other = (model.loss(Tokens(given, mel.lengths), condition, noise=SeededNoise.from_seeds([1, 2])).loss
                       for given in (mel.values, values, mel.values + 1))
    assert not mel.mask.all() and torch.equal(one, two) and not torch.equal(one, other)


def test_the_fixed_noise_is_that_of_seed_0():
    model = build("cosyvoice2-0.5b-flow", fixed_noise=True, fixed_frames=40)
    tokens, *voice = inputs(model, 9)
    torch.manual_seed(0)
    expected, noise = torch.randn(1, 8, 40), model.own_noise()
    assert torch.equal(noise.normal(2, 8, 12), expected[:, :, :12].expand(2, -1, -1))
    assert torch.equal(noise.normal(1, 8, 20), expected[:, :, 12:32])
    with pytest.raises(ValueError, match="40 frames, 52 are needed"):
        noise.normal(1, 8, 20)
    ours, again = (generate(model, tokens, *voice, noise=model.own_noise(), num_inference_steps=2).values
                   for _ in range(2))
    assert torch.equal(ours, again)


def test_wrong_conditions_are_refused():
    model = build("cosyvoice2-0.5b-flow")
    tokens, speaker, past, mel = inputs(model)
    for given, words in [((tokens + 40, speaker, past, mel), "must lie below"), ((tokens, speaker[:1]), "B speakers"),
                         ((tokens, speaker[:, 1:], past, mel), "speaker vectors"),
                         ((tokens, speaker, past), "both prompt_tokens"),
                         ((tokens, speaker, past, mel[..., 1:]), "a prompt of 2 rows"),
                         ((tokens[:, :0], speaker, past, mel), "at least one")]:
        with pytest.raises(ValueError, match=words):
            generate(model, *given)
    with pytest.raises(ValueError, match="needs chunked=True"):
        generate(model, tokens, speaker, past, mel, left_chunks=1)
    with pytest.raises(ValueError, match="use chunked=False"):
        generate(build("cosyvoice-300m-flow"), tokens, speaker, past, mel, chunked=True)


def test_version_1_streams_windows_of_constant_cost():
    model = build("cosyvoice-300m-flow")
    tokens, *voice = inputs(model, 430, 8, rows=1)
    made = stream(model, tokens.split(10, dim=1), *voice, seeds=[1], num_inference_steps=1)
    parts, costs = [], []
    while True:
        with FlopCounterMode(display=False) as counter:
            part = next(made, None)
        if part is None:
            break
        parts.append(part)
        costs.append(counter.get_total_flops())
    whole = model.frames(430)
    assert len(parts) == 5 and len(set(costs[1:4])) == 1  # the first projects the speaker too
    assert abs(sum(part.shape[1] for part in parts) - whole) <= len(parts)
    assert bool(torch.cat(parts, dim=1).isfinite().all())


@pytest.mark.parametrize("name", ALL)
def test_tokens_to_speech(name):
    chain = TokenToSpeechPipeline(build(f"{name}-flow"), build(f"{name}-hift"))
    tokens, *voice = inputs(chain.flow, 21, 4, rows=1)
    options = {"num_inference_steps": 2}
    chunked = {} if name == "cosyvoice-300m" else {"chunked": True, "left_chunks": 1}
    (audio,) = chain(tokens, *voice, generator=torch.Generator().manual_seed(1), **options, **chunked).audio
    assert audio.shape == (chain.flow.frames(21) * chain.vocoder.hop_length,)
    parts = list(chain.stream(tokens.split(5, dim=1), *voice, generator=torch.Generator().manual_seed(1), left_chunks=1,
                              **options))
    streamed = np.concatenate([part.audio for part in parts])
    assert streamed.shape == audio.shape and {part.sample_rate for part in parts} == {chain.sample_rate}
    if chunked:
        np.testing.assert_allclose(streamed, audio, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="speaks one row, got 2"):
        chain.stream(tokens.split(5, dim=1), *inputs(chain.flow)[1:])
    with pytest.raises(ValueError, match="mel bands"):
        TokenToSpeechPipeline(chain.flow, build(f"{name}-hift", num_mels=16))
