"""The weights photophone/tiny-speech: size, seeds, streaming, and how the voice sounds, beside the voice it learned."""

import numpy as np
import pytest
import torch

from photophone import TextToSpeechPipeline
from photophone.evaluation.metrics.audio import log_mel, word_error_rate
from photophone.evaluation.metrics.judges import JUDGE_RATE, SpeakerEncoder, Transcriber, prepare
from photophone.evaluation.peers.speech import hibari
from photophone.loading.registry import PRETRAINED

NAME = "photophone/tiny-speech"
RATE = 24_000
TEXTS = ["Light carries sound.", "The photophone sent speech over two hundred meters on a beam of light.",
         "Who goes there?", "Dr. Smith paid $5.50 on 2024-03-05 at 7:30 pm; see example.org for more!"]
SAMPLES = [46_080, 107_520, 38_400, 230_400]
LEVELS = [-28.6, -25.2, -26.8, -26.3]
"""RMS in dB of full scale with the seeds 0 to 3."""
SPECTRUM = [-1.78, -1.84, -1.99, -2.2, -2.25, -2.34, -2.45, -2.53, -2.59, -2.6, -2.59, -2.68, -2.72, -2.78, -2.88,
            -3.01, -3.23, -3.24, -3.08, -3.02]
"""Mean log10 of 20 mels of the second text."""
PITCHES = {"heart": 185, "michael": 108, "emma": 182, "george": 144}
"""Median Hz of each voice saying the second text with seed 1."""


@pytest.fixture(scope="module")
def pipeline():
    pipeline = TextToSpeechPipeline.from_pretrained(NAME)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def spoken(pipeline):
    return pipeline(TEXTS, generator=[torch.Generator().manual_seed(seed) for seed in range(4)]).audio


@pytest.fixture(scope="module")
def teacher():
    return [prepare(*hibari(text)) for text in TEXTS]


def pitches(audio, rate=RATE):
    """Hz of the voiced frames, from the highest peak of the autocorrelation between 80 and 400 Hz."""
    size, hop = round(0.064 * rate), rate // 40
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), size)[::hop]
    frames = frames[frames.std(axis=1) > 0.02]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(frames, 2 * size)) ** 2
    lags = np.fft.irfft(power)[:, :size] / (1 - np.arange(size) / size)
    lags = lags[:, rate // 400:rate // 80] / lags[:, :1]
    return rate / (lags.argmax(axis=1) + rate // 400)[lags.max(axis=1) > 0.6]


def test_the_weights_fit_the_wheel_and_are_16_bit(pipeline):
    files = list((PRETRAINED / "tiny-speech").rglob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 20_000_000
    half = TextToSpeechPipeline.from_pretrained(NAME, dtype=torch.float16)
    for name in ("codec", "speech_generator"):
        stored = getattr(half, name).state_dict()
        for key, weight in getattr(pipeline, name).state_dict().items():
            assert torch.equal(weight, stored[key].to(weight.dtype)), f"{key} is not stored in 16 bits"


def test_golden_statistics_of_the_voice(spoken):
    assert [len(audio) for audio in spoken] == SAMPLES  # the durations of phonemes are not drawn
    for audio, level in zip(spoken, LEVELS):
        assert np.isfinite(audio).all() and 0.2 < np.abs(audio).max() < 0.9 and abs(audio.mean()) < 1e-3
        assert 20 * np.log10(audio.std()) == pytest.approx(level, abs=0.3)
    np.testing.assert_allclose(log_mel(spoken[1], RATE, 20).mean(axis=0), SPECTRUM, atol=0.03)


def test_it_sounds_like_the_voice_it_learned(spoken, teacher):
    encoder, spoken = SpeakerEncoder(), [prepare(audio, RATE) for audio in spoken]
    for audio, model in zip(spoken, teacher):
        assert len(audio) == pytest.approx(len(model), rel=0.15)
        assert encoder.similarity(audio, model, JUDGE_RATE) > 0.85
    # of all sentences together: how high a single one is spoken is its melody, not the voice
    high = [np.median(np.concatenate([pitches(audio, JUDGE_RATE) for audio in clips])) for clips in (spoken, teacher)]
    assert high[0] == pytest.approx(high[1], rel=0.06)
    ours, theirs = (log_mel(np.concatenate(clips), JUDGE_RATE, 20) for clips in (spoken, teacher))
    loud = [mels[mels.mean(axis=1) > -3].mean(axis=0) for mels in (ours, theirs)]
    assert np.abs(loud[0] - loud[1]).mean() < 0.15  # 3 dB in the mean over bands


def test_its_words_are_heard(spoken):
    listen = Transcriber()
    heard = [listen(audio, RATE) for audio in spoken]
    said = ["Light carries sound.", "The photo phone sent speech over 200 meters on a beam of light.", TEXTS[2],
            "Doctor Smith paid $5.50 on March 5th 2024 at 7:30 pm see example dot org for more"]
    assert word_error_rate(said[:3], heard[:3]) < 0.1  # 19 words
    assert word_error_rate(said, heard) < 0.25  # numbers have more than one way to be written


def test_lone_words_begin_with_their_vowel(pipeline):
    """A voice that learned from sentences alone begins them with a murmur, and "Eight." is heard as "Wait."."""
    listen = Transcriber()
    words = ["Eight.", "Apples.", "Orange.", "Under.", "Eleven.", "Ask."]
    audio = pipeline(words, generator=[torch.Generator().manual_seed(seed) for seed in range(len(words))]).audio
    assert sum(word_error_rate([word], [listen(sound, RATE)]) > 0 for word, sound in zip(words, audio)) <= 1


def test_its_voices_are_clearly_different_and_mix(pipeline):
    encoder, generator = SpeakerEncoder(), lambda: torch.Generator().manual_seed(1)
    own = {name: pipeline(TEXTS[1], voice=name, generator=generator()).audio[0] for name in PITCHES}
    assert pipeline.voices == tuple(PITCHES)
    for name, audio in own.items():
        assert np.median(pitches(audio)) == pytest.approx(PITCHES[name], rel=0.05)
        assert all(encoder.similarity(audio, other, RATE) < 0.8 for key, other in own.items() if key != name)
    (mixed,) = pipeline(TEXTS[1], voice={"emma": 0.5, "george": 0.5}, generator=generator()).audio
    assert all(encoder.similarity(mixed, own[name], RATE) > 0.55 for name in ("emma", "george"))


@pytest.mark.parametrize("row", [1, 3])
def test_alone_streamed_and_in_a_batch_it_is_the_same(pipeline, spoken, row):
    (alone,) = pipeline(TEXTS[row], generator=torch.Generator().manual_seed(row)).audio
    chunks = [chunk.audio for chunk in pipeline.stream(TEXTS[row], generator=torch.Generator().manual_seed(row))]
    assert len(chunks) == len(alone) // (4 * pipeline.codec.hop_length)
    np.testing.assert_allclose(np.concatenate(chunks), alone, atol=1e-4)
    np.testing.assert_allclose(spoken[row], alone, atol=1e-4)


def test_one_step_is_the_default_and_more_agree_with_it(pipeline):
    """One step of the flow map comes near to what eight make of the same noise; guidance is a working option."""
    def tokens(**options):
        (made,) = pipeline(TEXTS[1], generator=torch.Generator().manual_seed(1), output_type="latent", **options).audio
        return made.values

    assert pipeline(TEXTS[0]).settings["num_inference_steps"] == 1
    usual = tokens()
    assert torch.equal(usual, tokens(num_inference_steps=1, guidance_scale=2.0))
    variance = usual.var()
    assert (tokens(num_inference_steps=8) - usual).square().mean() < 0.1 * variance
    errors = [float((tokens(guidance_scale=scale) - usual).square().mean()) for scale in (2.0, 2.1, 2.5, 3.0)]
    assert errors[0] == 0 and errors == sorted(errors)


def test_the_card_says_that_the_voice_is_synthetic_and_names_the_sources():
    card = " ".join((PRETRAINED / "tiny-speech" / "README.md").read_text(encoding="utf-8").split())
    for fact in ("The voices are synthetic", "hibari-tts 0.2.1", "Apache-2.0", "LJSpeech", "public domain", "AN4",
                 "LibriSpeech", "CC BY 4.0", "VCTK", "Kokoro-82M"):
        assert fact in card, fact
