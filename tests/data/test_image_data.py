"""Prepared images: every source, damaged files, captions of all kinds."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny import draw_icon

from photophone.data import image_decoding
from photophone.data.image_decoding import decode_image
from photophone.data.image_sources import read_source
from photophone.data.images import ImageDataset, prepare_images

UNICODE = "a café – 红苹果 \u2028 next line \x85 “🍎”"


def encoded(image=None, kind="PNG"):
    buffer = io.BytesIO()
    (image or draw_icon("red", "circle", 24)).save(buffer, format=kind)
    return buffer.getvalue()


BROKEN = {"truncated": encoded()[:-40], "text": b"not an image", "empty": b"", "head": encoded()[:20]}


def prepared(source, folder, size=16):
    counts = prepare_images([source], folder / "out.safetensors", size)
    return counts, ImageDataset(folder / "out.safetensors")


def write_tar(path, members):
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    return path


def test_parquet(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"image": {"bytes": encoded(), "path": "a.png"}, "caption": UNICODE, "label": "circle", "tags": ["x", "y"]},
            {"image": {"bytes": None, "path": "b.png"}, "caption": "no bytes", "label": "", "tags": []},
            {"image": {"bytes": BROKEN["truncated"], "path": "c.png"}, "caption": "broken", "label": "", "tags": None},
            {"image": {"bytes": encoded(), "path": None}, "caption": None, "label": None, "tags": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    counts, data = prepared(tmp_path / "a.parquet", tmp_path)
    assert counts == (2, 2) and len(data) == 2
    assert data.fields[0] == {"caption": UNICODE, "label": "circle", "style": "", "tags": "x y", "colours": ""}
    assert set(data.fields[1].values()) == {""}
    parquet.write_table(pyarrow.table({"image": [encoded()], "caption": ["plain bytes"]}), tmp_path / "b.parquet")
    assert prepared(tmp_path / "b.parquet", tmp_path)[0] == (1, 0)
    parquet.write_table(pyarrow.table({"picture": [encoded()]}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="no column 'image', only picture"):
        prepared(tmp_path / "c.parquet", tmp_path)


def test_folder(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/blue-square_2.png", "d.PNG"):
        (folder / name).write_bytes(encoded())
    for number, data in enumerate(BROKEN.values()):
        (folder / f"x{number}.png").write_bytes(data)
    (folder / "notes.md").write_text("no image")
    (folder / "b.txt").write_text(f"  {UNICODE}\n", encoding="utf-8")
    (folder / "d.txt").write_bytes(b"caf\xe9")  # Latin-1
    table = [{"file_name": "a.png", "caption": UNICODE, "style": "flat"}, {"file_name": "sub/blue-square_2.png"}]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in table) + "\n\n",
                                           encoding="utf-8")
    counts, data = prepared(folder, tmp_path)
    assert counts == (4, len(BROKEN))
    assert [fields["caption"] for fields in data.fields] == [UNICODE, UNICODE, "caf\ufffd", "blue square 2"]
    assert data.fields[0]["style"] == "flat"


@pytest.mark.parametrize("prefix", ["", "./", "shard.v1/"])
def test_webdataset(tmp_path, prefix):
    members = [("000.png", encoded()), ("000.txt", UNICODE.encode()), ("001.jpg", encoded(kind="JPEG")),
               ("001.json", json.dumps({"caption": "from json", "label": "circle"}).encode()),
               ("002.txt", b"no image"), ("003.png", BROKEN["truncated"]), ("003.txt", b"broken"),
               ("004.x.txt", b"other"), ("005.PNG", encoded())]
    path = write_tar(tmp_path / "a.tar", [(prefix + name, data) for name, data in members])
    counts, data = prepared(path, tmp_path)
    assert counts == (3, 1)
    assert [fields["caption"] for fields in data.fields] == [UNICODE, "from json", ""]
    assert data.fields[1]["label"] == "circle"


def test_keys_with_dots_lose_no_image(tmp_path):
    members = [(name, data) for key in ("img.v1", "img.v2", "plain") for name, data in (
        (f"{key}.png", encoded()), (f"{key}.txt", f"caption of {key}".encode()))]
    counts, data = prepared(write_tar(tmp_path / "a.tar", members), tmp_path)
    assert counts == (3, 0)
    captions = [f"caption of {key}" for key in ("img.v1", "img.v2", "plain")]
    assert [fields["caption"] for fields in data.fields] == captions


def test_members_of_a_shard_may_lie_apart_and_share_a_text(tmp_path):
    members = [("a/7.left.png", encoded()), ("a/7.right.jpg", encoded(kind="JPEG")), ("b.png", encoded()),
               ("b.jpg", encoded(kind="JPEG")), ("c.PNG", encoded()), ("7.txt", b"another folder"),
               ("a/7.json", b'{"caption": "x", "label": "both"}'), ("b.txt", b"twice"), ("c.TXT", b"late"),
               ("d.cls", b"3"), ("e.v1.txt", b"no image")]
    rest = []
    images = list(read_source(write_tar(tmp_path / "a.tar", members), rest))
    assert [fields.get("caption") for _, fields in images] == ["x", "x", "twice", "twice", "late"]
    assert images[1][1]["label"] == "both" and rest == ["7.txt", "d.cls", "e.v1.txt"]


def test_several_sources_follow_each_other(tmp_path):
    for name, colour in (("one", "red"), ("two", "blue")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{colour}.png").write_bytes(encoded(Image.new("RGB", (20, 20), colour)))
    assert prepare_images([tmp_path / "two", tmp_path / "one"], tmp_path / "o.safetensors", 8) == (2, 0)
    data = ImageDataset(tmp_path / "o.safetensors")
    assert [fields["caption"] for fields in data.fields] == ["blue", "red"]
    assert data.images[:, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0]]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_becomes_white(mode):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    pixels = decode_image(encoded(image.convert(mode)), 8)
    assert pixels[:, :4].max() == 0 and pixels[:, 4:].min() == 255
    half = decode_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 128))), 4)
    assert abs(int(half[0, 0, 1]) - 127) <= 1 and half[0, 0, 0] == 255


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "CMYK", "I;16"])
def test_modes_of_images(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = Image.new("I;16", (9, 9), 65535) if mode == "I;16" else Image.new("RGB", (9, 9), "white").convert(mode)
    pixels = decode_image(encoded(image, kind), 4)
    assert pixels.shape == (4, 4, 3) and pixels.dtype == np.uint8 and pixels.min() == 255


def test_the_centre_is_cropped():
    image = Image.new("RGB", (30, 10), "red")
    image.paste((0, 0, 255), (10, 0, 20, 10))
    assert (decode_image(encoded(image), 10) == [0, 0, 255]).all()
    assert (decode_image(encoded(image.transpose(Image.Transpose.ROTATE_90)), 10) == [0, 0, 255]).all()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_are_refused(name):
    with pytest.raises(ValueError, match="cannot read the image"):
        decode_image(BROKEN[name], 8)


def test_every_truncation_is_refused_or_read():
    """Whatever Pillow raises on damaged bytes becomes a ValueError."""
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        data = encoded(kind=kind)
        for keep in range(0, len(data), max(1, len(data) // 60)):
            damaged = bytearray(data)
            damaged[keep] ^= 0xFF
            for given in (data[:keep], bytes(damaged)):
                try:
                    assert decode_image(given, 8).shape == (8, 8, 3)
                except ValueError as error:
                    assert str(error)


def test_limits(monkeypatch):
    data = encoded(Image.new("RGB", (40, 30)))
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 1199)
    with pytest.raises(ValueError, match="40x30 is over the limit of 1199 pixels"):
        decode_image(data, 8)
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 1200)
    assert decode_image(data, 8).shape == (8, 8, 3)
    monkeypatch.setattr(image_decoding, "MAX_IMAGE_BYTES", 10)
    with pytest.raises(ValueError, match=f"{len(data)} bytes is over the limit of 10"):
        decode_image(data, 8)


def test_wrong_sources_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.zip").touch()
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 200)
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metadata.jsonl").write_text('{"file_name": "a.png"}\n{"file_na')
    for name, words in [("empty", r"no readable image in .*empty \(0 corrupt\)"), ("a.zip", "is not a folder"),
                        ("missing.parquet", "missing.parquet"), ("missing", "is not a folder"),
                        ("broken.tar", "broken.tar cannot be read"), ("broken.parquet", "broken.parquet"),
                        ("bad", "metadata.jsonl, line 2")]:
        with pytest.raises(ValueError, match=words):
            prepare_images([tmp_path / name], tmp_path / "out.safetensors", 8)
    assert not list(tmp_path.glob("out*")) and not list(tmp_path.glob("*.part"))
    with pytest.raises(ValueError, match="is not a folder"):
        list(read_source(tmp_path / "a.zip"))


def test_batches_are_floats_from_minus_one_to_one(tmp_path):
    images = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    images[1], images[2, 0, 1] = 255, torch.tensor([0, 255, 51], dtype=torch.uint8)
    save_file({"images": images}, tmp_path / "a.safetensors")
    (tmp_path / "a.jsonl").write_text("{}\n" * 3)
    batch = ImageDataset(tmp_path / "a.safetensors").batch(np.array([2, 0, 1]))
    assert batch.shape == (3, 3, 4, 4) and batch.dtype == torch.float32
    torch.testing.assert_close(batch[0, :, 0, 1], torch.tensor([-1.0, 1.0, -0.6]))
    assert float(batch[1].max()) == -1 and float(batch[2].min()) == 1


@pytest.mark.parametrize(("images", "lines", "words"), [
    (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), "{}\n", "2 images but 1 captions"),
    (torch.zeros(1, 4, 4, 3), "{}\n", "torch.float32"), (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "{}\n", "uint8"),
    (torch.zeros(1, 4, 5, 3, dtype=torch.uint8), "{}\n", r"\(1, 4, 5, 3\)"),
    (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "{\n", "line 1"),
    (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), "[]\n", "line 1: not an object"),
    (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), None, "not a prepared image file"),
    (None, "{}\n", "not a prepared image file"),
])
def test_other_files_are_no_prepared_files(tmp_path, images, lines, words):
    path = tmp_path / "a.safetensors"
    if images is None:
        path.write_bytes(b"damaged")
    else:
        save_file({"images": images}, path)
    if lines is not None:
        path.with_suffix(".jsonl").write_text(lines)
    with pytest.raises(ValueError, match=words):
        ImageDataset(path)
    with pytest.raises(ValueError, match="not a prepared image file"):
        ImageDataset(tmp_path / "missing.safetensors")
