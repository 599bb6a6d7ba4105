"""A minute of one sentence, streamed by CosyVoice 2 and 3: the same work to its end, and equal to the whole."""

import numpy as np
import pytest
from cosyvoice_folders import load_cosyvoice, recording, seeded, write_cosyvoice

from photophone import TextToSpeechPipeline, TokenToSpeechPipeline, Voice
from photophone.generators.cosyvoice.chunked import SightMemory
from photophone.generators.cosyvoice.conformer import Lookahead

STEP, TOKENS = 25, 1500  # of a piece of a stream, and of a minute
TEXT = "a" * 74  # and a full stop: 75 ids, at most 20 tokens each


@pytest.fixture(scope="module", params=("cosyvoice2-0.5b", "cosyvoice3-0.5b"))
def endless(request, tmp_path_factory):
    """A pipeline that speaks a minute for the text, with one step of its solver."""
    folder = write_cosyvoice(tmp_path_factory.mktemp(request.param), request.param, STEP)
    pipeline = load_cosyvoice(folder, request.param, STEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextToSpeechPipeline, "published_sampler",
                      {"min_ratio": 20.0, "max_ratio": 20.0, "all_stops": True})
        patch.setattr(TokenToSpeechPipeline, "published_sampler", {"num_inference_steps": 1, "guidance_scale": 1.0})
        yield pipeline


def streamed(pipeline, monkeypatch, most=None, **told):
    """Audio, work of the sound, and positions that the language model read, of each chunk or the first ``most``.

    Work is what each network is given: frames, and pairs of frames that attention compares.
    """
    work, positions, states = [], [], pipeline.speech_generator.states
    monkeypatch.setattr(pipeline.speech_generator, "states", lambda x, *rest: positions.append(x.shape[1]) or states(
        x, *rest))
    hooks = [module.register_forward_hook(
        lambda module, given, view: work.append(("pairs", len(view.queries) * len(view.keys))))
        for module in pipeline.flow.modules() if isinstance(module, SightMemory)]
    hooks += [module.register_forward_hook(
        lambda module, given, _, axis=axis: work.append((type(module).__name__, given[0].shape[axis])))
        for axis, modules in ((1, [part for part in pipeline.flow.modules() if isinstance(part, Lookahead)]),
                              (2, [pipeline.flow.velocity_net, pipeline.codec.trunk, pipeline.codec.pitch]))
        for module in modules]
    chunks, made = pipeline.stream(TEXT, **told), []
    try:
        while True:
            done, before = len(work), len(positions)
            chunk = next(chunks, None)
            if chunk is not None:
                made.append((chunk.audio, tuple(work[done:]), tuple(positions[before:])))
            if chunk is None or len(made) == most:
                return made
    finally:
        for hook in hooks:
            hook.remove()


def test_a_minute_of_speech_costs_the_same_to_its_end_and_equals_the_whole(endless, monkeypatch):
    told = {"voice": Voice(recording(16000), 16000, "no.")}
    audio, work, positions = zip(*streamed(endless, monkeypatch, generator=seeded(1)[0], **told))
    total = np.concatenate(audio)
    assert len(total) == TOKENS * endless.flow.config.frame_ratio * endless.codec.hop_length
    steady = range(4, len(work) - 2)  # the first wait for the vocoder and see no pieces yet; the last ends it
    assert len(steady) > TOKENS / STEP * 0.8
    assert len({work[index] for index in steady}) == 1 and len(work[4]) >= 4
    assert {positions[index] for index in steady} == {(1,) * STEP}  # one a token, whatever was before
    whole = endless(TEXT, generator=seeded(1)[0], **told)
    np.testing.assert_allclose(whole.audio[0], total, atol=1e-4)
    assert whole.faults[0][0].startswith("stopped at the limit of 1500 tokens")


def test_the_first_chunk_comes_before_the_rest_is_written(endless, monkeypatch):
    """It waits for the tokens of its pieces, those that they look ahead, and the frames that the vocoder is late."""
    _, _, positions = streamed(endless, monkeypatch, 1, voice=Voice(recording(16000), 16000, None))[0]
    late = endless.codec.delay // endless.flow.config.frame_ratio + 1
    pieces = 1 + -(-late // STEP)
    assert len(positions) <= pieces * STEP + endless.flow.token_encoder.ahead
    assert positions[0] > len(TEXT) and set(positions[1:]) == {1}


def test_with_all_of_the_past_attention_compares_more_and_more(endless, monkeypatch):
    """What the bound on the sight saves."""
    monkeypatch.setattr(endless, "left_chunks", None)
    work = [part[1] for part in streamed(endless, monkeypatch, voice=Voice(recording(16000), 16000, None))]
    pairs = [sum(count for name, count in parts if name == "pairs") for parts in work]
    assert pairs[-4] > 5 * pairs[4] and all(before < after for before, after in zip(pairs[4:-3], pairs[5:-2]))
