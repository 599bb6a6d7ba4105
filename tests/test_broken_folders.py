"""Saved models whose files were damaged: a sentence that names file, key and value, or a right model.

340 mutations of configs, texts and weights, drawn from seeds, over models of many kinds; `PHOTOPHONE_MUTATIONS` sets
another number.
"""

import json
import logging
import os
import resource
import shutil
import time

import pytest
import torch
from mutations import VALUES, mutate, one_line
from safetensors.torch import load_file, save_file
from tiny import small_pipeline

from photophone import TextToImagePipeline, create_model
from photophone.core.config import ModelTooLarge, check_config
from photophone.core.model import Model
from photophone.loading.registry import class_named, find, public_classes
from photophone.loading.saved import open_saved

NAMES = ("vocos-mel-24khz", "mar-base", "wavtokenizer-large-unify-40", "bicodec-spark-tts-0.5b", "dac-16khz",
         "cosyvoice2-0.5b-hift", "voxcpm-0.5b", "titok-l32", "var-d16", "mimi-8", "mar-huge-cspd-base", "llase-g1",
         "music2latent")
COUNT = int(os.environ.get("PHOTOPHONE_MUTATIONS", "340"))
BLOCKS = 10
SECONDS, BYTES = 5.0, 1_000_000_000  # of the processor, and of memory, for each


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of saved models, and one of a pipeline."""
    root = tmp_path_factory.mktemp("saved")
    small_pipeline().save_pretrained(root / "pipeline")
    for name in NAMES:
        create_model(name, **find(name).tiny).save_pretrained(root / name)
    return sorted(root.iterdir())


def open_folder(folder, name):
    return TextToImagePipeline.from_pretrained(folder) if name == "pipeline" else open_saved(folder, Model)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_damaged_folders_are_refused_in_a_sentence_or_load(folders, tmp_path, block, caplog):
    caplog.set_level(logging.CRITICAL)
    refused = 0
    for seed in range(block, COUNT, BLOCKS):
        source, folder = folders[seed % len(folders)], tmp_path / "copy"
        shutil.copytree(source, folder)
        file, done, key = mutate(folder, seed)
        told = f"seed {seed}, {source.name}, {file.relative_to(folder)}: {done}"
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            open_folder(folder, source.name)
        except (ValueError, OSError) as error:
            refused += 1
            text = str(error)
            assert str(folder) in text or file.name in text or file.parent.name in text, f"{told}: {text}"
            assert key is None or key.removesuffix("_more") in text, f"{told}: {text}"
            assert one_line(error), f"{told}: {text}"
        assert time.process_time() - start < SECONDS, told
        assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < BYTES, told
        shutil.rmtree(folder)
    assert refused > COUNT / BLOCKS / 2


def test_folders_that_were_not_damaged_load(folders):
    for folder in folders:
        assert open_folder(folder, folder.name) is not None, folder.name


@pytest.mark.parametrize("kind", ["I32", "U32", "F8_E4M3"])
def test_weights_under_another_kind_of_number_are_refused(folders, tmp_path, kind):
    """The bytes stay as they are: only the header says that they are whole numbers."""
    folder = shutil.copytree(next(folder for folder in folders if folder.name == "vocos-mel-24khz"), tmp_path / "copy")
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    key = next(key for key, value in weights.items() if value.ndim == 2)
    other = {"I32": torch.int32, "U32": torch.uint32, "F8_E4M3": torch.float8_e4m3fn}[kind]
    weights[key] = weights[key].to(other) if kind == "F8_E4M3" else weights[key].view(other)
    save_file(weights, file)
    with pytest.raises(ValueError, match=f"{key} is stored as {kind}, the model has float32"):
        open_saved(folder, Model)


@pytest.mark.parametrize("text", ["null", "[]", "", "{", "3", '{"_class_name": null}', '{"_class_name": ["a"]}',
                                  '{"_class_name": "os.system"}', "[" * 50_000, '{"a":' * 5_000])
def test_a_config_that_is_none_is_refused_with_its_file(folders, tmp_path, text):
    folder = shutil.copytree(next(folder for folder in folders if folder.name == "mar-base"), tmp_path / "copy")
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json|os.system"):
        open_saved(folder, Model)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["", "{}", "null", "[]", '{"version": "1.0"', '{"tokenizer_class": 3}',
                                  '{"model": {"type": "BPE"}}'])
def test_a_broken_text_tokenizer_is_refused(copy, name, text):
    (copy / "text_tokenizer" / name).write_text(text)
    try:
        pipeline = TextToImagePipeline.from_pretrained(copy)
    except ValueError as error:
        assert "tokenizer" in str(error) or str(copy) in str(error)
        assert one_line(error), error
    else:  # what the other file says is enough
        assert name == "tokenizer_config.json" and len(pipeline.text_tokenizer.encode(["red circle"])[0]) > 1


@pytest.mark.parametrize(("name", "change"), [
    ("mar-base", {"encoder_width": 10**8}), ("var-d16", {"width": 10**8}), ("voxcpm-0.5b", {"vocab_size": 10**8}),
    ("vocos-mel-24khz", {"hidden": 10**8}), ("titok-l32", {"num_codes": 10**9}),
    ("wavtokenizer-large-unify-40", {"width": 10**7}), ("mar-base", {"encoder_depth": 1024, "encoder_width": 9999})])
def test_sizes_that_no_machine_has_are_refused_before_they_are_allocated(name, change):
    start = time.process_time()
    with pytest.raises(ValueError, match=next(iter(change))):
        create_model(name, **change)
    assert time.process_time() - start < SECONDS


def test_a_model_far_larger_than_its_weights_is_not_built(folders, tmp_path):
    folder = shutil.copytree(next(folder for folder in folders if folder.name == "vocos-mel-24khz"), tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden": 4_000_000}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="of another shape.*hidden=4000000"):
        open_saved(folder, Model)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < BYTES
    assert issubclass(ModelTooLarge, ValueError)


@pytest.mark.parametrize("name", sorted(public_classes()))
def test_every_argument_of_every_model_has_a_kind_and_a_range(name):
    """No value of another kind passes, and the defaults all do."""
    import inspect

    owner = class_named(name)
    if not issubclass(owner, Model):
        pytest.skip("no model")
    parameters = [one for one in inspect.signature(owner.__init__).parameters.values() if one.name != "self"]
    check_config(owner, {one.name: one.default for one in parameters if one.default is not one.empty})
    for one in parameters:
        refused = 0
        for value in VALUES:
            try:
                check_config(owner, {one.name: value})
            except ValueError as error:
                refused += 1
                assert one.name in str(error) and owner.__name__ in str(error)
        assert refused >= 8, (one.name, refused)


@pytest.mark.parametrize(("change", "words"), [
    ({"num_heads": 0}, r"num_heads must be a whole number in 1..1024, got 0"),
    ({"num_heads": "8"}, "num_heads must be a whole number .*got '8'"),
    ({"width": None}, "width must be a whole number .*got None"), ({"width": [64]}, r"width .*got \[64\]"),
    ({"width": True}, "width .*got True"), ({"width": 64.0}, "width .*got 64.0"),
    ({"eps": float("nan")}, "eps must be a number .*got nan"), ({"label_drop": 2}, "label_drop .*0..1, got 2"),
    ({"scales": [1, "2"]}, r"scales\[1\] must be a whole number .*got '2'"), ({"scales": 3}, "scales must be a list"),
    ({"cosine": "yes"}, "cosine must be true or false, got 'yes'"), ({"depth": 10**9}, "depth .*0..1024"),
    ({"wdith": 64}, "VAR has no setting wdith"), ({"width": 65}, "65")])
def test_settings_are_refused_by_name_kind_and_range(change, words):
    with pytest.raises(ValueError, match=words):
        create_model("var-d16", **{**find("var-d16").tiny, **change})


def test_settings_that_a_config_does_not_have_are_said(folders, tmp_path, caplog):
    folder = shutil.copytree(next(folder for folder in folders if folder.name == "mar-base"), tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    del config["label_drop"]
    (folder / "config.json").write_text(json.dumps(config))
    with caplog.at_level(logging.WARNING, logger="photophone"):
        open_saved(folder, Model)
    assert "says nothing of 1 settings" in caplog.text and "label_drop=0.1" in caplog.text
