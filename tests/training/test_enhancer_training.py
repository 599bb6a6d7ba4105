"""Short real trainings of a small enhancer: the loss falls, a stopped run continues bit for bit."""

import json

import numpy as np
import pytest
import torch
from speech import small_codec, write_speech

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.data.mixing import MixingConfig
from photophone.data.speech import SpeechDataset
from photophone.generators.enhancer.model import SpeechEnhancer
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.tasks.enhancer import CompressedLoss, EnhancerTask, crops_of, polish

SMALL = {"channels": [8, 12, 16], "squeeze": 4, "width": 48, "hidden": 64, "depth": 2, "token_depth": 1, "token_dim": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SpeechDataset(write_speech(tmp_path_factory.mktemp("speech") / "voice.safetensors"))


def build(data, seed=0, **options):
    torch.manual_seed(seed)
    mixing = MixingConfig(seconds=0.5, rooms=4, noises=(0.0, 1.0), white=1.0, babble=0.0, snr_db=(0.0, 5.0))
    task = EnhancerTask(SpeechEnhancer(**SMALL), small_codec(), data, data, (data, data), mixing, **options)
    task.fit_statistics(8)
    return task


def trainer(data, folder, resume=False, seed=0):
    settings = {"steps": 40, "batch_size": 4, "optimizer": "muon", "learning_rate": 5e-3, "warmup_steps": 5,
                "log_every": 5, "validate_every": 20, "preview_every": 40, "checkpoint_every": 15, "ema_decay": 0.9}
    return Trainer(build(data, seed), TrainConfig("speech", **settings), folder, resume)


def read(folder, key):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def test_a_stopped_training_continues_bit_for_bit(data, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert trainer(data, whole).run() == 40
    assert trainer(data, stopped).run(max_seconds=0) == 1
    resumed = trainer(data, stopped, resume=True, seed=9)
    torch.manual_seed(99)
    assert resumed.step == 1 and resumed.run() == 40
    weights = [(folder / "checkpoints" / "step-00000040" / "ema.safetensors").read_bytes()
               for folder in (whole, stopped)]
    assert (weights[0] == weights[1]) is True
    loss, gain = read(whole, "validation_loss"), read(whole, "validation_si_sdr_gain")
    assert loss[-1] < loss[0] and np.isfinite(gain).all()
    model = SpeechEnhancer.from_pretrained(whole / "export")
    clip = data.clip(0)[None, None]
    assert model.enhance(clip).shape == clip.shape
    assert (whole / "pictures" / "step-00000040.png").exists()


def test_the_loss_is_zero_for_equal_and_grows_with_errors():
    audio = 0.1 * torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(0))
    measure = CompressedLoss()
    assert all(float(value) == pytest.approx(0, abs=1e-12) for value in measure(audio, audio).values())
    louder, softer = (measure(audio * gain, audio) for gain in (2.0, 0.5))
    assert float(louder["missing"]) == 0 and float(softer["missing"]) == pytest.approx(float(softer["magnitude"]))
    scales = [2**0.3 - 1, 1 - 0.5**0.3]  # all compressed magnitudes change by these factors
    assert float(louder["magnitude"] / softer["magnitude"]) == pytest.approx((scales[0] / scales[1])**2, rel=1e-2)
    inverted = measure(-audio, audio)
    assert float(inverted["magnitude"]) == pytest.approx(0, abs=1e-12) and float(inverted["complex"]) > 0.01


def test_polishing_lowers_hiss_and_keeps_tones():
    time = torch.arange(32000) / 16000
    tone = 0.3 * torch.sin(2 * torch.pi * 500 * time) * (time % 1 < 0.5)
    hiss = 0.003 * torch.randn(32000, generator=torch.Generator().manual_seed(0))
    made = polish((tone + hiss)[None, None], 12.0)[0, 0]
    pause, sound = slice(9000, 15000), slice(1000, 7000)
    lowered = 10 * (made[pause].square().mean() / hiss[pause].square().mean()).log10()
    assert -12.5 < float(lowered) < -6
    assert float((made[sound] - tone[sound]).square().mean() / tone[sound].square().mean()) < 1e-3
    assert torch.equal(polish(tone[None, None], 0), tone[None, None])


def test_long_clips_come_more_often_and_a_further_voice_has_its_share(data):
    assert crops_of(torch.tensor([100, 250, 1000]), 100).tolist() == [0, 1, 1] + [2] * 10
    task = build(data, more_from=4, more_share=0.2)
    own = len(crops_of(data.lengths[:4], 8000))
    assert sum(task.examples >= 4) == min(2, round(own / 4)) and sum(task.examples < 4) == own


def test_what_does_not_fit_together_is_refused(data):
    with pytest.raises(ValueError, match="tokens of 8 channels and 400 samples, the model predicts 24 and 400"):
        EnhancerTask(SpeechEnhancer(**{**SMALL, "token_dim": 24}), small_codec(), data, data)
    with pytest.raises(ValueError, match="codec at 8000 Hz"):
        EnhancerTask(SpeechEnhancer(**SMALL), StreamCodec(**{**small_codec().config, "sample_rate": 8000}), data, data)
    with pytest.raises(ValueError, match="more_share"):
        build(data, more_share=1.0)


def test_hidden_states_of_a_recogniser_join_the_loss(data):
    class Bands(torch.nn.Module):  # any network that gives maps of waveforms
        def forward(self, audio):
            return [audio.unfold(-1, 64, 32)[:, 0]]

    task = build(data, features=Bands())
    batch = task.batch(np.arange(4), np.random.default_rng(0))
    loss, terms = task.loss(task.model, batch, 0)
    plain, _ = build(data).loss(task.model, batch, 0)
    assert float(terms["words"].detach()) > 0
    assert float(loss.detach()) == pytest.approx(float(plain.detach() + 0.03 * terms["words"].detach()), rel=1e-5)
