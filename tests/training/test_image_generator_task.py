"""The task of image generators beyond the recipes: devices, validation in eval mode, options of previews."""

import numpy as np
import pytest
import torch
from tiny import build, write_prepared

from photophone import ClassLabels, SeededNoise, create_model
from photophone.data.images import ImageDataset
from photophone.generators.conditions import CaptionFeatures, CaptionIds, condition_kinds
from photophone.loading.registry import find
from photophone.training.tasks.image_conditions import Classes, build_condition
from photophone.training.tasks.image_generator import ImageGeneratorTask


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return ImageDataset(write_prepared(tmp_path_factory.mktemp("data") / "icons.safetensors", count=16))


def make_task(data, name="var-d16", **options):
    entry = find(name)
    torch.manual_seed(0)
    tokenizer = create_model(entry.chain.tokenizer[1], **find(entry.chain.tokenizer[1]).tiny).eval()
    model = create_model(name, **entry.tiny).eval()
    tokens = tokenizer.encode(data.batch(np.arange(16)))
    return ImageGeneratorTask(model, Classes(data, "style"), data, tokens, image_tokenizer=tokenizer, validation=data,
                              **options)


def devices(model):
    return {tensor.device.type for tensor in model.state_dict().values()}


def test_the_whole_tokenizer_follows_the_model_to_its_device(data, monkeypatch):
    """The device "meta" stands for an accelerator: an operation on it and on the CPU together fails."""
    task = make_task(data)
    assert devices(task.image_tokenizer) == {"cpu"}
    model = task.model.to("meta")
    batch = {name: part.to("meta") for name, part in task.batch(np.arange(4), np.random.default_rng(0)).items()}
    loss, _ = task.loss(model, batch, 0)
    assert loss.device.type == "meta" and devices(task.image_tokenizer) == {"meta"}

    decoded = []
    task.image_tokenizer.to_empty(device="cpu")
    monkeypatch.setattr(task.image_tokenizer, "decode", decoded.append)
    task.generate(model, data.fields[:2])
    assert devices(task.image_tokenizer) == {decoded[0].values.device.type} == {"meta"}


def test_the_tokenizer_is_no_part_of_the_generator(data, tmp_path):
    task = make_task(data)
    model = task.model
    assert not any("tokenizer" in name or "quantizer" in name for name, _ in model.named_modules())
    weights = dict(model.state_dict())
    assert len(list(model.parameters())) == len(list(create_model("var-d16", **find("var-d16").tiny).parameters()))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert again.state_dict().keys() == weights.keys()
    condition, noise = ClassLabels(torch.tensor([1])), SeededNoise.from_seeds([1])
    for call in (lambda: again.generate(condition, noise=noise),
                 lambda: again.loss(again.example_tokens(1), condition)):
        with pytest.raises(ValueError, match=r"call connect\(tokenizer\) first"):
            call()
    for name in ("llamagen-vq16-c2i", "mar-kl16"):
        with pytest.raises(ValueError, match="the model needs a tokenizer of .*'scales'"):
            again.connect(build(name))
    again.connect(task.image_tokenizer)
    assert torch.equal(*(m.generate(condition, noise=SeededNoise.from_seeds([1])).values for m in (again, model)))


def test_metrics_of_the_loss_are_logged_and_validation_repeats(data):
    model = create_model("titok-l32-generator", **find("titok-l32-generator").tiny)
    task = ImageGeneratorTask(model, Classes(data, "style"), data, model.example_tokens(16))
    loss, metrics = task.loss(model.train(), task.batch(np.arange(4), np.random.default_rng(0)), 0)
    assert loss.shape == () and set(metrics) == {"right_codes"}
    assert task.validate(model) == {} and task.preview(model) is None  # without a tokenizer
    task = make_task(data)
    first = task.validate(task.model)
    assert set(first) == {"validation_loss"} and task.validate(task.model) == first


def test_options_of_previews_are_checked_before_training(data):
    assert make_task(data).preview_sampler.guidance_scale == 3.0
    with pytest.raises(ValueError, match="preview_options: VAR has no option head_steps; it has guidance_scale"):
        make_task(data, preview_options={"head_steps": 3})
    with pytest.raises(ValueError, match="top_p must be 0 to 1, got 2"):
        make_task(data, preview_options={"top_p": 2})


def test_conditions_follow_from_what_the_class_reads(data):
    kinds = {name: condition_kinds(find(name).load_class().Condition)
             for name in ("mar-base", "llamagen-b-256", "flowar-tiny-cells")}
    assert kinds == {"mar-base": (ClassLabels,), "llamagen-b-256": (ClassLabels, CaptionFeatures),
                     "flowar-tiny-cells": (CaptionIds,)}
    condition = build_condition({"field": "style"}, find("mar-base").load_class(), data)
    assert torch.equal(condition.plain(data.fields[:3]).labels,
                       torch.tensor([condition.names.index(fields["style"]) for fields in data.fields[:3]]))
