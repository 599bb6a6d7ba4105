"""Learning rate, data order, averaged weights and optimizers against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from photophone.training.loop import optim
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.optim import Ema, build_optimizers, learning_rate
from photophone.training.loop.trainer import epoch_indices


def test_learning_rate_is_a_ramp_and_half_a_cosine():
    config = TrainConfig("a", steps=110, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0 and rates[60] == pytest.approx(0.55) and rates[110] == pytest.approx(0.1)
    assert rates[35] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))
    assert all(now >= after for now, after in zip(rates[10:], rates[11:]))
    assert learning_rate(500, config) == pytest.approx(0.1)
    assert learning_rate(0, TrainConfig("a", steps=5, warmup_steps=0, learning_rate=1.0)) == 1.0
    assert learning_rate(0, TrainConfig("a", steps=5, warmup_steps=5, learning_rate=1.0)) == pytest.approx(0.2)


@pytest.mark.parametrize(("batch_size", "examples"), [(4, 12), (5, 12), (32, 12), (1, 3), (7, 7)])
def test_each_epoch_is_a_permutation(batch_size, examples):
    steps = -(-3 * examples // batch_size)
    stream = np.concatenate([epoch_indices(step, batch_size, examples, seed=3) for step in range(steps)])
    assert len(stream) == steps * batch_size
    epochs = [stream[start:start + examples] for start in range(0, 3 * examples, examples)]
    assert all(sorted(epoch) == list(range(examples)) for epoch in epochs)
    if examples > 7:
        assert list(epochs[0]) != list(epochs[1])


def test_a_step_needs_no_earlier_step():
    stream = [epoch_indices(step, 5, 12, seed=1) for step in range(9)]
    for step in (8, 2, 5):
        assert np.array_equal(epoch_indices(step, 5, 12, seed=1), stream[step])
    assert not np.array_equal(epoch_indices(0, 5, 12, seed=2), stream[0])
    assert np.array_equal(np.concatenate(stream[:5]), epoch_indices(0, 25, 12, seed=1))  # whatever the batch size


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 64)
        self.embedding = nn.Embedding(70, 64)
        self.conv = nn.Conv2d(3, 64, 3)
        self.inner_conv = nn.Conv2d(64, 64, 3)
        self.norm = nn.LayerNorm(64)
        self.register_buffer("count", torch.tensor(0))


def test_averaged_weights_follow_their_closed_form():
    model = Small()
    ema = Ema(model, decay=0.6)
    expected = model.linear.weight.detach().clone().double()
    for step in range(12):
        with torch.no_grad():
            model.linear.weight += torch.randn(64, 64)
            model.count += 1
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.linear.weight.detach().double()
        ema.update(model, step)
    torch.testing.assert_close(ema.average["linear.weight"].double(), expected, rtol=1e-5, atol=1e-5)
    assert int(ema.average["count"]) == 12  # counters are copied
    trained = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ema.swap(model)
    torch.testing.assert_close(model.linear.weight.double(), expected, rtol=1e-5, atol=1e-5)
    ema.swap(model)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in trained.items())


@pytest.mark.parametrize("name", ["adamw", "muon", "muon_conv"])
def test_every_weight_has_one_optimizer(name):
    model = Small()
    model.norm.bias.requires_grad_(False)
    optimizers = build_optimizers(model, TrainConfig("a", optimizer=name, weight_decay=0.1))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    given = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(given) == sorted(id(weight) for weight in model.parameters() if weight.requires_grad)
    assert all((group["weight_decay"] > 0) == (weight.ndim >= 2) for group in groups for weight in group["params"])
    hidden = [weight for optimizer in optimizers[1:] for group in optimizer.param_groups for weight in group["params"]]
    expected = {"adamw": [], "muon": [model.linear], "muon_conv": [model.linear, model.inner_conv]}[name]
    assert [id(weight) for weight in hidden] == [id(layer.weight) for layer in expected]  # 3 channels are few


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="adamw, muon, muon_conv, got 'sgd'"):
        build_optimizers(Small(), TrainConfig("a", optimizer="sgd"))


@pytest.mark.parametrize("fast", [False, True])
def test_muon_steps_as_torchs(monkeypatch, fast):
    torch.manual_seed(0)
    shapes, weights = [(64, 192), (192, 64)], {}
    start, gradients = [torch.randn(s) for s in shapes], [[torch.randn(s) for s in shapes] for _ in range(4)]
    monkeypatch.setattr(optim, "bfloat16_is_fast", lambda device: fast)
    for kind, options in ((torch.optim.Muon, {"adjust_lr_fn": "match_rms_adamw"}), (optim.Muon, {})):
        weights[kind] = [nn.Parameter(w.clone()) for w in start]
        optimizer = kind(weights[kind], lr=0.01, weight_decay=0.1, **options)
        for step in gradients:
            for weight, gradient in zip(weights[kind], step):
                weight.grad = gradient.clone()
            optimizer.step()
    for theirs, ours, first in zip(*weights.values(), start):
        assert (ours - theirs).norm() < 0.02 * (theirs - first).norm()  # bfloat16 has 8 bits


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [48, 96])
def test_muon_reads_a_convolution_as_a_matrix(memory_format, channels):
    torch.manual_seed(2)
    conv = nn.Conv2d(channels, 640, 3).to(memory_format=memory_format)
    matrix = nn.Linear(channels * 9, 640)
    matrix.weight.data.copy_(conv.weight.flatten(1))
    for layer in (conv, matrix):
        layer.weight.grad = torch.linspace(-1, 1, conv.weight.numel()).sin().view(layer.weight.shape).clone()
        optim.Muon([layer.weight], lr=0.1).step()
    torch.testing.assert_close(conv.weight.flatten(1), matrix.weight, rtol=1e-5, atol=1e-6)


def test_orthogonalised_matrices_keep_their_singular_vectors():
    torch.manual_seed(1)
    u, v = (torch.linalg.qr(torch.randn(n, 8, dtype=torch.float64))[0] for n in (20, 12))
    made = optim.orthogonalise((u * torch.linspace(1, 2, 8) @ v.T).float()).double()
    singular = u.T @ made @ v
    assert (singular.diag() > 0.6).all() and (singular.diag() < 1.3).all()
    assert (singular - singular.diag().diag()).abs().max() < 1e-4
