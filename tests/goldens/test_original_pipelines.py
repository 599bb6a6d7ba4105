"""Pipelines from official checkpoint files, the tiny ones of the goldens, and the commands that read such files."""

import json
import shutil
from pathlib import Path

import llamagen
import mar
import numpy as np
import pytest
import torch
import var
from golden import Golden
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from photophone import ClassLabels, ClassToImagePipeline, SeededNoise, TextToImagePipeline, Tokens
from photophone.generators.mar.model import MAR
from photophone.loading.hub import find_checkpoint
from photophone.loading.registry import find
from photophone.text.captions import train_caption_tokenizer
from photophone.tokenizers.kl_vae.model import KLVAE

DATA = Path(__file__).parent / "data"
FAST = {"num_order_steps": 3, "num_inference_steps": 8, "head_sampler": "ddim"}


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def mar_settings():
    """Our configs of the golden MAR and its autoencoder."""
    golden = Golden(DATA / "mar")
    vae = mar.vae_config(golden.settings["vae"])
    side = golden["in_latent"].shape[-1]
    return mar.mar_config(golden.settings["mar"]), {**vae, "image_size": side * 2 ** (len(vae["multipliers"]) - 1)}


def mar_pipeline(**files):
    generator, vae = mar_settings()
    files = {"mar": DATA / "mar" / "weights.safetensors", "vae": str(DATA / "mar" / "vae.safetensors"), **files}
    return ClassToImagePipeline.from_original("mar-base", generator_config=generator, tokenizer_config=vae, **files)


def test_mar_runs_from_its_files():
    pipeline, (generator, vae) = mar_pipeline(), mar_settings()
    result = pipeline([1, 2], generator=seeded(3, 4), output_type="pt", **FAST)
    model = MAR.from_original(DATA / "mar" / "weights.safetensors", **generator)
    tokens = model.generate(ClassLabels(torch.tensor([1, 2])), noise=SeededNoise.from_seeds([3, 4]),
                            sampler=model.Sampler(guidance_scale=2.9, **FAST))
    images = KLVAE.from_original(DATA / "mar" / "vae.safetensors", **vae).decode(tokens)
    torch.testing.assert_close(result.images, images, rtol=1e-4, atol=1e-5)
    assert result.model == "mar-base" and result.revision is None and "ImageNet" in result.weights_licence
    assert not pipeline.token_generator.training and not pipeline.image_tokenizer.training


def test_speculative_decoding_runs_from_two_checkpoints():
    golden = Golden(DATA / "cspd")
    configs = {f"{part}_config": {**mar.mar_config(golden.settings[part]), "num_classes": 1000}
               for part in ("target", "draft")}
    pipeline = ClassToImagePipeline.from_original(
        "mar-huge-cspd-base", target=DATA / "cspd" / "weights.safetensors", draft=DATA / "cspd" / "draft.safetensors",
        vae=DATA / "mar" / "vae.safetensors", generator_config=configs, tokenizer_config=mar_settings()[1])
    size = pipeline.image_tokenizer.image_size
    result = pipeline(999, generator=seeded(1)[0], **{**FAST, "num_order_steps": 6})
    assert result.images[0].size == (size, size) and result.settings["num_draft_steps"] == 4


def test_var_runs_from_its_files():
    golden = Golden(DATA / "var")
    pipeline = ClassToImagePipeline.from_original(
        "var-d16", var=DATA / "var" / "weights.safetensors", vae=DATA / "var" / "vqvae.safetensors",
        generator_config=var.generator_config(golden.settings, "var"),
        tokenizer_config=var.tokenizer_config(golden.settings))
    result = pipeline(1, generator=seeded(1)[0], top_k=10)
    assert result.images[0].width == pipeline.image_tokenizer.image_size and result.settings["top_p"] == 0.96


def test_llamagen_runs_from_its_files_and_a_text_encoder(tmp_path):
    golden = Golden(DATA / "llamagen")
    config = llamagen.gpt_config(golden.settings["t2i"])
    torch.manual_seed(0)
    T5EncoderModel(T5Config(vocab_size=99, d_model=config["caption_dim"], d_kv=4, d_ff=8, num_layers=1,
                            num_heads=2)).save_pretrained(tmp_path)
    train_caption_tokenizer(["red circle", "blue"], 99, 512).save_pretrained(tmp_path)
    vq = llamagen.vq_config(golden.settings["vq"])
    pipeline = TextToImagePipeline.from_original(
        "llamagen-xl-t2i-256", gpt=DATA / "llamagen" / "gpt_t2i.safetensors", vq=DATA / "llamagen" / "vq.safetensors",
        text_encoder=tmp_path, generator_config=config, tokenizer_config={
            **vq, "image_size": config["grid_size"] * 2 ** (len(vq["multipliers"]) - 1)})
    tokens = pipeline("red", generator=seeded(1)[0], top_k=10, output_type="latent").images
    assert tokens.values.shape == (1, config["grid_size"] ** 2)


@pytest.mark.parametrize(("call", "words"), [
    ((ClassToImagePipeline, "mar-base", {"gpt": "x"}), "no checkpoint named gpt; it is made of mar, vae"),
    ((ClassToImagePipeline, "mar-base", {"text_encoder": "x"}), "no checkpoint named text_encoder"),
    ((ClassToImagePipeline, "mar-base", {"mar": "nowhere.pth"}), "no such checkpoint file: nowhere.pth"),
    ((ClassToImagePipeline, "mar-base", {}), "on no hub; give their file .*linked at github.com/LTH14/mar"),
    ((ClassToImagePipeline, "mar-kl16", {}), "mar-kl16 has no pipeline from original checkpoints; .*xar-base"),
    ((ClassToImagePipeline, "mar-bas", {}), "did you mean mar-base"),
    ((ClassToImagePipeline, "llamagen-xl-t2i-256", {}), "use TextToImagePipeline"),
    ((TextToImagePipeline, "mar-base", {}), "use ClassToImagePipeline"),
    ((TextToImagePipeline, "photophone/tiny-image", {}), "no pipeline from original"),
], ids=lambda call: str(call)[:40])
def test_wrong_names_and_files_are_refused(call, words):
    family, name, files = call
    with pytest.raises(ValueError, match=words):
        family.from_original(name, **files)


def test_the_wrong_file_is_refused_with_the_keys_that_differ():
    with pytest.raises(ValueError, match=r"does not fit MAR: \d+ missing: .*Is it the right file"):
        mar_pipeline(mar=DATA / "mar" / "vae.safetensors")


# where files are -------------------------------------------------------------------------------------------------


def cached(folder, repository, file, commit="0123456789abcdef"):
    """A hub cache that holds one file of a repository."""
    root = folder / f"models--{repository.replace('/', '--')}"
    target = root / "snapshots" / commit / file
    target.parent.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    target.write_bytes(b"weights")
    return target


def test_files_are_found_on_disk_and_in_the_cache_of_the_hub(tmp_path):
    entry = find("xar-base")
    offline = {"cache_dir": tmp_path / "hub", "local_files_only": True}
    with pytest.raises(ValueError, match="xAR-B.pth of OliverRen/xAR cannot be downloaded"):
        find_checkpoint(entry, **offline)
    target = cached(tmp_path / "hub", "OliverRen/xAR", "xAR-B.pth")
    other = cached(tmp_path / "hub", "someone/copy", "xAR-B.pth", "fedcba")
    assert find_checkpoint(entry, **offline) == (target, "0123456789abcdef")
    assert find_checkpoint(entry, "someone/copy", **offline) == (other, "fedcba")
    assert find_checkpoint(entry, target) == (target, None)
    folder = tmp_path / "files"
    folder.mkdir()
    with pytest.raises(ValueError, match="holds no xAR-B.pth"):
        find_checkpoint(entry, folder)
    shutil.copy(target, folder / "xAR-B.pth")
    assert find_checkpoint(entry, str(folder)) == (folder / "xAR-B.pth", None)
    (folder / "config.json").write_text("{}")  # as in official folders
    assert find_checkpoint(entry, folder) == (folder / "xAR-B.pth", None)
    (folder / "diffusion_pytorch_model.safetensors").touch()  # a model of ours was saved here
    assert find_checkpoint(entry, folder) == (folder, None)


# commands --------------------------------------------------------------------------------------------------------


def test_convert_writes_our_format_and_pipelines_read_it(run, tmp_path):
    generator, vae = mar_settings()
    file = DATA / "mar" / "weights.safetensors"
    code, output, _ = run("convert", "mar-base", file, tmp_path / "mar", "--config", json.dumps(generator))
    tensors = len(load_file(file))
    assert code == 0 and f"{tensors} tensors" in output and "dropped 0, missing 0" in output
    (tmp_path / "vae.json").write_text(json.dumps(vae))
    code, output, _ = run("convert", "mar-kl16", DATA / "mar" / "vae.safetensors", tmp_path / "vae", "--config",
                          tmp_path / "vae.json", "--json")
    report = json.loads(output)
    assert code == 0 and report["renamed"] and report["made"] and report["missing"] == report["dropped"] == []
    ours, converted = (p(1, generator=seeded(1)[0], output_type="pt", **FAST).images for p in (
        mar_pipeline(), ClassToImagePipeline.from_original("mar-base", mar=tmp_path / "mar", vae=tmp_path / "vae")))
    assert torch.equal(ours, converted)


def test_convert_names_what_it_drops(run, tmp_path):
    settings = json.dumps(llamagen.vq_config(Golden(DATA / "llamagen").settings["vq"]))
    state = {**load_file(DATA / "llamagen" / "vq.safetensors"), "quantize.codebook_used": torch.zeros(65536)}
    torch.save({"model": state, "steps": 3}, tmp_path / "vq.pt")  # as it is published
    code, output, _ = run("convert", "llamagen-vq16-c2i", tmp_path / "vq.pt", tmp_path / "vq", "--config", settings)
    assert code == 0 and "dropped  quantize.codebook_used" in output


def test_convert_refuses_what_does_not_fit(run, tmp_path):
    config, file = json.dumps(mar_settings()[0]), DATA / "mar" / "weights.safetensors"
    partial = {key: value for key, value in load_file(file).items() if not key.startswith("diffloss.net.input_proj")}
    save_file(partial, tmp_path / "partial.safetensors")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "hostile.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for arguments, words in (
            (["mar-base", tmp_path / "partial.safetensors"], "2 missing: diffusion_head.net.input_proj.weight (32, 4)"),
            (["mar-kl16", file], "does not fit KLVAE"), (["mar-base", DATA / "nothing.pth"], "no such checkpoint"),
            (["mar-base", tmp_path / "hostile.pth"], "was refused"), (["nothing", file], "unknown model"),
            (["mar-huge-cspd-base", file], "no official checkpoint of its own"),
            (["latent1d-tiny-vq", file], "no official checkpoint")):
        code, output, error = run("convert", *arguments, tmp_path / "out", *(
            ["--config", config] if arguments[0] == "mar-base" else []))
        assert (code, output) == (2, "") and words in error and len(error.splitlines()) == 1, error
        assert not (tmp_path / "out").exists()
    code, _, error = run("convert", "mar-base", file, tmp_path / "out")  # the published size
    assert code == 2 and "the model has (1, 256, 768)" in error and "of another shape" in error
    assert "is not an empty folder; give another name" in run("convert", "mar-base", file, tmp_path / "full")[2]
    for text, words in (("[1]", "No such file"), ("{", "no JSON")):
        code, _, error = run("convert", "mar-base", file, tmp_path / "out", "--config", text)
        assert code == 2 and words in error


def test_a_picture_survives_its_tokens(run, tmp_path):
    picture = Image.linear_gradient("L").resize((120, 90)).convert("RGB")
    picture.save(tmp_path / "in.png")
    tokens, again = tmp_path / "t.safetensors", tmp_path / "again.png"
    code, output, _ = run("tokenize", tmp_path / "in.png", "-o", tokens)
    assert code == 0 and "(1, 16, 32) continuous" in output
    assert Tokens.load(tokens).model == "photophone/tiny-image"
    assert run("detokenize", tokens, "-o", again, "-q") == (0, "", "")
    square = picture.crop((15, 0, 105, 90)).resize((64, 64), Image.Resampling.LANCZOS)
    error = np.asarray(square, dtype=float) - np.asarray(Image.open(again), dtype=float)
    assert np.sqrt((error**2).mean()) < 30  # of 255: the picture is recognised


def test_tokens_of_official_checkpoints_go_both_ways(run, tmp_path):
    generator, vae = mar_settings()
    run("convert", "mar-kl16", DATA / "mar" / "vae.safetensors", tmp_path / "vae", "--config", json.dumps(vae))
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "in.png")
    tokens = tmp_path / "t.safetensors"
    weights = ["--weights", tmp_path / "vae"]
    code, output, _ = run("tokenize", tmp_path / "in.png", "-m", "mar-kl16", *weights, "-o", tokens)
    assert code == 0 and "continuous" in output
    model = KLVAE.from_pretrained(tmp_path / "vae")
    assert run("detokenize", tokens, *weights, "-o", tmp_path / "a.png")[0] == 0
    expected = model.decode(Tokens.load(tokens))
    pixels = torch.tensor(np.asarray(Image.open(tmp_path / "a.png"))).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(pixels, expected, rtol=0, atol=1 / 127)
    # the same model as a plain folder: its tokens name no model
    assert run("tokenize", tmp_path / "in.png", "-m", tmp_path / "vae", "-o", tmp_path / "f.safetensors")[0] == 0
    assert torch.equal(Tokens.load(tmp_path / "f.safetensors").values, Tokens.load(tokens).values)
    code, _, error = run("detokenize", tmp_path / "f.safetensors", "-o", tmp_path / "b.png")
    assert code == 2 and "give --model" in error
    assert run("detokenize", tmp_path / "f.safetensors", "-m", tmp_path / "vae", "-o", tmp_path / "b.png")[0] == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_wrong_tokens_and_models_take_one_line(run, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    Tokens(torch.zeros(1, 4, dtype=torch.long), model="mar-kl16").save(tmp_path / "t.safetensors")
    for arguments, words in (
            (["tokenize", tmp_path / "none.png"], "none.png"), (["tokenize", tmp_path / "text.png"], "cannot read"),
            (["tokenize", tmp_path / "in.png", "-m", "nothing"], "unknown model"),
            (["tokenize", tmp_path / "in.png", "-m", "mar-base"], "no image tokenizer; its tokenizer is mar-kl16"),
            (["tokenize", tmp_path / "in.png", "-m", "mar-kl16"], "on no hub"),
            (["tokenize", tmp_path / "in.png", "--weights", "x"], "brings its weights"),
            (["tokenize", tmp_path / "in.png", "--device", "quantum"], "'quantum'"),
            (["detokenize", tmp_path / "in.png"], "is not a safetensors file"),
            (["detokenize", tmp_path / "t.safetensors", "-o", tmp_path / "a.gif"], "must end in .png"),
            (["detokenize", tmp_path / "t.safetensors", "-m", "photophone/tiny-image", "-o", tmp_path / "a.png"],
             "was made by 'mar-kl16'")):
        code, output, error = run(*arguments)
        assert (code, output) == (2, "") and words in error and len(error.splitlines()) == 1, error
