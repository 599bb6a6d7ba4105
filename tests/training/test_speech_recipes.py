"""Speech tasks from settings: each learns a step, starts from saved models, and refuses what does not fit."""

import numpy as np
import pytest
import torch
from speech import SMALL_CODEC, SMALL_SPEECH, small_codec, small_speech, write_speech
from torch.nn.utils.rnn import pad_sequence

from photophone import SpeechEnhancer, Tokens
from photophone.codecs.vocos.model import Vocos
from photophone.data.speech import SpeechDataset
from photophone.generators.enhancer.live import LiveEnhancer
from photophone.training.loop.config import TrainConfig
from photophone.training.tasks.speech_recipes import codec_task, enhancer_task, speech_generator_task

ENHANCER = {"channels": [8, 12, 16], "squeeze": 4, "width": 48, "hidden": 64, "depth": 2, "token_depth": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Speech, the folder of a codec and the tokens that it makes of the speech."""
    folder = tmp_path_factory.mktemp("speech")
    data = SpeechDataset(write_speech(folder / "voice.safetensors"))
    small_codec().save_pretrained(folder / "codec")
    rows = [small_codec().encode(data.clip(i)[None, None]).values[0] for i in range(len(data))]
    Tokens(pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])).save(folder / "tokens")
    return folder


def config(folder, **settings):
    voice = str(folder / "voice.safetensors")
    return TrainConfig(data=voice, validation=voice, **settings)


def step(task):
    """One loss, of which the trained model gets gradients."""
    loss, _ = task.loss(task.model, task.batch(np.arange(2), np.random.default_rng(0)), 0)
    loss.backward()
    assert any(weight.grad is not None and float(weight.grad.abs().sum()) > 0 for weight in task.model.parameters())
    return task


def test_a_codec_and_a_vocoder(folder):
    task = step(codec_task(config(folder, model=SMALL_CODEC, task={"crop_seconds": 0.3, "features": 1.0})))
    assert task.validation is not None and task.model.adversary is not None
    more = codec_task(config(folder, init_from=str(folder / "codec"), task={
        "more_data": [str(folder / "voice.safetensors")], "freeze_encoder": True}))
    assert len(more.data) == 2 * len(task.data)
    for name, weight in small_codec().state_dict().items():
        assert torch.equal(more.model.codec.state_dict()[name], weight), name
    with pytest.raises(ValueError, match="the codec at 24000 Hz"):
        codec_task(config(folder, task={"codec": "vocos"}))
    vocoder = {"sample_rate": 16000, "width": 16, "hidden": 24, "depth": 1}
    assert isinstance(codec_task(config(folder, model=vocoder, task={"codec": "vocos"})).model.codec, Vocos)
    with pytest.raises(ValueError, match=r"task.codec must be one of bicodec, stream, vocos, .*, got 'mp3'"):
        codec_task(config(folder, task={"codec": "mp3"}))


def test_an_enhancer(folder):
    noise = str(folder / "voice.safetensors")
    settings = {"codec": str(folder / "codec"), "noise": noise, "validation_noise": noise,
                "mixing": {"seconds": 0.5, "rooms": 2}}
    task = step(enhancer_task(config(folder, model=ENHANCER, task=settings)))
    assert isinstance(task.model, SpeechEnhancer) and task.validation is not None
    assert task.model.config.token_dim == 8 and float(task.model.token_std.std()) > 0
    for name in ("codec", "noise"):
        with pytest.raises(ValueError, match=f"the setting '{name}' is missing"):
            enhancer_task(config(folder, task={key: value for key, value in settings.items() if key != name}))


def test_a_live_enhancer_begins_as_an_offline_one(folder):
    noise = str(folder / "voice.safetensors")
    settings = {"live": True, "noise": noise, "mixing": {"seconds": 0.5, "rooms": 2}}
    live = {**{key: value for key, value in ENHANCER.items() if not key.startswith("token")}, "waist_depth": 1}
    task = step(enhancer_task(config(folder, model=live, task=settings)))
    assert isinstance(task.model, LiveEnhancer) and task.codec is None
    torch.manual_seed(3)
    offline = SpeechEnhancer(**{**ENHANCER, "depth": 2, "token_depth": 1})
    offline.save_pretrained(folder / "offline")
    task = step(enhancer_task(config(folder, init_from=str(folder / "offline"), task=settings)))
    assert torch.equal(task.model.unsqueeze.weight, offline.unsqueeze.weight)
    task.model.save_pretrained(folder / "live")
    again = enhancer_task(config(folder, init_from=str(folder / "live"), task=settings))
    assert torch.equal(again.model.embed.weight, task.model.embed.weight)


def test_a_speech_generator(folder):
    settings = {"codec": str(folder / "codec"), "tokens": str(folder / "tokens"),
                "validation_tokens": str(folder / "tokens")}
    task = step(speech_generator_task(config(folder, model=SMALL_SPEECH, task=settings)))
    assert len(task.data) == len(task.validation) and float(task.model.token_std.std()) > 0
    small_speech().save_pretrained(folder / "generator")
    started = speech_generator_task(config(folder, init_from=str(folder / "generator"), task=settings))
    assert torch.equal(started.model.token_mean, small_speech().token_mean)
    with pytest.raises(ValueError, match="the setting 'tokens' is missing"):
        speech_generator_task(config(folder, task={"codec": settings["codec"]}))
    with pytest.raises(ValueError, match=r"unknown task settings \['speed'\]"):
        speech_generator_task(config(folder, task={**settings, "speed": 2}))
