"""Short real trainings of codec and speech generator: losses fall, a stopped run continues bit for bit."""

import numpy as np
import pytest
import torch
from speech import SMALL_CODEC, SMALL_SPEECH, small_codec, write_speech
from torch.nn.utils.rnn import pad_sequence

from photophone.codecs.stream_codec.model import StreamCodec
from photophone.core.tokens import Tokens
from photophone.data.speech import SpeechDataset
from photophone.generators.speech_ar.model import SpeechFlowAR
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.trainer import Trainer
from photophone.training.losses.adversary import Adversary, SpectralDiscriminator
from photophone.training.losses.audio import SpectralLoss
from photophone.training.tasks.codec import CodecTask, CodecWeights
from photophone.training.tasks.speech_generator import AlignedSpeech, SpeechGeneratorTask, token_durations

NEVER = {"preview_every": 0, "validate_every": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SpeechDataset(write_speech(tmp_path_factory.mktemp("speech") / "voice.safetensors"))


def codec_trainer(data, folder, resume=False, weights=None, model=None, **changes):
    torch.manual_seed(0)
    codec = model or StreamCodec(**SMALL_CODEC)
    weights = weights or CodecWeights(adversarial=0.1, features=0.2, crop_seconds=0.3)
    settings = {"steps": 40, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 5, "log_every": 5,
                "validate_every": 20, "preview_every": 40, "checkpoint_every": 15}
    task = CodecTask(codec, data, data, weights)
    return Trainer(task, TrainConfig("speech", **{**settings, **changes}), folder, resume)


def read(folder, key):
    import json
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def model_bytes(folder, step):
    return (folder / "checkpoints" / f"step-{step:08d}" / "ema.safetensors").read_bytes()


def test_a_stopped_training_of_a_codec_continues_bit_for_bit(data, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert codec_trainer(data, whole).run() == 40
    assert codec_trainer(data, stopped).run(max_seconds=0) == 1
    trainer = codec_trainer(data, stopped, resume=True)
    assert trainer.step == 1
    torch.manual_seed(99)
    assert trainer.run() == 40
    assert (model_bytes(whole, 40) == model_bytes(stopped, 40)) is True
    mel = read(whole, "mel")
    assert mel[-1] < 0.7 * mel[0]
    assert read(whole, "validation_mel")[-1] < read(whole, "validation_mel")[0]
    codec = StreamCodec.from_pretrained(whole / "export")
    assert codec.decode(codec.encode(data.clip(0)[None, None])).shape[-1] == len(data.clip(0))
    assert (whole / "pictures" / "step-00000040.png").exists()


def test_a_fixed_encoder_keeps_its_tokens(data, tmp_path):
    codec = StreamCodec(**SMALL_CODEC)
    clip = data.clip(0)[None, None]
    before, sound = codec.eval().encode(clip).values, codec.decode(codec.encode(clip))
    task = CodecTask(codec, data, weights=CodecWeights(crop_seconds=0.3), freeze_encoder=True)
    Trainer(task, TrainConfig("speech", steps=3, batch_size=4, log_every=1, **NEVER), tmp_path).run()
    assert torch.equal(codec.eval().encode(clip).values, before)
    assert not torch.allclose(codec.decode(codec.encode(clip)), sound)


def aligned(data, patch_size=4):
    codec = small_codec()
    tokens = [codec.encode(data.clip(i)[None, None]).values[0] for i in range(len(data))]
    lengths = torch.tensor([len(values) for values in tokens])
    return AlignedSpeech(data, Tokens(pad_sequence(tokens, batch_first=True), lengths), codec.frame_rate, patch_size)


def test_aligned_speech_is_whole_patches(data):
    speech = aligned(data)
    batch = speech.batch(np.arange(len(data)))
    totals = batch["durations"].sum(1)
    assert bool((totals % 4 == 0).all()) and int(totals.max()) == batch["tokens"].shape[1]
    clip_tokens = -(-data.lengths // 400)
    assert bool(((totals - clip_tokens) < 4).all()) and bool((totals >= clip_tokens).all())
    assert torch.equal(batch["mask"].sum(1), torch.tensor([len(f["phonemes"]) for f in data.fields]))


def test_durations_in_tokens_keep_every_boundary():
    seconds = [0.31, 0.02, 0.024, 0.1, 0.0333, 0.2]
    counts = token_durations(seconds, 40)
    np.testing.assert_allclose(counts.cumsum(0) / 40, np.cumsum(seconds), atol=0.5 / 40 + 1e-9)


def generator_trainer(speech, folder, resume=False, seed=0, **changes):
    torch.manual_seed(seed)
    model = SpeechFlowAR(**SMALL_SPEECH)
    model.fit_statistics(Tokens(torch.cat(speech.values)[None]))
    settings = {"steps": 40, "batch_size": 6, "optimizer": "muon", "learning_rate": 5e-3, "warmup_steps": 5,
                "log_every": 5, "validate_every": 20, "preview_every": 40, "checkpoint_every": 15}
    task = SpeechGeneratorTask(model, speech, speech, small_codec())
    return Trainer(task, TrainConfig("speech", **{**settings, **changes}), folder, resume)


def test_a_stopped_training_of_a_generator_continues_bit_for_bit(data, tmp_path):
    speech, whole, stopped = aligned(data), tmp_path / "whole", tmp_path / "stopped"
    assert generator_trainer(speech, whole).run() == 40
    assert generator_trainer(speech, stopped).run(max_seconds=0) == 1
    trainer = generator_trainer(speech, stopped, resume=True, seed=7)
    assert trainer.run() == 40
    assert (model_bytes(whole, 40) == model_bytes(stopped, 40)) is True
    flow, duration = read(whole, "flow_loss"), read(whole, "duration_loss")
    assert sum(flow[-2:]) < 0.9 * sum(flow[:2]) and duration[-1] < 0.5 * duration[0]
    assert read(whole, "validation_flow_loss")[-1] < read(whole, "validation_flow_loss")[0]


def test_unaligned_or_foreign_data_is_refused(data):
    codec = small_codec()
    tokens = Tokens(torch.zeros(len(data), 4, 8), torch.full((len(data),), 4))
    with pytest.raises(ValueError, match=r"clip 0: (\d+) phonemes, \1 durations .* but 4 tokens"):
        AlignedSpeech(data, tokens, codec.frame_rate, 4)
    with pytest.raises(ValueError, match="tokenize the same file again"):
        AlignedSpeech(data, tokens[:2], codec.frame_rate, 4)
    with pytest.raises(ValueError, match="prepare the data with --sample-rate 8000"):
        CodecTask(StreamCodec(**{**SMALL_CODEC, "sample_rate": 8000}), data)


def test_spectral_distances_of_scaled_and_equal_sound():
    audio = torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    loss = SpectralLoss(16000)
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in loss(audio, audio).values())
    terms = loss(audio * 2, audio)  # all magnitudes twice: the logarithms differ by log 2
    assert float(terms["mel"]) == pytest.approx(np.log(2), rel=1e-3)
    with_error = np.log(2) + 1  # and the relative error of magnitudes is 1, a little less by its floor
    assert np.log(2) + 0.9 < float(terms["magnitude"]) < with_error


def test_each_side_of_the_game_gets_its_own_gradient():
    torch.manual_seed(0)
    adversary = Adversary([SpectralDiscriminator(128, width=8), SpectralDiscriminator(256, width=8)])
    real, made = torch.randn(2, 1, 1024), torch.randn(2, 1, 1024, requires_grad=True)
    losses = adversary(made, real)
    weights = list(adversary.parameters())
    own = torch.autograd.grad(losses["discriminator"], weights, retain_graph=True)
    # a bias shifts real and made scores alike, which may cancel while the hinge holds for all of them
    assert all(float(gradient.abs().sum()) > 0 for weight, gradient in zip(weights, own) if weight.ndim > 1)
    for name in ("adversarial", "features"):
        given = torch.autograd.grad(losses[name], [made, *weights], retain_graph=True, allow_unused=True)
        assert float(given[0].abs().sum()) > 0 and all(gradient is None for gradient in given[1:]), name
    assert torch.autograd.grad(losses["discriminator"], made, allow_unused=True)[0] is None
    # hinge: a discriminator that says 1 for real and -1 for made has no loss
    scores = {"real": torch.ones(1, 1, 4), "made": -torch.ones(1, 1, 4)}
    class Perfect(torch.nn.Module):
        def forward(self, media):
            return [media, scores["real"] if media is real else scores["made"]]
    assert float(Adversary([Perfect()])(made, real)["discriminator"]) == 0
