"""Pictures that are edited over HTTP: what the pipeline makes, alone and in any batch, and what is refused."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from hostile import png, zero_rows
from PIL import Image
from test_server_routes import IMAGES, ask, pictures, seeded
from tiny import draw_icon, small_pipeline

from photophone.core.limits import SERVER_PICTURE_BYTES
from photophone.server.app import Settings, build_app
from photophone.tokenizers.icon_matting import IconMatting
from photophone.tokenizers.icon_upscaler import IconUpscaler

EDITS, VARIATIONS = "/v1/images/edits", "/v1/images/variations"
PROMPT = "red circle, flat emoji"
FAST = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipeline():
    made = small_pipeline()
    torch.manual_seed(0)
    made.register_modules(matting=IconMatting(channels=[4, 8]), upscaler=IconUpscaler(channels=[16, 16]))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def app(pipeline):
    app = build_app(Settings(), {"image": pipeline})
    yield app
    app.state.models.close()


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


PICTURE = draw_icon("blue", "ring", 40)
OTHER = draw_icon("green", "cross", 40)


def hole(size=40):
    """The mask of OpenAI's clients: any colour, transparent where something new is drawn."""
    mask = Image.new("RGBA", (size, size), (255, 255, 255, 255))
    mask.paste((0, 0, 0, 0), (size // 2, 0, size, size))
    return mask


def painted(size=40):
    """That of the command line: black, white where something new is drawn."""
    mask = Image.new("L", (size, size))
    mask.paste(255, (size // 2, 0, size, size))
    return mask


def sent(path, image=PICTURE, mask=None, **fields):
    files = {"image": ("a.png", file_of(image) if isinstance(image, Image.Image) else image)}
    if mask is not None:
        files["mask"] = ("m.png", file_of(mask) if isinstance(mask, Image.Image) else mask)
    return "POST", path, {"files": files, "data": {key: str(value) for key, value in {**FAST, **fields}.items()}}


def edit(image=PICTURE, mask=None, **fields):
    return sent(EDITS, image, mask, **{"prompt": PROMPT, "seed": 5, **fields})


def variation(image=PICTURE, **fields):
    return sent(VARIATIONS, image, **{"seed": 5, **fields})


def same(images, expected, most=1):
    for one, other in zip(images, expected, strict=True):
        assert np.abs(one - np.asarray(other).astype(int)).max() <= most


def refused(answer, status=400):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["message"]


def test_pictures_have_the_size_that_is_asked_for(app, pipeline):
    new = [("POST", IMAGES, {"json": {"prompt": PROMPT, "seed": 5, "size": size, **FAST}})
           for size in ("auto", "16x16", "32x32")]
    answers = ask(app, *new, edit(size="32x32"), variation(size="32x32"))
    made = [pictures(answer)[0] for answer in answers]
    assert [picture.shape for picture in made] == [(16, 16, 3)] * 2 + [(32, 32, 3)] * 3
    same(made[2:3], pipeline(PROMPT, generator=[seeded(5)], height=32, width=32, **FAST).images)
    assert "size must be auto or 16x16 or 32x32" in refused(ask(app, edit(size="64x64"))[0])


@pytest.mark.parametrize("mask", [hole(), painted()])
def test_a_part_is_drawn_anew(app, pipeline, mask):
    answer = ask(app, edit(mask=mask, n=2, rounds=2))[0]
    expected = pipeline.inpaint(PICTURE, (8, 0, 8, 16), PROMPT, rounds=2, num_images=2,
                                generator=[seeded(5), seeded(6)], **FAST).images
    same(pictures(answer), expected)
    assert [item["seed"] for item in answer.json()["data"]] == [5, 6]
    whole = np.asarray(PICTURE.resize((16, 16), Image.Resampling.LANCZOS)).astype(int)
    for image in pictures(answer):
        np.testing.assert_array_equal(image[:, :8], whole[:, :8])


def test_variations_are_those_of_the_pipeline(app, pipeline):
    seeds = [seeded(5), seeded(6), seeded(7)]
    plain = ask(app, variation(n=3))[0]
    same(pictures(plain), pipeline.variations(PICTURE, num_images=3, generator=seeds, **FAST).images)
    strong, without_mask = ask(app, variation(n=1, prompt=PROMPT, strength=0.3), edit(strength=0.3))
    expected = pipeline.variations(PICTURE, PROMPT, strength=0.3, num_images=1, generator=[seeded(5)], **FAST).images
    same(pictures(strong), expected)
    same(pictures(without_mask), expected)


def test_edits_in_a_batch_are_those_alone(app):
    """Of different pictures, prompts and masks, beside prompts without a picture."""
    prompt = {"prompt": PROMPT, "seed": 5, **FAST}
    asked = [edit(n=2, mask=hole(), rounds=2), edit(OTHER, mask=painted(), rounds=2, prompt="blue square", seed=9),
             edit(strength=0.5), edit(OTHER, strength=0.5, prompt="green ring", seed=11), variation(n=2),
             variation(OTHER, seed=9), ("POST", IMAGES, {"json": prompt}),
             ("POST", IMAGES, {"json": {**prompt, "to_prompt": "blue square", "n": 3}}),
             ("POST", IMAGES, {"json": {**prompt, "negative_prompt": "blue square"}}),
             ("POST", IMAGES, {"json": {**prompt, "transparent": True}})]
    together = ask(app, *asked)
    for request, answer in zip(asked, together):
        same(pictures(answer), pictures(ask(app, request)[0]))
    first, second = (pictures(answer)[0] for answer in together[:2])
    assert np.abs(first - second).max() > 20  # nobody got another one's picture
    rows = app.state.metrics.registry.get_sample_value
    made, calls = (rows(f"photophone_batch_rows_{name}", {"kind": "image"}) for name in ("sum", "count"))
    assert made - calls > 12  # more than the images of one request alone


def test_generations_lead_away_and_lie_between(app, pipeline):
    def draw(**fields):
        return "POST", IMAGES, {"json": {"prompt": PROMPT, "seed": 5, **FAST, **fields}}

    away, between = ask(app, draw(negative_prompt="blue square"), draw(to_prompt="blue square", n=3))
    same(pictures(away), pipeline(PROMPT, negative_prompt="blue square", generator=seeded(5), **FAST).images)
    same(pictures(between), pipeline.interpolate(PROMPT, "blue square", num_images=3, generator=seeded(5),
                                                 **FAST).images)
    assert [item["seed"] for item in between.json()["data"]] == [5, 5, 5]


@pytest.mark.parametrize("fields", [{"transparent": True}, {"background": "transparent"}])
def test_transparent_pictures_have_an_alpha_channel(app, pipeline, fields):
    drawn, edited = ask(app, ("POST", IMAGES, {"json": {"prompt": PROMPT, "seed": 5, **FAST, **fields}}),
                        variation(output_format="webp", **fields))
    expected = pipeline(PROMPT, transparent=True, generator=seeded(5), **FAST).images[0]
    data = base64.b64decode(drawn.json()["data"][0]["b64_json"])
    image = Image.open(io.BytesIO(data))
    assert image.mode == "RGBA" and np.abs(np.asarray(image).astype(int) - np.asarray(expected)).max() <= 1
    assert drawn.json()["background"] == "transparent"
    webp = Image.open(io.BytesIO(base64.b64decode(edited.json()["data"][0]["b64_json"])))
    assert webp.format == "WEBP" and webp.has_transparency_data


@pytest.mark.parametrize(("request_", "words"), [
    (edit(rounds=2), "rounds belong to a mask"), (edit(mask=hole(), strength=0.5), "with a mask give rounds"),
    (edit(n=11), "n: "), (edit(n=0), "n: "), (edit(size="1024x1024"), "16x16"), (edit(prompt=""), "prompt: Field"),
    (edit(prompt="x" * 1001), "1000"), (edit(response_format="url"), "b64_json"), (variation(strength=0), "strength"),
    (variation(strength="nan"), "strength"), (edit(mask=hole(), rounds=65), "rounds"), (variation(seed=-1), "seed"),
    (variation(guidance_scale=31), "guidance_scale"), (variation(num_inference_steps=101), "num_inference_steps"),
    (variation(user="x" * 300), "user"), (variation(colour="red"), "colour: there is no such field"),
    (variation(negative_prompt="a cat"), "negative_prompt needs guidance"), (variation(transparent="x"), "transparent"),
    (variation(background="transparent", output_format="jpeg"), "jpeg cannot hold"),
    (variation(background="opaque", transparent="true"), "contradict"),
    (edit(mask=Image.new("L", (40, 40))), "black everywhere"),
    (edit(mask=Image.new("RGBA", (9, 9))), "white everywhere"),
    (("POST", IMAGES, {"json": {"prompt": PROMPT, "to_prompt": "a cat"}}), "n must be 2"),
    (("POST", IMAGES, {"json": {"prompt": PROMPT, "negative_prompt": ""}}), "negative_prompt"),
    (("POST", VARIATIONS, {"data": {"image": "a.png"}}), "image: "),
    (("POST", VARIATIONS, {"json": {"image": "a.png"}}), "image: Field required"),
    (("POST", VARIATIONS, {"files": [("image[]", ("a.png", b"x"))] * 2}), "image is given twice")])
def test_fields_have_their_limits(app, request_, words):
    assert words in refused(ask(app, request_)[0])


WHOLE = file_of(PICTURE)
BAD = {"empty": b"", "truncated": WHOLE[:len(WHOLE) // 2], "text": b"no picture", "zip": b"PK\x03\x04" + bytes(99),
       "sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
       "tiff renamed": file_of(PICTURE, "TIFF"), "bmp renamed": file_of(PICTURE, "BMP"),
       "pixels without end": png(60_000, 60_000),
       "too many pixels": png(9_000, 9_000, 1, 0, zero_rows(9_000, 9_000, 1)), "no rows": png(40, 40),
       "too large": WHOLE + bytes(SERVER_PICTURE_BYTES)}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_told(app, name):
    as_image, as_mask = ask(app, variation(BAD[name]), edit(mask=BAD[name]))
    for field, answer in (("image", as_image), ("mask", as_mask)):
        message = refused(answer)
        assert message.startswith(field) and not re.search(r"/|Traceback|\b0x[0-9a-f]{6}|\.py", message)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("WEBP", "RGBA"), ("GIF", "P"), ("PNG", "I;16"),
                                            ("PNG", "1"), ("JPEG", "CMYK")])
def test_pictures_of_other_kinds_are_read(app, kind, mode):
    picture = Image.fromarray(np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257) if mode == "I;16" \
        else PICTURE.convert(mode)
    assert len(pictures(ask(app, variation(file_of(picture, kind)))[0])) == 1


def test_a_request_with_two_large_pictures_is_told_its_limit(app):
    data = WHOLE + bytes(13_000_000)
    assert "24" in refused(ask(app, edit(data, data))[0], 413)


def test_a_model_that_makes_pictures_from_captions_alone_says_so(app, pipeline, monkeypatch):
    monkeypatch.setattr(type(pipeline.token_generator), "edits", False)
    answers = ask(app, variation(), edit(mask=hole()))
    assert all("from captions only" in refused(answer) for answer in answers)


def test_the_schema_describes_the_forms(app):
    paths = ask(app, ("GET", "/openapi.json", {}))[0].json()["paths"]
    form = paths[EDITS]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["format"] == "binary" and form["required"] == ["image", "prompt"]
    assert form["properties"]["n"]["maximum"] == 10 and form["additionalProperties"] is False
    assert VARIATIONS in paths
