"""The text-to-image pipeline on small real parts: calls, seeds, files."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from photophone import TextToImagePipeline, Tokens
from photophone.decoding.loop import DecodingStopped
from photophone.pipelines.images import ImageOutput

PROMPTS = ["red circle, flat emoji", "blue square", "green ring, pixel art"]
FAST = {"num_inference_steps": 2}


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pixels(result):
    return np.stack([np.asarray(image) for image in result.images])


def test_a_prompt_makes_an_image(pipeline):
    result = pipeline(PROMPTS[0], generator=seeded(7)[0], **FAST)
    (image,) = result.images
    assert image.size == (16, 16) and image.mode == "RGB"
    assert result.prompts == [PROMPTS[0]] and result.seeds == [7] and result.model is None
    assert result.settings == {"num_inference_steps": 2, "guidance_scale": 3.0, "temperature": 1.0, "time_shift": 1.0,
                               "scaled_guidance": False}
    assert len(np.unique(pixels(result))) > 10


def test_lists_and_several_images_for_each(pipeline):
    result = pipeline(PROMPTS, num_images_per_prompt=2, generator=seeded(*range(6)), height=16, width=16, **FAST)
    assert len(result.images) == 6 and result.seeds == [0, 1, 2, 3, 4, 5]
    assert result.prompts == [prompt for prompt in PROMPTS for _ in range(2)]
    assert len({image.tobytes() for image in result.images}) == 6


def test_output_types_hold_the_same_image(pipeline):
    results = {kind: pipeline(PROMPTS, generator=seeded(1, 2, 3), output_type=kind, **FAST).images
               for kind in ("pil", "np", "pt", "latent")}
    assert results["pt"].shape == (3, 3, 16, 16) and float(results["pt"].abs().max()) <= 1
    assert results["np"].shape == (3, 16, 16, 3) and results["np"].dtype == np.float32
    np.testing.assert_allclose(results["np"], (results["pt"].permute(0, 2, 3, 1).numpy() + 1) / 2, atol=1e-6)
    rounded = np.round(results["np"] * 255)
    assert np.abs(rounded - np.stack([np.asarray(image) for image in results["pil"]])).max() <= 1
    assert isinstance(results["latent"], Tokens) and results["latent"].values.shape == (3, 4, 8)
    assert torch.equal(pipeline.image_tokenizer.decode(results["latent"]), results["pt"])


def test_a_seed_means_the_same_image_in_a_batch_of_eight(pipeline):
    prompts, seeds = (PROMPTS * 3)[:8], [4, 4, 9, 1, 0, 2**40, 5, 6]
    batch = pipeline(prompts, generator=seeded(*seeds), **FAST)
    assert batch.seeds == seeds
    for row, (prompt, seed) in enumerate(zip(prompts, seeds)):
        alone = pipeline(prompt, generator=seeded(seed)[0], **FAST)
        assert np.array_equal(pixels(alone)[0], pixels(batch)[row])


@pytest.mark.parametrize("generator", [None, 11], ids=["none", "one for all"])
def test_the_seeds_of_the_output_make_it_again(pipeline, generator):
    given = None if generator is None else torch.Generator().manual_seed(generator)
    first = pipeline(PROMPTS[0], num_images_per_prompt=3, generator=given, **FAST)
    assert len(set(first.seeds)) == 3
    again = pipeline(PROMPTS[0], num_images_per_prompt=3, generator=seeded(*first.seeds), **FAST)
    assert np.array_equal(pixels(first), pixels(again))
    if given is not None:
        second = pipeline(PROMPTS[0], num_images_per_prompt=3, generator=given, **FAST)
        assert not set(second.seeds) & set(first.seeds)


def test_one_generator_twice_is_refused(pipeline):
    with pytest.raises(ValueError, match="one generator twice"):
        pipeline(PROMPTS[0], num_images_per_prompt=2, generator=seeded(1) * 2, **FAST)
    with pytest.raises(ValueError, match="3 generators for 2 samples"):
        pipeline(PROMPTS[:2], generator=seeded(1, 2, 3), **FAST)


def test_saved_pipelines_make_equal_images(pipeline, saved):
    again = TextToImagePipeline.from_pretrained(saved)
    ours, loaded = (p(PROMPTS, generator=seeded(1, 2, 3), **FAST) for p in (pipeline, again))
    assert np.array_equal(pixels(ours), pixels(loaded))
    assert loaded.model == str(saved) and not again.token_generator.training
    assert again.token_generator.dtype == torch.float32


def test_weights_of_16_bits_load_as_float32(copy):
    pipeline = TextToImagePipeline.from_pretrained(copy)
    pipeline.to(torch.float16).save_pretrained(copy)
    (copy / "revision.txt").write_text("1.0\n")
    again = TextToImagePipeline.from_pretrained(copy)
    assert again.token_generator.dtype == again.image_tokenizer.dtype == torch.float32
    assert again(PROMPTS[0], **FAST).revision == "1.0"
    half = TextToImagePipeline.from_pretrained(copy, dtype=torch.bfloat16)
    assert half(PROMPTS[0], **FAST).images[0].size == (16, 16)


def test_the_index_names_our_library_not_our_modules(saved, pipeline):
    index = json.loads((saved / "model_index.json").read_text())
    assert index["token_generator"] == ["photophone", "FlowARGenerator"]
    assert index["image_tokenizer"] == ["photophone", "Latent1DTokenizer"]
    assert index["text_tokenizer"] == ["photophone", "CaptionTokenizer"]
    other = TextToImagePipeline.from_pretrained(saved)
    other.image_tokenizer = pipeline.image_tokenizer  # an exchanged part keeps the name
    assert tuple(other.config["image_tokenizer"]) == ("photophone", "Latent1DTokenizer")


def test_loading_and_calling_warns_of_nothing(saved):
    code = ("import sys, warnings; warnings.simplefilter('error', FutureWarning)\n"
            "warnings.simplefilter('error', DeprecationWarning)\n"
            "from photophone import TextToImagePipeline\n"
            "pipeline = TextToImagePipeline.from_pretrained(sys.argv[1])\n"
            "pipeline('red circle', num_inference_steps=1)\n")
    run = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, timeout=120,
                         check=False)
    lines = [line for line in run.stderr.replace("\r", "\n").splitlines() if line and "pipeline components" not in line]
    assert run.returncode == 0 and not lines, run.stderr


def test_the_callback_sees_each_step_and_can_stop(pipeline):
    seen = []
    pipeline(PROMPTS[0], callback_on_step_end=lambda *arguments: seen.append(arguments), **FAST)
    assert [(step, total, rest) for _, step, total, rest in seen] == [(1, 2, {}), (2, 2, {})]
    assert seen[0][0] is pipeline

    def stop(pipe, step, total, _):
        pipe._interrupt = step == 1

    with pytest.raises(DecodingStopped, match="step 1 of 2"):
        pipeline(PROMPTS[0], callback_on_step_end=stop, **FAST)
    assert len(pipeline(PROMPTS[0], **FAST).images) == 1  # the next call starts afresh


# files of images -------------------------------------------------------------------------------------------------


def test_saving_writes_images_with_their_settings(pipeline, tmp_path):
    result = pipeline(PROMPTS, generator=seeded(1, 2, 3), **FAST)
    files = result.save(tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["red-circle-flat-emoji-1.png", "blue-square-2.png",
                                             "green-ring-pixel-art-3.png"]
    assert sorted(file.suffix for file in files[0].parent.iterdir()) == [".json"] * 3 + [".png"] * 3
    for file, prompt, seed, image in zip(files, PROMPTS, [1, 2, 3], result.images):
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(image))
        facts = json.loads(file.with_suffix(".json").read_text())
        assert (facts["prompt"], facts["seed"], facts["num_inference_steps"]) == (prompt, seed, 2)
        assert {"guidance_scale", "temperature", "model", "revision", "weights_licence"} <= set(facts)


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path):
    images = [Image.new("RGB", (2, 2), colour) for colour in ("red", "green", "blue")]
    files = ImageOutput(images, ["red circle", "red circle!", "Red Circle"], [1, 1, 1]).save(tmp_path)
    assert len(set(files)) == 3
    assert [Image.open(file).getpixel((0, 0)) for file in files] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_one_image_can_have_a_file_name(pipeline, tmp_path):
    one, two = (pipeline(PROMPTS[:n], generator=seeded(*range(n)), **FAST) for n in (1, 2))
    assert one.save(tmp_path / "apple.PNG") == [tmp_path / "apple.PNG"]
    assert (tmp_path / "apple.json").exists()
    with pytest.raises(ValueError, match="2 images do not fit one file"):
        two.save(tmp_path / "both.png")
    with pytest.raises(ValueError, match="output_type 'pil'"):
        pipeline(PROMPTS[0], output_type="pt", **FAST).save(tmp_path)


def test_a_failed_save_leaves_nothing(pipeline, tmp_path):
    result = pipeline(PROMPTS[0], generator=seeded(1)[0], **FAST)
    result.settings["callback"] = object()  # cannot be written as JSON
    with pytest.raises(TypeError):
        result.save(tmp_path / "folder")
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
