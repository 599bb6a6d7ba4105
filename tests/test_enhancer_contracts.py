"""What every registered enhancer must do: an enhancer is tested by being registered."""

import pytest
import torch
from tiny import build, distinct

from photophone import Enhancer, SpeechEnhancementPipeline, create_model
from photophone.core.tokens import Tokens
from photophone.loading.registry import find

ENHANCERS = distinct("enhancer")
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def test_there_are_enhancers():
    assert {"speech-enhancer", "llase-enhancer"} <= set(ENHANCERS)


@pytest.mark.parametrize("name", ENHANCERS)
def test_speech_stays_as_long_as_it_was(name):
    model = build(name)
    audio = model.example_audio(3)
    made = model.enhance(audio)
    assert isinstance(model, Enhancer) and made.shape == audio.shape and made.dtype == torch.float32
    assert bool(made.isfinite().all()) and not torch.allclose(made, audio, **CLOSE)
    assert torch.equal(audio, model.example_audio(3))  # what was given is not changed
    assert model.sample_rate > 0 and model.reach >= 0 and model.fade_seconds >= 0
    assert model.reach % model.alignment == 0


@pytest.mark.parametrize("name", ENHANCERS)
def test_a_batch_equals_its_rows(name):
    model = build(name)
    audio = model.example_audio(4)
    size = audio.shape[-1]
    lengths = torch.tensor([size, size // 2, size - 33, size // 2])
    rubbish = torch.where(torch.arange(size) < lengths[:, None, None], audio, 0.5)
    batch = model.enhance(rubbish, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model.enhance(audio[row:row + 1, :, :length])
        torch.testing.assert_close(batch[row:row + 1, :, :length], alone, **CLOSE)
        assert not batch[row, :, length:].any()
    shorter = model.enhance(audio, lengths - 40)
    assert shorter.shape == audio.shape and not shorter[..., size - 40:].any()


@pytest.mark.parametrize("name", ENHANCERS)
def test_audio_goes_to_the_device_and_gradients_are_off(name, monkeypatch):
    model, given = build(name), []

    def enhance(self, audio):
        given.append((audio.device.type, torch.is_grad_enabled()))
        return audio

    monkeypatch.setattr(type(model), "_enhance", enhance)
    monkeypatch.setattr(type(model), "device", property(lambda self: torch.device("meta")))
    assert model.enhance(model.example_audio(1)).device.type == "meta"
    assert given == [("meta", False)]
    monkeypatch.undo()
    assert not model.enhance(model.example_audio(1)).requires_grad


@pytest.mark.parametrize("name", ENHANCERS)
def test_wrong_audio_is_refused(name):
    model = build(name)
    audio = model.example_audio(2)
    size = audio.shape[-1]
    nan, endless = audio.clone(), audio.clone()
    nan[1, 0, 5], endless[0, 0, 0] = torch.nan, torch.inf
    for wrong, words in [(audio[:, 0], "shape"), (audio.expand(-1, 2, -1), "shape"), (audio[..., :0], "shape"),
                         (audio[:0], "shape"), (audio.short(), "finite floats, got torch.int16"), (nan, "NaN"),
                         (endless, "infinite")]:
        with pytest.raises(ValueError, match=words):
            model.enhance(wrong)
    for lengths in (torch.tensor([size]), torch.tensor([0, size]), torch.tensor([size, size + 1]),
                    torch.tensor([1.0, 2.0])):
        with pytest.raises(ValueError, match="lengths must be Long"):
            model.enhance(audio, lengths)


@pytest.mark.parametrize("name", ENHANCERS)
def test_saved_weights_give_bit_equal_speech(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    for (key, ours), (_, loaded) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(ours, loaded), key
    audio = model.example_audio(2)
    assert not again.training and torch.equal(model.enhance(audio), again.enhance(audio))


@pytest.mark.parametrize("name", ENHANCERS)
def test_pieces_equal_the_whole_or_are_blended(name):
    """A part with ``reach`` samples more to both sides is what the whole has there, where nothing is blended."""
    model = build(name)
    seconds = 4 * model.reach / model.sample_rate + 0.3
    audio = torch.cat([model.example_audio(1, seed) for seed in range(round(5 * seconds) + 1)], dim=-1)
    begin, count = 2 * model.reach, model.alignment + 100
    assert begin + count + model.reach < audio.shape[-1]
    part = model.enhance(audio[..., begin - model.reach:begin + count + model.reach])
    assert part.shape[-1] == count + 2 * model.reach
    if not model.fade_seconds:
        whole = model.enhance(audio)[..., begin:begin + count]
        torch.testing.assert_close(part[..., model.reach:model.reach + count], whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ENHANCERS)
def test_the_pipeline_takes_it(name):
    model = build(name)
    audio = model.example_audio(1)[0, 0].numpy()
    (made,) = SpeechEnhancementPipeline(model)(audio, model.sample_rate).audio
    assert made.shape == audio.shape and made.std() > 0


@pytest.mark.parametrize("name", ENHANCERS)
def test_enhancers_train_or_say_that_they_do_not(name):
    torch.manual_seed(0)
    model = create_model(name, **find(name).tiny).train()
    noisy, clean = model.example_audio(2), model.example_audio(2, seed=1)
    tokens = model.example_tokens(clean)
    if not model.trains:
        with pytest.raises(ValueError, match="is not trained as a whole"):
            model(noisy, clean)
        return
    if tokens is not None:
        model.fit_statistics(tokens)
    output = model(noisy, clean, tokens)
    output.loss.backward()
    assert output.loss.shape == ()
    assert set(output.metrics) == ({"waveform"} if tokens is None else {"waveform", "tokens"})
    assert all(bool(value.isfinite()) and not value.requires_grad for value in output.metrics.values())
    torch.testing.assert_close(output.loss.detach(), sum(output.metrics.values()))
    assert not [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    weighed = model(noisy, clean, tokens, weights={"waveform": 2.0, "tokens": 0.5})
    expected = sum({"waveform": 2.0, "tokens": 0.5}[key] * value for key, value in output.metrics.items())
    torch.testing.assert_close(weighed.loss, expected)


@pytest.mark.parametrize("name", ENHANCERS)
def test_enhancers_run_in_bfloat16(name, tmp_path):
    build(name).save_pretrained(tmp_path)
    model = type(build(name)).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert bool(model.enhance(model.example_audio(2)).isfinite().all())


def test_clean_tokens_of_a_batch_equal_those_of_its_rows():
    model = build("speech-enhancer")
    audio = model.example_audio(2)
    lengths = torch.tensor([audio.shape[-1], audio.shape[-1] - 333])
    batch = model.predict_tokens(audio, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model.predict_tokens(audio[row:row + 1, :, :length])
        count = -(-length // model.config.token_hop)
        assert isinstance(alone, Tokens) and alone.num_tokens == count == int(batch.lengths[row])
        torch.testing.assert_close(batch.values[row, :count], alone.values[0], **CLOSE)
