"""Perceptual, adversarial, alignment and contrastive losses against closed forms, and their schedules."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import SMALL_TOKENIZER, write_prepared
from torch import nn

from photophone.data.images import ImageDataset
from photophone.evaluation.metrics.image import ssim
from photophone.tokenizers.latent1d.model import Latent1DTokenizer
from photophone.tokenizers.llamagen_vq.model import LlamaGenVQ
from photophone.training.loop.config import TrainConfig
from photophone.training.loop.optim import build_optimizers
from photophone.training.losses.adversary import Adversary, Discriminator
from photophone.training.losses.discriminators import FeatureDiscriminator, PatchDiscriminator, augment
from photophone.training.losses.feature_networks import LPIPSMaps, build_feature_network, patch_features
from photophone.training.losses.image import (
    LARGEST_WEIGHT,
    PerceptualLoss,
    Ramp,
    adaptive_weight,
    contrastive_loss,
)
from photophone.training.tasks.image_tokenizer import ImageTokenizerTask, ReconstructionWeights


def images(rows=2, size=32, seed=0):
    return torch.rand(rows, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("value", "weights"), [
    (0.5, [0.5, 0.5, 0.5, 0.5]), ({"weight": 2.0, "start": 2}, [0, 0, 2, 2]),
    ({"weight": 1.0, "start": 1, "warmup": 2}, [0, 0.5, 1, 1])])
def test_ramps(value, weights):
    assert [Ramp.read(value).at(step) for step in range(4)] == weights


@pytest.mark.parametrize("value", ["much", {"weights": 1}, -1, {"weight": 1, "start": -2}, None])
def test_wrong_ramps_are_refused(value):
    with pytest.raises(ValueError, match="weight"):
        Ramp.read(value)


def two_maps(x):
    return [x, 3 * x[:, :2, ::2, ::2]]


def test_the_perceptual_loss_compares_unit_vectors_and_ignores_their_length():
    made, real = images(seed=1).requires_grad_(), images(seed=2)
    expected = torch.zeros(())
    for ours, theirs in zip(two_maps(made), two_maps(real)):
        cosine = nn.functional.cosine_similarity(ours, theirs, dim=1, eps=1e-10)
        expected = expected + (2 - 2 * cosine).mean()  # |a - b|^2 of unit vectors
    loss = PerceptualLoss(two_maps)(made, real)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(PerceptualLoss(two_maps)(5 * made, real), loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    assert float(made.grad.abs().sum()) > 0
    plain = PerceptualLoss(two_maps, compare="mean")(made, real)
    wanted = sum((a - b).square().mean() for a, b in zip(two_maps(made), two_maps(real)))
    torch.testing.assert_close(plain, wanted)


def test_efficientnet_maps_reach_the_image_and_end_in_its_pooled_features():
    network = build_feature_network({"name": "efficientnet_lite0", "image_size": 224})
    given = images(1, 64).requires_grad_()
    maps = network(given)
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14),
                                                  (320, 7, 7)]
    logits = build_feature_network({"name": "efficientnet_lite0", "image_size": 224, "classes": True})(given)[0]
    torch.testing.assert_close(logits.flatten(1), network.network.logits(given), rtol=1e-4, atol=1e-4)
    logits.square().mean().backward()
    assert float(given.grad.abs().sum()) > 0 and not any(p.requires_grad for p in network.parameters())
    assert patch_features(maps, 3).shape == (1, 196, 112)


def test_a_saved_tokenizer_serves_as_feature_network(tmp_path):
    model = LlamaGenVQ(image_size=16, channels=32, multipliers=[1, 2], blocks=1, z_channels=32, num_codes=8)
    model.save_pretrained(tmp_path / "vq")
    network = build_feature_network({"name": "tokenizer", "folder": str(tmp_path / "vq")})
    given, maps = images(1, 16), network(images(1, 16))
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 8, 8), (64, 8, 8)]
    encoder = model.eval().encoder
    torch.testing.assert_close(maps[-1], encoder.levels(encoder.conv_in(given)))


def test_lpips_of_given_weights_is_its_formula(tmp_path):
    from torchvision.models import vgg16

    torch.manual_seed(0)
    vgg = vgg16(weights=None).features.eval()
    save_file({f"features.{key}": value for key, value in vgg.state_dict().items()}, tmp_path / "vgg.safetensors")
    widths = (64, 128, 256, 512, 512)
    linear = {f"lin{level}.model.1.weight": torch.rand(1, width, 1, 1) for level, width in enumerate(widths)}
    save_file(linear, tmp_path / "linear.safetensors")
    network = LPIPSMaps(tmp_path / "vgg.safetensors", tmp_path / "linear.safetensors")
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in ((-.030, -.088, -.188), (.458, .448, .450)))
    made, real = images(seed=3), images(seed=4)
    expected, taken = torch.zeros(2), 0
    x, y = (made - shift) / scale, (real - shift) / scale
    for index, layer in enumerate(vgg):
        x, y = layer(x), layer(y)
        if index in (3, 8, 15, 22, 29):
            a, b = (v / (v.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for v in (x, y))
            expected = expected + ((a - b).square() * linear[f"lin{taken}.model.1.weight"]).sum(1).mean(dim=(1, 2))
            taken += 1
    loss = PerceptualLoss(network, compare="sum")(made, real)
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="not the weights of VGG-16 and LPIPS"):
        LPIPSMaps(tmp_path / "linear.safetensors", tmp_path / "vgg.safetensors")


@pytest.mark.parametrize("settings", ["alexnet", {"name": "os.system"}, {"image_size": 3}])
def test_unknown_networks_are_refused(settings):
    with pytest.raises(ValueError, match="unknown feature network"):
        build_feature_network(settings)


def test_the_adaptive_weight_is_the_ratio_of_gradients():
    layer = nn.Parameter(torch.tensor([1.0, 2.0]))
    weight = adaptive_weight((layer * torch.tensor([3.0, 4.0])).sum(), (layer * torch.tensor([0.0, 2.0])).sum(), layer,
                             eps=0.0)
    assert float(weight) == pytest.approx(2.5) and not weight.requires_grad
    zero = adaptive_weight(layer.sum(), 0 * layer.sum(), layer, eps=0.0)
    assert float(zero) == LARGEST_WEIGHT
    assert float(adaptive_weight(0 * layer.sum(), layer.sum(), layer, least=0.015)) == pytest.approx(0.015)


def test_the_contrastive_loss_knows_pairs():
    vectors = torch.eye(4)
    right = contrastive_loss(vectors, vectors, torch.tensor(2.0))
    assert float(right) == pytest.approx(-2.0 + float(torch.tensor([2.0, 0, 0, 0]).logsumexp(0)), abs=1e-6)
    assert float(contrastive_loss(vectors, vectors.roll(1, 0), torch.tensor(2.0))) > float(right)


class Mean(Discriminator):
    """Scores the mean of each row, times one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, media):
        score = self.weight * media.mean(dim=(1, 2, 3))[:, None, None]
        return [score, score]


def test_lecam_and_consistency_follow_their_formulas():
    real, made = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), -0.25)
    plain = Adversary([Mean()])(made, real)
    adversary = Adversary([Mean()], lecam=0.1).train()
    losses = adversary(made, real)  # running means start at 0: relu(0.5 - 0)^2 + relu(0 + 0.25)^2
    assert float((losses["discriminator"] - plain["discriminator"]).detach()) == pytest.approx(0.1 * (0.25 + 0.0625))
    torch.testing.assert_close(adversary.running_scores, torch.tensor([[0.0005, -0.00025]]))
    shifted = Adversary([Mean()], consistency=4.0, augment=lambda x: x + 0.1)
    expected = (1 - 0.6) + (1 - 0.15) + 4.0 * (0.01 + 0.01)
    assert float(shifted(made, real)["discriminator"]) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="give augment"):
        Adversary([Mean()], consistency=1.0)


@pytest.mark.parametrize("kind", ["patch", "features"])
def test_discriminators_train_themselves_only(kind):
    torch.manual_seed(0)
    network = build_feature_network("efficientnet_lite0")
    own = PatchDiscriminator(8, 2) if kind == "patch" else FeatureDiscriminator(network, 32, width=8)
    assert not any(name.startswith("frozen") for name, _ in own.named_parameters())
    adversary = Adversary([own], augment=augment)
    made = images(seed=1).requires_grad_()
    losses = adversary(made, images(seed=2))
    weights = list(adversary.parameters())
    assert not torch.autograd.grad(losses["discriminator"], made, retain_graph=True, allow_unused=True)[0]
    assert all(g is None for g in torch.autograd.grad(losses["adversarial"], weights, retain_graph=True,
                                                      allow_unused=True))
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(losses["discriminator"], weights,
                                                                     retain_graph=True))
    assert float(torch.autograd.grad(losses["adversarial"], made)[0].abs().sum()) > 0


def test_augmentation_shifts_and_cuts_and_keeps_gradients():
    torch.manual_seed(0)
    given = images(64, 16).requires_grad_()
    seen = augment(given)
    assert seen.shape == given.shape
    seen.square().sum().backward()
    assert all(float(row.abs().sum()) > 0 for row in given.grad)
    kept = (seen != 0).any(dim=1).float().mean(dim=(1, 2))  # pixels that neither hole nor border took
    assert 0.3 < float(kept.min()) < float(kept.max()) <= 1 and len(kept.unique()) > 8


def test_rates_scale_parts_of_the_model():
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "adversary": nn.Linear(2, 2)})
    groups = build_optimizers(model, TrainConfig("x", rates={"adversary": 0.25}))[0].param_groups
    factors = {id(p): group["factor"] for group in groups for p in group["params"]}
    assert [factors[id(p)] for p in model.parameters()] == [1.0, 1.0, 0.25, 0.25]
    for rates in ({"nobody": 1.0}, {"adversary": 0}, {"adversary": "fast"}):
        with pytest.raises(ValueError, match="rates: "):
            build_optimizers(model, TrainConfig("x", rates=rates))


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_structural_similarity_is_a_loss(tmp_path, precision):
    data = ImageDataset(write_prepared(tmp_path / "icons.safetensors"))
    weights = ReconstructionWeights(l2=0.0, l1=0.0, ssim=2.0)
    task = ImageTokenizerTask(Latent1DTokenizer(**{**SMALL_TOKENIZER, "latent_noise": 0.0}), data, weights=weights)
    batch = task.batch(np.arange(4), np.random.default_rng(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss, terms = task.loss(task.model, batch, 0)
        made = task.model(batch["images"]).media.float()
    expected = ssim(made, batch["images"]).mean()
    assert float(terms["ssim"].detach()) == pytest.approx(float(expected), abs=1e-4)
    assert float(loss.detach()) == pytest.approx(2 * (1 - float(expected)), abs=1e-3)
    loss.backward()
    assert task.model.last_layer.grad.abs().max() > 0
