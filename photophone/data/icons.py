"""Icon sets as their packages hold them: a JSON of SVG drawings, with a name and a licence for all of them.

A package (``npm pack @iconify-json/openmoji`` writes one as a file) has ``icons.json`` with the drawings, ``info.json``
with title and licence, and ``package.json`` with its name and version.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from photophone.core.limits import MAX_ICON_SET_BYTES

TINTS = {"red": "#d32f2f", "orange": "#f57c00", "yellow": "#fbc02d", "green": "#388e3c", "blue": "#1976d2",
         "purple": "#7b1fa2", "pink": "#e91e63", "brown": "#6d4c41", "gray": "#757575", "black": "#000000"}
"""Colours of silhouettes, whose drawings have none of their own."""
OUTSIDE = re.compile(r"""<\s*(image|script|foreignObject|style)\b|href\s*=\s*["'](?!\#)|url\(\s*["']?(?!\#)""",
                     re.IGNORECASE)
"""Parts of a drawing that may read something else than the drawing itself."""


@dataclass(frozen=True)
class Icon:
    """A drawing and what is known of it.

    Attributes:
        svg: a whole SVG document.
        fields: as of a prepared file (:data:`photophone.data.images.FIELDS`), with ``source`` and ``licence``.
    """

    svg: str
    fields: dict[str, str]


def read_icons(source: Path, style: str | None = None) -> Iterator[Icon]:
    """Icons of a package, in the order of their names; hidden ones and second names of the same drawing are left out.

    Args:
        source: the file that ``npm pack`` writes, or the folder of an unpacked or installed package.
        style: words that end each caption, "LABEL, STYLE"; the title of the set when not given. Drawings without
            colours get one by their name, which begins the caption.

    Raises:
        ValueError: no such package, or one whose files are not what they should be.
    """
    parts = read_package(source)
    icons, info, package = parts["icons.json"], parts["info.json"], parts["package.json"]
    try:
        origin = {"source": f"npm {package['name']} {package['version']}", "licence": info["license"]["title"]}
        style = style or str(info["name"])
        size = {"width": icons.get("width", 16), "height": icons.get("height", 16), "left": 0, "top": 0}
        for name, icon in sorted(icons["icons"].items()):
            if icon.get("hidden") or OUTSIDE.search(icon["body"]):
                continue
            label, tint = name.replace("-", " ").replace("_", " "), ""
            if "currentColor" in icon["body"]:
                tint = list(TINTS)[zlib.crc32(name.encode()) % len(TINTS)]
            caption = f"{tint} {label}, {style}".strip()
            yield Icon(document({**size, **icon}, TINTS.get(tint, "#000000")),
                       {"caption": caption, "label": label, "style": style, "tags": "", "colours": tint, **origin})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source} is no icon set: {type(error).__name__} {error}") from error


def document(icon: dict[str, Any], tint: str) -> str:
    """An SVG document of an icon's drawing.

    Args:
        icon: ``body``, and the box in the drawing's units: ``left``, ``top``, ``width``, ``height``.
        tint: of what has no colour of its own, as #rrggbb.
    """
    box = " ".join(str(float(icon[name])) for name in ("left", "top", "width", "height"))
    side = float(max(icon["width"], icon["height"]))  # SVG puts a drawing that is no square into the middle of one
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" width="{side}" height="{side}" '
            f'color="{tint}">{icon["body"]}</svg>')


def read_package(source: Path) -> dict[str, dict]:
    """``icons.json``, ``info.json`` and ``package.json`` of a package.

    Raises:
        ValueError: one is missing, too large, or no JSON object.
    """
    parts = {}
    for name in ("icons.json", "info.json", "package.json"):
        try:
            parts[name] = json.loads(read_member(source, name))
        except (OSError, KeyError, tarfile.TarError, ValueError) as error:
            raise ValueError(f"{source} is no package of icons: {name} cannot be read ({error})") from error
        if not isinstance(parts[name], dict):
            raise ValueError(f"{source} is no package of icons: {name} is no object")
    return parts


def read_member(source: Path, name: str) -> bytes:
    """A file of a package, which is a folder or a tar file with all of it under ``package/``."""
    if source.is_dir():
        check_bytes((source / name).stat().st_size)
        return (source / name).read_bytes()
    with tarfile.open(source) as archive:
        member = archive.getmember(f"package/{name}")
        check_bytes(member.size)
        file = archive.extractfile(member)
        if file is None:
            raise ValueError("it is no file")
        return file.read()


def check_bytes(count: int) -> None:
    """Refuse a file of so many bytes.

    Raises:
        ValueError: it is over ``MAX_ICON_SET_BYTES``.
    """
    if count > MAX_ICON_SET_BYTES:
        raise ValueError(f"{count} bytes, the limit is {MAX_ICON_SET_BYTES}")


def find_renderer() -> Callable[[str, int], bytes]:
    """A function of an SVG document and the pixels per side to the bytes of a PNG.

    Raises:
        ImportError: neither of the packages that draw SVG is installed.
    """
    try:
        import resvg_py
        return lambda svg, size: bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size,
                                                             skip_system_fonts=True))
    except ImportError:
        pass
    try:
        import cairosvg
        return lambda svg, size: cairosvg.svg2png(bytestring=svg.encode(), output_width=size, output_height=size)
    except (ImportError, OSError) as error:  # cairosvg without the library cairo
        raise ImportError("drawing icons needs a package that renders SVG: pip install 'photophone[icons]'") from error


def draw(svg: str, size: int, render: Callable[[str, int], bytes]) -> np.ndarray:
    """uint8 (size, size, 3) of an SVG document on white, drawn twice as large and made smaller.

    Raises:
        ValueError: it cannot be drawn, or nothing is to be seen.
    """
    return draw_with_alpha(svg, size, render)[0]


def draw_with_alpha(svg: str, size: int, render: Callable[[str, int], bytes]) -> tuple[np.ndarray, np.ndarray]:
    """:func:`draw`, and its opacity uint8 (size, size), which is 0 where the white is the ground's.

    Raises:
        ValueError: it cannot be drawn, or nothing is to be seen.
    """
    try:
        drawn = Image.open(io.BytesIO(render(svg, 2 * size))).convert("RGBA")
    except Exception as error:  # whatever the renderer says of a broken drawing
        raise ValueError(f"the drawing cannot be rendered: {error}") from error
    alpha = drawn.getchannel("A")
    if alpha.getextrema()[1] == 0:
        raise ValueError("the drawing is empty")
    whole = Image.new("RGBA", drawn.size, "white")
    whole.alpha_composite(drawn)
    small = (part.resize((size, size), Image.Resampling.LANCZOS) for part in (whole.convert("RGB"), alpha))
    return tuple(np.asarray(part) for part in small)
