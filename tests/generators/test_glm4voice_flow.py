"""GLM-4-Voice's flow: its noise, its prompts, and speech block by block."""

import pytest
import torch
from tiny import shake

from photophone import SeededNoise, TokenToSpeechPipeline, create_model
from photophone.codecs.hift.known_source import vocoder_speech
from photophone.generators.cosyvoice.block_stream import BlockSpeech
from photophone.generators.cosyvoice.condition import FlowSampler, SpeechTokens
from photophone.generators.cosyvoice.stream import stream_mel
from photophone.loading.registry import find

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
FAST = FlowSampler(num_inference_steps=2)


def build(name, **overrides):
    torch.manual_seed(0)
    return shake(create_model(name, **{**find(name).tiny, **overrides}), scale=0.1)


def inputs(model, tokens, rows=2):
    generator, config = torch.Generator().manual_seed(1), model.config
    return (torch.randint(0, config.vocab_size, (rows, tokens), generator=generator),
            torch.randn(rows, config.speaker_dim, generator=generator))


def test_its_own_noise_follows_from_the_number_of_frames():
    model = build("glm4voice-flow", fixed_noise=True)
    tokens, speaker = inputs(model, 9)
    lengths = torch.tensor([9, 6])
    batch = model.generate(SpeechTokens(tokens, speaker, lengths), noise=model.own_noise(), sampler=FAST)
    for row, length in enumerate(lengths.tolist()):
        torch.manual_seed(42)
        frames = model.frames(length)
        expected = torch.randn(1, 8, frames)
        assert torch.equal(model.own_noise().normal(3, 8, frames), expected.expand(3, -1, -1))
        alone = model.generate(SpeechTokens(tokens[row:row + 1, :length], speaker[row:row + 1]),
                               noise=model.own_noise(), sampler=FAST)
        torch.testing.assert_close(batch.values[row:row + 1, :frames], alone.values, **CLOSE)


@pytest.mark.parametrize("frames", [3, 20, 29])
def test_frames_follow_from_all_tokens_whatever_the_prompt_has(frames):
    model = build("glm4voice-flow")
    tokens, speaker = inputs(model, 6)
    prompt = SpeechTokens(tokens, speaker, None, tokens[:, :3], torch.randn(2, frames, 8))
    made = model.generate(prompt, noise=SeededNoise.from_seeds([1, 2]), sampler=FAST)
    assert made.values.shape[1] == model.frames(9) - frames


@pytest.mark.parametrize("frames", [62, 63, 100])
def test_prompts_that_leave_no_frames_are_refused(frames):
    model = build("glm4voice-flow")
    tokens, speaker = inputs(model, 6)
    assert model.frames(9) == 62
    prompt = SpeechTokens(tokens, speaker, None, tokens[:, :3], torch.randn(2, frames, 8))
    with pytest.raises(ValueError, match=f"make 62 mel frames together, and prompt_mel has {frames} already"):
        model.generate(prompt, noise=SeededNoise.from_seeds([1, 2]), sampler=FAST)


def test_tokens_see_no_later_block():
    model = build("glm4voice-flow")
    tokens, _ = inputs(model, 10)
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % model.config.vocab_size  # of the second block of four
    sight = model.token_encoder.sight
    ours, other = (model.token_encoder.conformer(model.embed(each), sight) for each in (tokens, changed))
    assert torch.equal(ours[:, :4], other[:, :4])
    assert not torch.allclose(ours[:, 4], other[:, 4])


def test_blocks_join_and_rows_do_not_matter():
    flow, vocoder = build("glm4voice-flow"), build("glm4voice-hift")
    tokens, speaker = inputs(flow, 19)

    def speech(rows, seeds):
        source = SeededNoise.from_seeds(seeds)
        return BlockSpeech(flow, vocoder_speech(vocoder, source), speaker[rows], sampler=FAST)

    together = list(speech(slice(None), [3, 4]).run(tokens.split(3, dim=1), 8))
    assert [part.shape[1] // vocoder.hop_length for part in together] == [20, 55, 54]
    for row, seed in enumerate([3, 4]):
        alone = speech(slice(row, row + 1), [seed]).run(tokens[row:row + 1].split(19, dim=1), 8)
        torch.testing.assert_close(torch.cat(list(alone), dim=1), torch.cat(together, dim=1)[row:row + 1], rtol=1e-3,
                                   atol=1e-4)


def test_a_first_block_must_have_frames_beyond_those_that_are_held_back():
    flow, vocoder = build("glm4voice-flow"), build("glm4voice-hift")
    tokens, speaker = inputs(flow, 5, rows=1)
    stream = BlockSpeech(flow, vocoder_speech(vocoder, SeededNoise.from_seeds([1])), speaker, sampler=FAST)
    with pytest.raises(ValueError, match="more than 5 tokens, got 5"):
        stream.push(tokens)
    audio, mel = stream.push(tokens, last=True)
    assert audio.shape[1] == mel.shape[2] * vocoder.hop_length == flow.frames(5) * vocoder.hop_length


def test_the_pipeline_speaks_and_streams_windows():
    chain = TokenToSpeechPipeline(build("glm4voice-flow", fixed_noise=True), build("glm4voice-hift"))
    tokens, speaker = inputs(chain.flow, 60, rows=1)
    one, two = (chain(tokens, speaker, num_inference_steps=1).audio[0] for _ in range(2))
    assert (one == two).all() and one.shape == (chain.flow.frames(60) * chain.vocoder.hop_length,)
    frames = list(stream_mel(chain.flow, tokens.split(7, dim=1), speaker, noise=SeededNoise.from_seeds([1]),
                             sampler=FlowSampler(num_inference_steps=1)))
    assert len(frames) > 1 and abs(sum(part.shape[1] for part in frames) - chain.flow.frames(60)) <= len(frames)
