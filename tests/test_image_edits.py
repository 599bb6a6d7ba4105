"""Edits by the text-to-image pipeline, and batches from a file of prompts, on small real parts."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import draw_icon, small_pipeline

from photophone.pipelines.image_batch import ImageBatch, read_prompts
from photophone.pipelines.picture_edit import read_mask
from photophone.tokenizers.icon_matting import IconMatting

FAST = {"num_inference_steps": 2}
PROMPT = "red circle, flat emoji"


def seeds(*numbers):
    return [torch.Generator().manual_seed(number) for number in numbers]


def array(image):
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def picture():
    return draw_icon("blue", "ring", 40)


def test_variations_keep_more_with_less_noise(pipeline, picture):
    back = pipeline.image_tokenizer
    original = pipeline.variations(picture, PROMPT, strength=1e-4, num_images=1, generator=seeds(0)[0], **FAST)
    small = array(picture.resize((16, 16), Image.Resampling.LANCZOS))
    given = torch.from_numpy(small).permute(2, 0, 1)[None] / 127.5 - 1
    kept = back.decode(back.encode(given.float()))
    np.testing.assert_allclose(array(original.images[0]), ((kept[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0), atol=3)
    made = [array(pipeline.variations(picture, PROMPT, strength=strength, num_images=1, generator=seeds(0)[0],
                                      **FAST).images[0]) for strength in (0.2, 1.0)]
    near, far = (np.abs(image - array(original.images[0])).mean() for image in made)
    assert near < far
    result = pipeline.variations(picture, num_images=3, generator=seeds(1, 2, 3), **FAST)
    assert result.seeds == [1, 2, 3] and len({image.tobytes() for image in result.images}) == 3
    assert result.settings["edit"] == "variation" and result.settings["guidance_scale"] == 1.0
    assert result.settings["strength"] == 0.6


def test_all_noise_is_the_pipeline_itself(pipeline, picture):
    made = pipeline.variations(picture, PROMPT, strength=1.0, num_images=2, generator=seeds(4, 5), **FAST)
    plain = pipeline(PROMPT, num_images_per_prompt=2, generator=seeds(4, 5), **FAST)
    for one, other in zip(made.images, plain.images):
        assert np.abs(array(one) - array(other)).max() <= 1


@pytest.mark.parametrize("rounds", [1, 3])
def test_inpainting_leaves_what_is_outside(pipeline, picture, rounds):
    options = {"rounds": rounds, "num_images": 2, **FAST}
    result = pipeline.inpaint(picture, (8, 0, 8, 16), PROMPT, generator=seeds(1, 2), **options)
    whole = array(picture.resize((16, 16), Image.Resampling.LANCZOS))
    for image in result.images:
        np.testing.assert_array_equal(array(image)[:, :8], whole[:, :8])
        assert (array(image)[:, 8:] != whole[:, 8:]).any()
    mask = Image.new("L", (40, 40))
    mask.paste(255, (20, 0, 40, 40))
    same = pipeline.inpaint(picture, mask, PROMPT, generator=seeds(1, 2), **options)
    assert [image.tobytes() for image in same.images] == [image.tobytes() for image in result.images]


def test_what_the_region_held_does_not_show(pipeline, picture):
    small = picture.resize((16, 16))
    other = small.copy()
    other.paste("black", (8, 0, 16, 16))
    made = [pipeline.inpaint(one, (8, 0, 8, 16), PROMPT, rounds=2, generator=seeds(3)[0], **FAST).images[0]
            for one in (small, other)]
    assert made[0].tobytes() == made[1].tobytes()


def test_the_way_between_two_captions(pipeline):
    result = pipeline.interpolate(PROMPT, "blue square", num_images=3, generator=seeds(9)[0], **FAST)
    ends = [pipeline(text, generator=seeds(9)[0], **FAST).images[0] for text in (PROMPT, "blue square")]
    assert np.abs(array(result.images[0]) - array(ends[0])).max() <= 1
    assert np.abs(array(result.images[2]) - array(ends[1])).max() <= 1
    assert result.seeds == [9, 9, 9] and [row["share"] for row in result.rows] == [0.0, 0.5, 1.0]
    assert result.facts(1)["share"] == 0.5 and result.facts(1)["to"] == "blue square"
    assert len(set(result.names())) == 3


def test_a_sheet_holds_the_pictures_of_its_guidance_and_seeds(pipeline):
    sheet, lines = pipeline.guidance_grid(PROMPT, guidance_scales=[1, 4], seeds=[1, 2, 3], **FAST)
    assert [line.settings["guidance_scale"] for line in lines] == [1, 4] and lines[0].seeds == [1, 2, 3]
    alone = pipeline(PROMPT, generator=seeds(2)[0], guidance_scale=4, **FAST).images[0]
    assert np.abs(array(lines[1].images[1]) - array(alone)).max() <= 1
    assert sheet.width > 3 * 32 and sheet.height > 2 * 32


def test_a_negative_prompt_changes_the_picture_and_is_noted(pipeline):
    plain = pipeline(PROMPT, generator=seeds(1)[0], **FAST)
    away = pipeline(PROMPT, negative_prompt="blue square", generator=seeds(1)[0], **FAST)
    assert away.settings["negative_prompt"] == "blue square" and away.images[0].tobytes() != plain.images[0].tobytes()
    with pytest.raises(ValueError, match="guidance_scale of 1 there is none"):
        pipeline(PROMPT, negative_prompt="blue square", guidance_scale=1.0)
    with pytest.raises(ValueError, match="the prompt is empty"):
        pipeline(PROMPT, negative_prompt=" ")


def test_a_transparent_picture_on_white_is_the_picture(pipeline):
    with pytest.raises(ValueError, match="no matting network"):
        pipeline(PROMPT, transparent=True)
    whole = small_pipeline()
    whole.register_modules(matting=IconMatting(channels=[4, 8]))
    made = whole(PROMPT, generator=seeds(1)[0], transparent=True, **FAST).images[0]
    plain = whole(PROMPT, generator=seeds(1)[0], **FAST).images[0]
    assert made.mode == "RGBA" and plain.mode == "RGB"
    white = Image.new("RGBA", made.size, "white")
    white.alpha_composite(made)
    assert np.abs(array(white.convert("RGB")) - array(plain)).max() <= 3
    with pytest.raises(ValueError, match="'latent' has none"):
        whole(PROMPT, transparent=True, output_type="latent")


def test_a_pipeline_with_a_matting_network_is_saved_and_loaded(tmp_path):
    whole = small_pipeline()
    whole.register_modules(matting=IconMatting(channels=[4, 8]))
    whole.save_pretrained(tmp_path)
    again = type(whole).from_pretrained(tmp_path)
    assert isinstance(again.matting, IconMatting)
    made = [one(PROMPT, generator=seeds(1)[0], transparent=True, **FAST).images[0].tobytes() for one in (whole, again)]
    assert made[0] == made[1]


@pytest.mark.parametrize(("call", "words"), [
    (lambda p, i: p.variations(i, PROMPT, strength=0), "over 0 and at most 1, got 0"),
    (lambda p, i: p.variations(i, PROMPT, strength=float("nan")), "got nan"),
    (lambda p, i: p.variations(i, PROMPT, num_images=65), "1 to 64, got 65"),
    (lambda p, i: p.variations(array(i), PROMPT), "must be a PIL.Image, got ndarray"),
    (lambda p, i: p.variations(i, ""), "empty"), (lambda p, i: p.variations(i, PROMPT, speed=3), "no option speed"),
    (lambda p, i: p.inpaint(i, (0, 0, 4, 4), PROMPT, rounds=0), "1 to 64, got 0"),
    (lambda p, i: p.inpaint(i, (0, 0, 17, 4), PROMPT), "inside 16x16 pixels"),
    (lambda p, i: p.inpaint(i, (0, 0, 16, 16), PROMPT), "white everywhere"),
    (lambda p, i: p.inpaint(i, Image.new("L", (40, 40)), PROMPT), "black everywhere"),
    (lambda p, i: p.inpaint(i, "left", PROMPT), "got 'left'"),
    (lambda p, i: p.interpolate(PROMPT, "blue square", num_images=1), "2 to 64, got 1"),
    (lambda p, i: p.interpolate(PROMPT, "blue square", generator=seeds(1, 2)), "no list"),
    (lambda p, i: p.guidance_grid(PROMPT, guidance_scales=[1] * 9, seeds=range(8)), "got 72"),
    (lambda p, i: p.guidance_grid(PROMPT, guidance_scales=[40], seeds=[1]), "0 to 30, got 40")])
def test_values_outside_their_limits_are_refused(pipeline, picture, call, words):
    with pytest.raises(ValueError, match=words):
        call(pipeline, picture)


def test_a_box_is_the_mask_of_its_pixels():
    mask = read_mask((2, 1, 3, 4), 8)[0, 0]
    assert int(mask.sum()) == 12 and bool(mask[1, 2]) and bool(mask[4, 4]) and not bool(mask[5, 4])


# files of prompts ---------------------------------------------------------------------------------------------------


def test_prompts_of_text_and_of_tables(tmp_path):
    lines = tmp_path / "prompts.txt"
    lines.write_text("\ufeffred circle\n\n  blue square  \n", encoding="utf-8")
    assert read_prompts(lines) == [("red circle", None), ("blue square", None)]
    table = tmp_path / "prompts.csv"
    table.write_text('seed,prompt\n7,"red circle, flat emoji"\n,blue square\n')
    assert read_prompts(table) == [("red circle, flat emoji", 7), ("blue square", None)]


@pytest.mark.parametrize(("name", "content", "words"), [
    ("p.txt", b"", "has 0 prompts"), ("p.txt", b"\xff\xfe", "not written in UTF-8"),
    ("p.txt", b"red\n" + b"x" * 2000, "line 2: .*2000 characters"), ("p.csv", b"text\nred\n", "no column 'prompt'"),
    ("p.csv", b"prompt,seed\nred,-1\n", "line 2: a seed must be"), ("p.csv", b"prompt\n\"\"\n", "line 2: .*empty"),
    ("p.txt", b"red\n" * 10_001, "has 10001 prompts")])
def test_files_that_hold_no_prompts_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_prompts(tmp_path / name)


def batch(folder, **options):
    return ImageBatch(folder, [("red circle", None), ("blue square", 40), ("green ring", None)],
                      **{"settings": FAST, "number": 2, **options})


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_batch_goes_on_where_it_was_killed(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("photophone.pipelines.image_batch.AT_ONCE", 2)
    assert batch(tmp_path / "whole").run(pipeline) == 6
    calls = []

    def stopping(prompts, **options):
        calls.append(len(prompts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return pipeline(prompts, **options)

    with pytest.raises(KeyboardInterrupt):
        batch(tmp_path / "killed").run(stopping)
    told = json.loads((tmp_path / "killed" / "manifest.json").read_text())
    assert told["images"] == 6 and [one["number"] for one in told["done"]] == [1, 2, 3, 4]
    (tmp_path / "killed" / "00004-blue-square.png").unlink()  # killed between the picture and its JSON
    (tmp_path / "killed" / ".00005-x.png.1-1.part").write_bytes(b"half")
    again = batch(tmp_path / "killed")
    assert [one.number for one in again.left] == [4, 5, 6] and again.run(pipeline) == 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert batch(tmp_path / "killed").run(pipeline) == 0
    seeds_ = [one["seed"] for one in json.loads((tmp_path / "whole" / "manifest.json").read_text())["done"]]
    assert seeds_ == [0, 1, 40, 41, 4, 5]


def test_a_batch_replaces_nothing_unasked(pipeline, tmp_path):
    batch(tmp_path).run(pipeline)
    with pytest.raises(ValueError, match="another request .other seed"):
        batch(tmp_path, seed=5)
    with pytest.raises(ValueError, match="other settings"):
        batch(tmp_path, settings={**FAST, "guidance_scale": 1.0})
    file = tmp_path / "00002-red-circle.png"
    file.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        batch(tmp_path)
    assert batch(tmp_path, overwrite=True).run(pipeline) == 1 and file.read_bytes() != b"mine"
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="no manifest of a batch"):
        batch(tmp_path)
