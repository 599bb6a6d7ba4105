"""Named voices of the speech generator: what they change, mixtures, training, the pipeline and its words."""

import numpy as np
import pytest
import torch
from speech import SMALL_SPEECH, small_codec

from photophone import TextToSpeechPipeline, Voice
from photophone.core.noise import SeededNoise
from photophone.core.tokens import Tokens
from photophone.generators.speech_ar.model import Phonemes, SpeechFlowAR, SpeechSampler
from photophone.generators.speech_ar.voices import single_voice
from photophone.pipelines.speech_fronts import voice_shares

PAIRS = [["heart", "american"], ["emma", "british"], ["george", "british"]]
VOICES = dict(PAIRS)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = SpeechFlowAR(**SMALL_SPEECH, voices=PAIRS).eval()
    for weight in made.parameters():
        weight.data += 0.03 * torch.randn_like(weight)
    made.voice_in.weight.data *= 5
    made.fit_statistics(Tokens(0.2 + 1.3 * torch.randn(1, 50, 8)))
    return made


def said(model, voices, rows=2):
    ids = torch.arange(1, 9).expand(rows, -1).contiguous()
    durations = torch.full_like(ids, 2)
    return model.generate(Phonemes(ids, torch.ones_like(ids, dtype=torch.bool), durations, voices=voices),
                          noise=SeededNoise.from_seeds([3] * rows), sampler=SpeechSampler(num_inference_steps=2)).values


def test_each_row_has_its_own_voice(model):
    first, other, mixed = said(model, torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]]), 3)
    assert not torch.allclose(first, other, **CLOSE)
    assert not torch.allclose(mixed, first, **CLOSE) and not torch.allclose(mixed, other, **CLOSE)
    torch.testing.assert_close(said(model, None, 1)[0], first, **CLOSE)  # the first voice where none is asked for


def test_a_mixture_is_the_weighted_mean_of_the_vectors(model):
    shares = torch.tensor([[0.25, 0.0, 0.75]])
    table = model.voice_in.weight
    torch.testing.assert_close(model._voice(shares, 1)[0, 0], 0.25 * table[0] + 0.75 * table[2])
    with torch.no_grad():
        kept = table[1].clone()
        table[1] = 0.25 * table[0] + 0.75 * table[2]
        same = said(model, torch.tensor([[0.0, 1.0, 0.0]]), 1)
        table[1] = kept
    torch.testing.assert_close(said(model, shares, 1), same, **CLOSE)


def test_one_voice_alone_says_the_same(model):
    alone = single_voice(model, "george")
    assert alone.accents == {} and alone.config.voices is None
    torch.testing.assert_close(said(alone, None, 1), said(model, torch.tensor([[0.0, 0.0, 1.0]]), 1), **CLOSE)
    ids = torch.arange(1, 40)[None]
    wanted = model.durations(ids, ids > 0, voices=torch.tensor([[0.0, 0.0, 1.0]]))
    assert torch.equal(alone.durations(ids, ids > 0), wanted)
    with pytest.raises(ValueError, match="no voice is named 'bella'; there are heart, emma, george"):
        single_voice(model, "bella")
    with pytest.raises(ValueError, match="only one without a name"):
        single_voice(alone, "heart")


def test_voices_have_paces_of_their_own(model):
    ids = torch.arange(1, 40)[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    logs = [model.log_durations(model.encode_text(ids, mask, row[None])) for row in torch.eye(3)]
    assert not torch.allclose(logs[0], logs[1], **CLOSE)


def test_the_loss_reaches_the_vectors_of_the_voices_that_speak(model):
    ids, durations = torch.arange(1, 9)[None], torch.full((1, 8), 2)
    condition = Phonemes(ids, torch.ones_like(ids, dtype=torch.bool), durations, voices=torch.tensor([[0.0, 1.0, 0.0]]))
    model.zero_grad()
    model.loss(Tokens(torch.randn(1, 16, 8)), condition).loss.backward()
    learns = model.voice_in.weight.grad.abs().sum(1) > 0
    assert learns.tolist() == [False, True, False]
    model.zero_grad()


@pytest.mark.parametrize(("voices", "words"), [
    (torch.tensor([[0.5, 0.6, 0.0]]), "sum 1"), (torch.tensor([[1.5, -0.5, 0.0]]), "at least 0"),
    (torch.tensor([[1.0, 0.0]]), r"float \(1, 3\)")])
def test_wrong_shares_are_refused(model, voices, words):
    with pytest.raises(ValueError, match=words):
        said(model, voices, 1)


def test_a_generator_without_names_takes_no_shares():
    plain = SpeechFlowAR(**SMALL_SPEECH).eval()
    with pytest.raises(ValueError, match="one voice without a name"):
        said(plain, torch.ones(1, 1), 1)
    assert not any("voice" in name for name in plain.state_dict())
    for wrong in ([["emma", "welsh"]], [["emma", "british"], ["emma", "american"]], []):
        with pytest.raises(ValueError, match="pairs of a name, each once, and one of american, british"):
            SpeechFlowAR(**SMALL_SPEECH, voices=wrong)


def test_a_pipeline_speaks_with_names_and_mixtures(model, tmp_path):
    TextToSpeechPipeline(model, small_codec()).save_pretrained(tmp_path)
    pipeline = TextToSpeechPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.voices == tuple(VOICES)

    def speak(voice, text="Light carries sound."):
        return pipeline(text, voice=voice, num_inference_steps=1, generator=torch.Generator().manual_seed(1))

    first, emma, mixed = speak(None), speak("emma"), speak({"emma": 1, "heart": 3})
    assert np.array_equal(first.audio[0], speak("heart").audio[0])
    assert len(emma.audio[0]) != len(first.audio[0]) or not np.allclose(emma.audio[0], first.audio[0])
    assert np.array_equal(mixed.audio[0], speak("emma=1,heart=3").audio[0])
    assert emma.facts(0)["voice"] == "emma" and mixed.facts(0)["voice"] == {"heart": 0.75, "emma": 0.25}
    chunks = pipeline.stream("Light carries sound.", voice="emma", num_inference_steps=1,
                             generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(np.concatenate([chunk.audio for chunk in chunks]), emma.audio[0], atol=1e-4)
    with pytest.raises(ValueError, match="no voice is named 'bella'; there are heart, emma, george"):
        speak("bella")
    with pytest.raises(ValueError, match="reads no recordings; its voices are heart, emma, george"):
        speak(Voice(np.zeros(16_000, np.float32), 16_000))


def test_british_voices_read_british_words(model):
    pipeline = TextToSpeechPipeline(model, small_codec())
    given = "heart", "emma", {"heart": 3, "george": 2}
    american, british, mixed = ("".join(piece.phonemes for piece in pipeline.explain("Go far, and tear it.", voice=one))
                                for one in given)
    assert "O fˈɑɹ" in american and "tˈɛɹ" in american
    assert "Q fˈɑː" in british and "tˈɛː" in british and mixed == american


@pytest.mark.parametrize(("given", "words"), [
    ("emma=x", "weights of voices are numbers"), ({"emma": 0}, "over 0 and finite"), ({}, "no voice is named"),
    ({"emma": float("nan")}, "over 0 and finite"), ("emma,", "no voice is named ''")])
def test_wrong_mixtures_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        voice_shares(given, list(VOICES))
