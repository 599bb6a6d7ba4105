"""What lies under a weight's name and is no weights: said, with the way out, and never with advice to load unsafely."""

import io
import json
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from official import official_models
from safetensors.torch import save, save_file
from tiny import Hostile

from photophone.loading.chains import read_config, settings_of
from photophone.loading.checkpoints import read_state
from photophone.loading.files import main_file, read_content
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import find, list_models
from photophone.tokenizers.maskgit_vqgan.model import MaskGITVQGAN

GOLDEN = Path(__file__).parent / "goldens" / "data" / "voxcpm"
CONFIG = {"image_size": 14, "channels": 32, "multipliers": [2, 1], "blocks": 1, "token_width": 12, "num_codes": 40}
UNSAFE = re.compile(r"weights_only|add_safe_globals|safe_globals|allowlist|unsafe|trusted source|pickle_module", re.I)
STATE = {"weight": torch.arange(6.0).reshape(2, 3)}


def saved(content, legacy=False):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


def tarred():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


def program():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def arrays():
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.ones(3))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 548118077\n"
STRANGE = {
    "lfs": (LFS, "Git LFS pointer.*548118077 bytes.*git lfs pull"),
    "annex": (b"/annex/objects/MD5-s12--0123\n", "git-annex pointer"),
    "html": (b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>", "a web page.*login.*download"),
    "html later": (b"\xef\xbb\xbf  \r\n<html lang=en>" + b"x" * 5000, "a web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML.*AccessDenied"),
    "json": (b'{"error": "Repository not found"}', "JSON.*Repository not found"),
    "text": (b"Access to this resource is restricted.", "a text.*Access to this"),
    "unicode text": ("Zugriff verweigert: für Sie gesperrt ".encode() * 40, "a text.*Zugriff"),
    "empty": (b"", "is empty"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(40), "gzip archive; unpack"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "7-Zip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5.*Keras"),
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(40), "GGUF"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(40), "NumPy"),
    "npz": (arrays(), "NumPy archive"),
    "zip": (zipped(weights__pth=b"x"), r"ZIP archive \(weights.pth\); unpack"),
    "tar": (tarred(), "tar archive; unpack"),
    "torchscript": (program(), "TorchScript program.*save_file"),
    "cut torch": (saved(STATE)[:300], "cut short"),
    "cut safetensors": (save(STATE)[:-5], "damaged.*bytes"),
    "long header": (b"\xff" * 7 + b"\x00{" + bytes(40), "damaged"),
    "zeros": (bytes(4096), "damaged"),
    "pickle": (pickle.dumps({"weight": 3}, protocol=4), "pickle of another kind"),
    "noise": (np.random.default_rng(0).bytes(4000), "damaged"),
    "cut legacy": (saved(STATE, legacy=True)[:120], "damaged|cut"),
}


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", STRANGE)
def test_a_file_that_is_something_else_is_named(kind, name, tmp_path):
    content, words = STRANGE[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read_state(tmp_path / name)
    text = str(error.value)
    assert name in text and "refused" in text and not UNSAFE.search(text) and "\n" not in text


class Settings:
    """A class that only its author has."""


def test_a_pickle_of_other_classes_is_refused_by_their_name(tmp_path):
    for content in ({"model": STATE, "config": Settings()}, Settings(), torch.nn.Linear(2, 2)):
        for legacy in (False, True):
            (tmp_path / "weights.pt").write_bytes(saved(content, legacy))
            needed = r"needs the class ([\w.]*Settings|torch.nn.modules.linear.Linear)"
            with pytest.raises(ValueError, match=needed) as error:
                read_state(tmp_path / "weights.pt")
            assert "save_file" in str(error.value) and not UNSAFE.search(str(error.value))
    marker = tmp_path / "ran"
    (tmp_path / "weights.pt").write_bytes(saved({"model": STATE, "x": Hostile(marker)}))
    with pytest.raises(ValueError, match="refused") as error:
        read_state(tmp_path / "weights.pt")
    assert not marker.exists() and not UNSAFE.search(str(error.value))


def test_plain_values_of_trainings_are_not_built(tmp_path):
    """numpy's numbers and states, paths, and arguments: an empty object stands for each."""
    from argparse import Namespace
    from datetime import timedelta

    content = {"model": STATE, "loss": np.float32(0.3), "rng": np.random.RandomState(3).get_state(),
               "took": timedelta(3), "args": Namespace(path=Path("x"), size=torch.Size([3])), "array": np.arange(3),
               "version": torch.__version__}
    for legacy in (False, True):
        (tmp_path / "weights.pt").write_bytes(saved(content, legacy))
        assert torch.equal(read_state(tmp_path / "weights.pt")["weight"], STATE["weight"])


@pytest.mark.parametrize("name", ["w.bin", "w.pt", "w.pth", "w.ckpt", "w.th", "w.pth.tar", "w.safetensors", "w"])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_the_bytes_say_what_a_file_is_and_not_its_name(name, form, tmp_path):
    content = save(STATE) if form == "safetensors" else saved(STATE, form == "legacy")
    (tmp_path / name).write_bytes(content)
    assert torch.equal(read_state(tmp_path / name)["weight"], STATE["weight"])


def test_folders_of_accelerate_trainer_and_deepspeed(tmp_path):
    for name in ("optimizer.bin", "scheduler.bin", "random_states_0.pkl", "training_args.bin"):
        (tmp_path / name).write_bytes(saved({"state": {}, "param_groups": []}))
    with pytest.raises(ValueError, match="holds no weights under a usual name"):
        read_content(tmp_path)
    torch.save({"model": STATE}, tmp_path / "step_100.pth")
    assert main_file(tmp_path).name == "step_100.pth"
    save_file(STATE, tmp_path / "model.safetensors")
    assert main_file(tmp_path).name == "model.safetensors"

    run = tmp_path / "run"
    (run / "global_step12").mkdir(parents=True)
    (run / "latest").write_text("global_step12\n")
    torch.save({"module": STATE, "dp_world_size": 1}, run / "global_step12" / "mp_rank_00_model_states.pt")
    assert list(read_state(run)) == ["weight"]
    torch.save({"module": STATE}, run / "global_step12" / "mp_rank_01_model_states.pt")
    with pytest.raises(ValueError, match="split over 2 processes.*zero_to_fp32"):
        read_content(run)
    (run / "latest").write_text("../..")
    with pytest.raises(ValueError, match="holds no weights"):
        read_content(run)


@pytest.mark.parametrize(("name", "words"), [
    (".metadata", "distributed checkpoint.*dcp_to_torch"), ("__0_0.distcp", "distributed checkpoint"),
    ("adapter_model.safetensors", "an adapter"), ("lora_weights.safetensors", "an adapter")])
def test_folders_of_other_forms_say_how_to_bring_them_into_one_that_is_read(name, words, tmp_path):
    save_file(STATE, tmp_path / name)
    with pytest.raises(ValueError, match=words):
        read_content(tmp_path)


@pytest.mark.parametrize(("content", "words"), [
    ({"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}, "state of an optimiser"),
    ({"shadow_params": [torch.zeros(2)], "decay": 0.9}, "no table of named tensors"),
    ({"epoch": 3}, "no table of named tensors.*epoch"), ({}, "found nothing"), ([1, 2], "holds a list"),
    ("text", "holds a str"), ({"lora_A.weight": torch.zeros(2)}, "adapter"),
    ({"_flat_param": torch.zeros(9)}, "FSDP"), ({"module": {"a": torch.zeros(0)}}, "DeepSpeed")])
def test_files_without_the_weights_of_a_model_say_what_they_hold(content, words, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=words):
        MaskGITVQGAN.from_original(tmp_path / "weights.pt", **CONFIG)


def test_a_table_that_holds_itself_ends(tmp_path):
    content = {"weight": torch.zeros(2)}
    content["again"] = content
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="does not fit|different sets"):
        MaskGITVQGAN.from_original(tmp_path / "weights.pt", **CONFIG)


@pytest.mark.parametrize("name", ["xAR-B.pth", "xAR-B.safetensors", "xAR-B.pt", "finetuned.pth"])
def test_a_release_is_found_under_the_names_that_trainings_give_it(name, tmp_path):
    entry = find("xar-base")
    assert entry.files[0] == "xAR-B.pth"
    (tmp_path / "kl16.ckpt").touch()  # of another entry
    (tmp_path / "optimizer.pt").touch()
    (tmp_path / name).touch()
    if name == "finetuned.pth" and not any("kl16.ckpt" in other.files for other in list_models()):
        with pytest.raises(ValueError, match="several: finetuned.pth, kl16.ckpt; name one"):
            find_checkpoint(entry, tmp_path)
    else:
        assert find_checkpoint(entry, tmp_path)[0] == tmp_path / name


def test_a_finetuned_voxcpm_is_found_beside_its_codec(tmp_path):
    generator, codec = find("voxcpm-0.5b"), find("voxcpm-vae-16k")
    assert generator.files == ("pytorch_model.bin",)
    save_file(STATE, tmp_path / "model.safetensors")
    torch.save(STATE, tmp_path / "audiovae.pth")
    torch.save({"state": {}, "param_groups": []}, tmp_path / "optimizer.pth")
    assert find_checkpoint(generator, tmp_path)[0].name == "model.safetensors"
    assert find_checkpoint(codec, tmp_path)[0].name == "audiovae.pth"
    (tmp_path / "audiovae.pth").rename(tmp_path / "audiovae.safetensors")
    assert find_checkpoint(codec, tmp_path)[0].name == "audiovae.safetensors"
    (tmp_path / "audiovae.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no audiovae.pth of voxcpm-vae-16k"):
        find_checkpoint(codec, tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "lora_weights.safetensors")
    with pytest.raises(ValueError, match="holds no pytorch_model.bin of voxcpm-0.5b.*LoRA"):
        find_checkpoint(generator, tmp_path)


def test_a_saved_model_whose_weights_are_a_pointer_says_so(copy):
    from photophone import TextToImagePipeline

    (copy / "image_tokenizer" / "diffusion_pytorch_model.safetensors").write_bytes(LFS)
    with pytest.raises(ValueError, match="image_tokenizer.*Git LFS pointer") as error:
        TextToImagePipeline.from_pretrained(copy)
    assert not UNSAFE.search(str(error.value))


def test_the_shell_says_what_was_found(run, tmp_path):
    state = official_models()["maskgit_vqgan MaskGITVQGAN"][1]
    torch.save({"model": dict(state), "ema": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
               tmp_path / "weights.pt")
    arguments = ("convert", "maskgit-vqgan-f16", tmp_path / "weights.pt")
    config = ("--config", json.dumps(CONFIG))
    code, output, _ = run(*arguments, tmp_path / "out", *config)
    assert code == 0 and "found    weights taken from 'ema'" in output and "averaged weights" in output
    code, output, _ = run(*arguments, tmp_path / "raw", *config, "--take", "raw", "--json")
    assert code == 0 and json.loads(output)["found"]["place"] == "model"
    code, output, error = run(*arguments, tmp_path / "no", *config, "--take", "none")
    assert code == 2 and "no weights for take='none'" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_published_config_that_lacks_a_part_is_refused_with_file_key_and_way_out(version, tmp_path):
    settings = json.loads((GOLDEN / "config.json").read_text())["config"][version]
    settings |= {"architecture": "voxcpm2"} if version == "v2" else {}
    name = {"v1": "voxcpm-0.5b", "v2": "voxcpm-2"}[version]
    file = tmp_path / "config.json"

    def refused(words, given):
        file.write_text(given if isinstance(given, str) else json.dumps(given))
        with pytest.raises(ValueError, match=words):
            settings_of(name, read_config(tmp_path))

    for part in ("lm_config", "encoder_config", "dit_config"):
        broken = {key: value for key, value in settings.items() if key != part}
        refused(f"config.json lacks '{part}', which {name} needs; take the config.json", broken)
    for part, value in (("lm_config", None), ("lm_config", []), ("dit_config", 3), ("encoder_config", "x")):
        refused("config.json", {**settings, part: value})
    for key, value in (("hidden_size", 0), ("num_attention_heads", "16"), ("vocab_size", None), ("rms_norm_eps", -1)):
        refused(r"config.json: VoxCPM: \w+ must be", {**settings, "lm_config": {**settings["lm_config"], key: value}})
    for text in ("null", "[]", "", "{", "<html>"):
        refused("config.json", text)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_config_without_its_codec_leaves_the_sizes_to_the_registry(version, tmp_path):
    settings = json.loads((GOLDEN / "config.json").read_text())["config"][version]
    settings |= {"architecture": "voxcpm2"} if version == "v2" else {}
    settings.pop("audio_vae_config")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    name = {"v1": "voxcpm-vae-16k", "v2": "voxcpm-vae-48k"}[version]
    found = settings_of(name, read_config(tmp_path))
    assert {**find(name).config, **found} == {"delay_odd": version == "v1", **find(name).config}
