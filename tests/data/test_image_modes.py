"""Every mode of Pillow is converted rightly or refused by name; large pictures cost little."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from photophone.data.image_decoding import DEEP_MODES, PLAIN_MODES, decode_image

SIDE = 16
SHADES = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
RAMP = np.stack([SHADES, SHADES.T, 255 - SHADES], axis=-1)
ALPHA = np.where(np.arange(SIDE)[:, None] < 8, 255, 102).astype(np.uint8).repeat(SIDE, axis=1)


def saved(image, kind="PNG", **options):
    target = io.BytesIO()
    image.save(target, format=kind, **options)
    return target.getvalue()


def decoded(image, kind="PNG", **options):
    return decode_image(saved(image, kind, **options), SIDE).astype(int)


def over_white(colours, alpha):
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def png(depth, colour, rows, *parts):
    """A PNG of the given rows of bytes, with further parts before them."""
    def part(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0))
            + b"".join(part(*pair) for pair in parts) + part(b"IDAT", packed) + part(b"IEND", b""))


def test_grey_of_sixteen_bits_is_not_white():
    deep = SHADES.astype(np.uint16) * 257
    data = png(16, 0, [row.astype(">u2").tobytes() for row in deep])
    np.testing.assert_array_equal(decode_image(data, SIDE), SHADES[..., None].repeat(3, axis=2))
    for kind, mode in (("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), ("PPM", "I;16")):
        image = Image.frombytes(mode, (SIDE, SIDE), deep.astype(">u2" if mode.endswith("B") else "<u2").tobytes())
        np.testing.assert_array_equal(decoded(image, kind)[..., 0], SHADES)
    between = png(16, 0, [struct.pack(">H", 1000) * SIDE] * SIDE)
    assert (decode_image(between, SIDE) == round(1000 / 257)).all()


def test_the_transparent_shade_of_a_png_is_white():
    deep = png(16, 0, [row.astype(">u2").tobytes() for row in SHADES.astype(np.uint16) * 257],
               (b"tRNS", struct.pack(">H", 5 * 257)))
    eight = png(8, 0, [row.tobytes() for row in SHADES], (b"tRNS", struct.pack(">H", 5)))
    for data in (deep, eight):
        made = decode_image(data, SIDE)[..., 0]
        np.testing.assert_array_equal(made, np.where(SHADES == 5, 255, SHADES))
    colour = png(8, 2, [row.tobytes() for row in RAMP], (b"tRNS", struct.pack(">HHH", *map(int, RAMP[2, 3]))))
    made = decode_image(colour, SIDE)
    assert (made[2, 3] == 255).all() and (made[0, 0] == RAMP[0, 0]).all()


def test_sixteen_bits_a_colour():
    for colour, count in ((2, 3), (6, 4), (4, 2)):
        values = np.stack([RAMP[..., 0], RAMP[..., 1], RAMP[..., 2], ALPHA][:count], axis=-1).astype(np.uint16) * 257
        if colour == 4:
            values[..., 1] = ALPHA.astype(np.uint16) * 257
        made = decode_image(png(16, colour, [row.astype(">u2").tobytes() for row in values]), SIDE)
        plain = RAMP if count > 2 else SHADES[..., None].repeat(3, axis=2)
        expected = plain if colour == 2 else over_white(plain, ALPHA)
        np.testing.assert_allclose(made, expected, atol=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_and_transparency(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = Image.fromarray(RAMP)
    np.testing.assert_array_equal(decoded(image, kind, **options), RAMP)
    image.putalpha(Image.fromarray(ALPHA))
    np.testing.assert_allclose(decoded(image, kind, **options), over_white(RAMP, ALPHA), atol=1)
    if kind != "WEBP":
        grey = Image.fromarray(SHADES)
        np.testing.assert_array_equal(decoded(grey, kind)[..., 1], SHADES)
        grey.putalpha(Image.fromarray(ALPHA))
        np.testing.assert_allclose(decoded(grey, kind)[..., 1], over_white(SHADES[..., None], ALPHA)[..., 0], atol=1)


def test_palettes_and_two_shades():
    colours = np.random.default_rng(0).integers(0, 256, (16, 3), dtype=np.uint8)
    places = np.arange(256, dtype=np.uint8).reshape(SIDE, SIDE) % 16
    image = Image.fromarray(places, mode=None).convert("P")
    image.putpalette(colours.tobytes())
    image.putdata(places.ravel().tolist())
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        np.testing.assert_array_equal(decoded(image, kind), colours[places])
    made = decoded(image, "PNG", transparency=3)
    np.testing.assert_array_equal(made, np.where((places == 3)[..., None], 255, colours[places]))
    shares = bytes([0, 102, *[255] * 14])  # an alpha for each colour
    made = decoded(image, "PNG", transparency=shares)
    alpha = np.frombuffer(shares, np.uint8)[places]
    np.testing.assert_allclose(made, over_white(colours[places], alpha), atol=1)
    two = Image.fromarray(SHADES % 3 == 0)
    np.testing.assert_array_equal(decoded(two)[..., 2], np.where(SHADES % 3 == 0, 255, 0))


def test_modes_of_printers_and_cameras():
    ink = np.stack([SHADES, SHADES.T, np.zeros_like(SHADES), SHADES // 4], axis=-1)
    expected = (255 - ink[..., :3].astype(int)) * (255 - ink[..., 3:].astype(int)) / 255
    image = Image.frombytes("CMYK", (SIDE, SIDE), ink.tobytes())
    np.testing.assert_allclose(decoded(image, "TIFF"), expected, atol=1)
    flat = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))
    assert np.abs(decoded(flat, "JPEG", quality=95) - (255, 0, 0)).max() < 6
    lab = Image.frombytes("LAB", (SIDE, SIDE), bytes([138, 81, 70]) * SIDE * SIDE)  # the red of sRGB: 54, 81, 70
    assert np.abs(decoded(lab, "TIFF")[0, 0] - (255, 0, 0)).max() < 6
    assert np.abs(decoded(Image.new("RGB", (SIDE, SIDE), "red"), "JPEG", quality=95) - (255, 0, 0)).max() < 6


@pytest.mark.parametrize(("mode", "kind", "word"), [("I", "TIFF", "grey of 32 bits"), ("F", "TIFF", "grey of floats"),
                                                    ("F", "PPM", "grey of floats")])
def test_modes_without_a_white_are_refused_by_name(mode, kind, word):
    with pytest.raises(ValueError, match=rf"mode {mode}, {word}.*convert it to 8 or 16 bits"):
        decode_image(saved(Image.new(mode, (SIDE, SIDE), 7), kind), SIDE)


def test_every_mode_of_pillow_is_known():
    known = PLAIN_MODES | DEEP_MODES | {"I", "F", "La"}
    assert set(Image.MODES) <= known
    for mode in set(Image.MODES) - {"I", "F"}:
        from photophone.data.image_decoding import on_white
        made = on_white(Image.new(mode, (4, 4)))
        assert made.mode == "RGB" and made.size == (4, 4), mode



def test_a_large_jpeg_is_reduced_while_it_is_read(monkeypatch):
    ramp = Image.linear_gradient("L").resize((6400, 5000)).convert("RGB")
    data = saved(ramp, "JPEG", quality=90)
    small = np.asarray(ramp.crop((700, 0, 5700, 5000)).resize((64, 64), Image.Resampling.LANCZOS))
    sizes = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda image: sizes.append(image.size) or load(image))
    made = decode_image(data, 64)
    assert np.abs(made.astype(int) - small).max() <= 3
    assert max(width * height for width, height in sizes) <= 800 * 625
    sizes.clear()
    whole = decode_image(saved(ramp.resize((1600, 1200)), "JPEG"), 64)
    assert whole.shape == (64, 64, 3) and (1600, 1200) in sizes  # others are read as they are


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_a_head_that_tells_64_megapixels_costs_little(kind):
    data = saved(Image.new("L", (8000, 8000)), kind)[:3000]
    with pytest.raises(ValueError, match="cannot read the image"):
        decode_image(data, 64)
    with pytest.raises(ValueError, match="limit of 64000000 pixels"):
        decode_image(data.replace(struct.pack(">H", 8000), struct.pack(">H", 9000)) if kind == "JPEG" else saved(
            Image.new("1", (8001, 8000)), "PNG"), 64)
