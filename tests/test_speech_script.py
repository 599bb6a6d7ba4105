"""What markup, pauses and pronunciations do to the sound, on small real parts."""

import numpy as np
import pytest
import torch
from speech import small_codec, small_speech

from photophone import TextToSpeechPipeline
from photophone.data.time_stretch import TimeStretch
from photophone.pipelines.speech_pieces import Effects

FAST = {"num_inference_steps": 1}
RATE = 16_000


@pytest.fixture(scope="module")
def pipeline():
    return TextToSpeechPipeline(small_speech(), small_codec())


def speak(pipeline, text, seed=1, **options):
    return pipeline(text, generator=torch.Generator().manual_seed(seed), **FAST, **options)


def test_markup_that_says_nothing_changes_nothing(pipeline):
    plain = speak(pipeline, "Light carries sound. Who goes there?")
    marked = speak(pipeline, "<speak>Light carries sound. <s>Who goes there?</s></speak>")
    assert np.array_equal(plain.audio[0], marked.audio[0]) and plain.words == marked.words
    assert marked.texts == ["<speak>Light carries sound. <s>Who goes there?</s></speak>"]
    assert "markup" not in plain.settings and "pronounce" not in plain.settings


def test_pauses_last_as_long_as_they_say(pipeline):
    plain = speak(pipeline, "Hello.").audio[0]
    for text, seconds in (("Hello. [pause 0.5s]", 0.5), ("[pause 250ms] Hello.", 0.25),
                          ("<speak><break time='1s'/>Hello.<break time='0.1s'/></speak>", 1.1)):
        made = speak(pipeline, text).audio[0]
        assert len(made) - len(plain) == round(seconds * RATE)
        chunks = list(pipeline.stream(text, generator=torch.Generator().manual_seed(1), **FAST))
        np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), made, atol=1e-4)


def test_volume_scales_one_part(pipeline):
    text = "Hello. <prosody volume='{}'>Light carries sound.</prosody> Hello."
    usual, soft, loud = (speak(pipeline, text.format(volume), markup=True) for volume in ("+0dB", "-12dB", "+6dB"))
    assert usual.words == soft.words == loud.words
    first, last = (round(usual.sentences[0][1].start * RATE), round(usual.sentences[0][1].end * RATE))
    inner = slice(first + 200, last)
    np.testing.assert_allclose(soft.audio[0][inner], usual.audio[0][inner] * 10 ** (-12 / 20), atol=1e-6)
    np.testing.assert_allclose(loud.audio[0][inner], (usual.audio[0][inner] * 10 ** (6 / 20)).clip(-1, 1), atol=1e-6)
    for part in (slice(0, first), slice(last + 2400 + 200, None)):  # the pause belongs to the part before it
        assert np.array_equal(soft.audio[0][part], usual.audio[0][part])


def test_the_rate_of_one_part_is_its_own(pipeline):
    text = "<speak>Hello there. <prosody rate='{}'>Light carries sound.</prosody> Hello there.</speak>"
    usual, fast = (speak(pipeline, text.format(rate)) for rate in ("100%", "160%"))
    lengths = [[piece.end - piece.start for piece in made.sentences[0]] for made in (usual, fast)]
    assert lengths[0][0] == lengths[1][0] and lengths[0][2] == pytest.approx(lengths[1][2])
    assert lengths[1][1] < 0.8 * lengths[0][1]
    whole = speak(pipeline, "Light carries sound.", speed=1.6)
    assert lengths[1][1] == pytest.approx(whole.sentences[0][0].end)
    pair = pipeline([text.format("160%"), "Hello there."], **FAST,
                    generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)])
    assert pair.sentences[0] == fast.sentences[0]


def test_pronunciations_change_phonemes_and_stand_in_the_facts(pipeline, tmp_path):
    table = tmp_path / "own.tsv"
    table.write_text("GIF\tdʒɪf\nJPEG\tˈdʒeɪpɛɡ\n", encoding="utf-8")
    results = [speak(pipeline, "I saw a GIF.", pronounce=given) for given in (None, {"GIF": "dʒɪf"}, table)]
    assert [made.words[0][-1].text for made in results] == ["gif", "GIF", "GIF"]
    assert [made.words[0][-1].phonemes[0].text for made in results] == ["ɡ", "ʤ", "ʤ"]
    assert results[2].settings["pronounce"] == {"GIF": "dʒɪf"} and "pronounce" not in results[0].settings
    assert np.array_equal(results[1].audio[0], results[2].audio[0])
    facts = pipeline.facts("I saw a GIF.", 1, pronounce=table)
    assert facts["pronounce"] == {"GIF": "dʒɪf"} and facts["text"] == "I saw a GIF."


@pytest.mark.parametrize(("options", "message"), [
    ({"text": "<speak><b>no</b></speak>"}, "<b>, which is not known"), ({"text": "a", "pronounce": {"a": "7"}}, "'7'"),
    ({"text": "<speak>Привет</speak>"}, "cyrillic"), ({"text": "<speak>a<break time='99s'/></speak>"}, "limit of 10 s"),
    ({"text": "a", "pronounce": 3}, "must be words"), ({"text": "a < b", "markup": True}, "no XML")])
def test_refusals(pipeline, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**options, **FAST)
    with pytest.raises(ValueError, match=message):
        pipeline.stream(**options, **FAST)
    with pytest.raises(ValueError, match=message):
        pipeline.explain(**options)


def tone(seconds, hertz=200):
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_stretching_changes_the_length_and_keeps_pitch_and_level(speed):
    stretch = TimeStretch(RATE, speed)
    made = torch.cat([stretch(tone(2.0)), stretch.finish()])
    assert len(made) == round(2 * RATE / speed)
    inner = made[RATE // 10:-RATE // 10].double()
    assert float(inner.square().mean().sqrt()) == pytest.approx(0.5 / 2**0.5, rel=0.02)
    spectrum = torch.fft.rfft(inner * torch.hann_window(len(inner), dtype=torch.float64)).abs()
    assert int(spectrum.argmax()) * RATE / len(inner) == pytest.approx(200, abs=2)


@pytest.mark.parametrize("size", [1, 37, 400, 5000])
def test_a_stretch_in_chunks_is_that_of_the_whole(size):
    audio = torch.randn(6000, generator=torch.Generator().manual_seed(0)).cumsum(0) / 100 if size > 1 else tone(0.15)
    whole, parts = TimeStretch(RATE, 1.4), TimeStretch(RATE, 1.4)
    expected = torch.cat([whole(audio), whole.finish()])
    made = torch.cat([*map(parts, audio.split(size)), parts.finish()])
    assert torch.equal(made, expected)


@pytest.mark.parametrize("count", [0, 1, 300, 700])
def test_short_and_silent_sounds_can_be_stretched(count):
    for audio in (torch.zeros(count), tone(1.0)[:count]):
        stretch = TimeStretch(RATE, 0.7)
        made = torch.cat([stretch(audio), stretch.finish()])
        assert len(made) == round(count / 0.7) and made.isfinite().all()


def test_effects_take_their_loudness_in_a_ramp():
    made = torch.cat([*map(Effects(RATE, volume=-20.0), torch.ones(400).split(33))])
    assert made[0] == 1 and (made[:80].diff() < 0).all() and torch.allclose(made[80:], torch.full((320,), 0.1))
