"""Icon sets: what is read of a package, what is refused, and what is drawn."""

import io
import json
import runpy
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from photophone.data.icons import TINTS, draw, find_renderer, read_icons
from photophone.data.images import ImageDataset

SQUARE = '<path fill="#ff0000" d="M0 0h12v24H0z"/>'
ICONS = {"width": 24, "height": 24, "icons": {
    "red-half": {"body": SQUARE}, "tree": {"body": '<path fill="currentColor" d="M0 0h24v24H0z"/>'},
    "wide_box": {"body": '<path fill="#0000ff" d="M0 0h48v24H0z"/>', "width": 48},
    "gone": {"body": SQUARE, "hidden": True}, "nothing": {"body": "<g></g>"},
    "reader": {"body": '<image href="file:///etc/passwd"/>'}, "link": {"body": "<use href='http://example/a#b'/>"}},
    "aliases": {"half": {"parent": "red-half"}}}
INFO = {"name": "Test Set", "license": {"title": "CC BY 4.0", "spdx": "CC-BY-4.0"}}
PACKAGE = {"name": "@test/icons", "version": "1.2.3"}


def write_folder(folder, **changes):
    folder.mkdir(exist_ok=True)
    for name, content in {"icons": ICONS, "info": INFO, "package": PACKAGE, **changes}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def write_tarball(path):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"icons": ICONS, "info": INFO, "package": PACKAGE}.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_fields_of_a_package_and_its_folder(tmp_path):
    icons = list(read_icons(write_tarball(tmp_path / "set.tgz")))
    assert icons == list(read_icons(write_folder(tmp_path / "set")))
    assert [icon.fields["label"] for icon in icons] == ["nothing", "red half", "tree", "wide box"]
    half, tree = icons[1].fields, icons[2].fields
    assert half == {"caption": "red half, Test Set", "label": "red half", "style": "Test Set", "tags": "",
                    "colours": "", "source": "npm @test/icons 1.2.3", "licence": "CC BY 4.0"}
    assert tree["colours"] in TINTS and tree["caption"] == f"{tree['colours']} tree, Test Set"
    assert TINTS[tree["colours"]] in icons[2].svg
    (named, *_) = read_icons(tmp_path / "set", "emoji")
    assert named.fields["caption"] == "nothing, emoji"


@pytest.mark.parametrize(("changes", "words"), [
    ({"info": {}}, "no icon set: KeyError 'license'"), ({"icons": []}, "icons.json is no object"),
    ({"icons": {"icons": {"a": {}}}}, "no icon set: KeyError 'body'"), ({"icons": {"icons": 3}}, "no icon set"),
])
def test_what_is_no_icon_set_is_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        list(read_icons(write_folder(tmp_path / "set", **changes)))


def test_missing_and_damaged_packages_are_refused(tmp_path):
    (tmp_path / "set.tgz").write_bytes(b"no archive")
    for source in (tmp_path / "set.tgz", tmp_path / "nowhere", write_folder(tmp_path / "set")):
        (tmp_path / "set" / "info.json").unlink(missing_ok=True)
        with pytest.raises(ValueError, match="is no package of icons"):
            list(read_icons(source))


@pytest.fixture
def render():
    try:
        return find_renderer()
    except ImportError as error:
        pytest.skip(str(error))


def test_icons_are_drawn_on_white(tmp_path, render):
    icons = {icon.fields["label"]: icon for icon in read_icons(write_tarball(tmp_path / "set.tgz"))}
    half = draw(icons["red half"].svg, 16, render)
    assert half.shape == (16, 16, 3) and half.dtype == np.uint8
    assert (half[:, :4] == [255, 0, 0]).all() and (half[:, 12:] == 255).all()
    wide = draw(icons["wide box"].svg, 16, render)
    assert (wide[:1] == 255).all() and (wide[15:] == 255).all() and (wide[7:9] == [0, 0, 255]).all()
    tint = icons["tree"].fields["colours"]
    assert (draw(icons["tree"].svg, 16, render)[8, 8] == [int(TINTS[tint][at:at + 2], 16) for at in (1, 3, 5)]).all()
    for svg in (icons["nothing"].svg, "<svg", ""):
        with pytest.raises(ValueError, match="the drawing"):
            draw(svg, 16, render)


def test_the_script_writes_a_prepared_file(tmp_path, render, monkeypatch, capsys):
    script = Path(__file__).parents[2] / "scripts" / "fetch_icons.py"
    output = tmp_path / "icons.safetensors"
    monkeypatch.setattr(sys, "argv", [str(script), str(write_tarball(tmp_path / "set.tgz")), "-o", str(output),
                                      "--size", "16"])
    runpy.run_path(str(script), run_name="__main__")
    assert "3 icons of 16x16" in (said := capsys.readouterr().out) and "1 skipped; licences: CC BY 4.0" in said
    data = ImageDataset(output)
    assert len(data) == 3 and {fields["licence"] for fields in data.fields} == {"CC BY 4.0"}


def test_without_npm_a_name_is_refused(tmp_path, render, monkeypatch, capsys):
    script = Path(__file__).parents[2] / "scripts" / "fetch_icons.py"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(script), "@test/icons", "-o", str(tmp_path / "icons.safetensors")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 2 and "npm cannot be run" in capsys.readouterr().err
