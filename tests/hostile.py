"""Malformed uploads and inputs: files that are cut, renamed, lie about their size, blow up, or are noise."""

import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
import soundfile
from PIL import Image

KINDS = {"image": "tokens_image", "audio": "tokens_audio"}


def picture(kind="PNG", size=(96, 64)):
    """A valid picture."""
    shade = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(shade).save(data, format=kind)
    return data.getvalue()


def sound(kind="WAV", subtype=None, seconds=0.5, rate=16000, channels=1, samples=None):
    """A valid recording, unless ``samples`` are not."""
    if samples is None:
        samples = 0.1 * np.sin(np.arange(round(seconds * rate)) * 0.05)[:, None].repeat(channels, axis=1)
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=kind, subtype=subtype)
    return data.getvalue()


def png(width, height, depth=8, colour=2, rows=b""):
    """A PNG of any told size, its pixels made of compressed ``rows``."""
    def part(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
            + part(b"IDAT", rows) + part(b"IEND", b""))


def wav(channels=1, rate=16000, bits=16, kind=1, told=None, content=b"\0" * 3200):
    """A WAV whose header says anything."""
    told = len(content) if told is None else told
    body = (b"fmt " + struct.pack("<IHHIIHH", 16, kind, channels & 0xFFFF, rate & 0xFFFFFFFF, (rate * 2) & 0xFFFFFFFF,
                                  2, bits) + b"data" + struct.pack("<I", told & 0xFFFFFFFF) + content)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def zero_rows(width, height, bits):
    """Compressed rows of zeros, made in pieces."""
    packer, row = zlib.compressobj(9), b"\0" * (1 + (width * bits + 7) // 8)
    return b"".join(packer.compress(row) for _ in range(height)) + packer.flush()


def uploads():
    """(kind, file name, bytes); none of them may be decoded to a result."""
    whole = {"a.png": picture("PNG"), "a.jpg": picture("JPEG"), "a.webp": picture("WEBP"), "a.gif": picture("GIF")}
    for name, data in whole.items():
        yield from (("image", name, data[:round(share * len(data))]) for share in (0.01, 0.1, 0.3))
    heard = {"a.wav": sound(), "a.flac": sound("FLAC"), "a.ogg": sound("OGG", "VORBIS"), "a.aiff": sound("AIFF")}
    for name, data in heard.items():
        yield from (("audio", name, data[:round(share * len(data))]) for share in (0.001, 0.01, 0.03))
    yield from (("audio", "cut.wav", heard["a.wav"][:round(share * len(heard["a.wav"]))]) for share in (0.3, 0.6, 0.99))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../evil.py", "print(1)")
    wrong = {"text": b"hello " * 50, "html": b"<html><script>alert(1)</script></html>", "elf": b"\x7fELF" + bytes(300),
             "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
             "zip": archive.getvalue(), "gzip": gzip.compress(bytes(100_000)), "pickle": b"\x80\x04\x95" + bytes(60),
             "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n", "one": b"x"}
    for content in wrong.values():
        yield "image", "photo.png", content
        yield "audio", "voice.wav", content
    yield "image", "voice.png", heard["a.wav"]
    yield "audio", "photo.wav", whole["a.png"]
    yield "image", "old.png", picture("BMP")
    yield "image", "old.tiff", picture("TIFF")
    yield "image", "huge.png", png(31_623, 31_623)
    yield "image", "huge.png", png(2**31 - 1, 2**31 - 1)
    yield "image", "huge.png", png(0, 10)
    yield "image", "bomb.png", png(20_000, 20_000, 1, 0, zero_rows(20_000, 20_000, 1))
    yield "image", "bomb.png", png(16_000, 5_000, 8, 0, zero_rows(16_000, 5_000, 8))
    yield "image", "short.png", png(5_000, 4_000, 8, 2, zlib.compress(b"\0" * 100))
    yield "image", "huge.gif", b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\xf0\0\0" + bytes(800)
    bad = np.full(8_000, 0.1, np.float32)
    for value in (np.nan, np.inf, -np.inf):
        bad[4_000] = value
        yield "audio", "bad.wav", sound(subtype="FLOAT", samples=bad.copy())
        yield "audio", "bad64.wav", sound(subtype="DOUBLE", samples=bad.copy())
    yield "audio", "adpcm.wav", sound(subtype="G721_32", rate=8000)
    yield "audio", "adpcm.wav", sound(subtype="NMS_ADPCM_16", rate=8000)
    yield "audio", "long.wav", sound(seconds=61, rate=8000)
    yield "audio", "long.flac", sound("FLAC", samples=np.zeros(48_000 * 400))
    yield "audio", "none.wav", wav(content=b"")
    for options in ({"channels": 0}, {"channels": 6}, {"channels": 65_535}, {"rate": 0}, {"rate": 1}, {"rate": 2**31},
                    {"bits": 0}, {"kind": 0x55}, {"kind": 0xFFFE}):
        yield "audio", "liar.wav", wav(**options)
    told = bytearray(heard["a.flac"])
    told[21:26] = b"\x0f\xff\xff\xff\xff"  # the number of samples in FLAC's first block
    yield "audio", "liar.flac", bytes(told)
    noise = np.random.default_rng(0)
    for length in (7, 63, 1_000, 50_000):
        yield "image", "noise.png", noise.bytes(length)
        yield "image", "noise.jpg", b"\xff\xd8\xff\xe0" + noise.bytes(length)
        yield "audio", "noise.wav", noise.bytes(length)
        yield "audio", "noise.ogg", b"OggS\0\2" + noise.bytes(length)
        yield "audio", "noise.mp3", b"\x00\x01" * 4 + noise.bytes(length)


def damaged(count):
    """(kind, file name, bytes) of files with some bytes changed: they may be read or refused."""
    noise = np.random.default_rng(1)
    sources = [("image", "a.png", picture("PNG")), ("image", "a.jpg", picture("JPEG")),
               ("image", "a.webp", picture("WEBP")), ("audio", "a.wav", sound()), ("audio", "a.flac", sound("FLAC")),
               ("audio", "a.ogg", sound("OGG", "VORBIS"))]
    for options in ({"bits": 3}, {"told": 2**31 - 100}, {"told": 4_000_000}):
        yield "audio", "liar.wav", wav(**options)
    for index in range(count):
        kind, name, data = sources[index % len(sources)]
        changed = bytearray(data)
        for place in noise.integers(0, len(data), 6):
            changed[place] = noise.integers(256)
        yield kind, name, bytes(changed)


def paths(folder):
    """What a visitor might name as a file instead of uploading one."""
    return ["/etc/passwd", "/etc/shadow", "../../etc/passwd", "etc/passwd", "~/.bashrc", "file:///etc/passwd",
            "http://127.0.0.1:22/", "https://example.com/a.png", "//server/share/a.png", "/proc/self/environ",
            "/dev/zero", "/dev/stdin", "C:\\Windows\\win.ini", f"{folder}/../etc/passwd", f"{folder}/../../etc/passwd",
            "/etc/passwd\0.png", "a" * 5_000, "", ".", ["/etc/passwd"], {"path": "/etc/passwd"}, 7, True,
            "photophone/pretrained/tiny-image/model_index.json", "data:image/png;base64,AAAA"]


def inputs():
    """(endpoint, arguments, or a whole body as bytes) that no handler may accept."""
    rest = [4, 7, False, 20, 3.0, 1.0, "", False, 64]
    for prompt in ("", "   ", None, "x" * 1_001, "x" * 100_000, "a\x00b", "a\x1b[2Jb", "\ud800",
                   "\U000e0001 tag" * 300):
        yield "image", [prompt, *rest]
    for place, values in {1: (0, 9, -1, 1e308, "many", None, 2.5), 2: (-1, 2**40, 1e400, "seed"), 4: (0, 51, 10**9),
                          5: (-0.1, 11, float("nan"), float("inf")), 6: (-1, 2.1, float("nan"), "hot"),
                          9: (65, "64x64", -128, [64])}.items():
        for value in values:
            arguments = ["a red apple", *rest]
            arguments[place] = value
            yield "image", arguments
    speech = [1.0, 7, False, 1, 2.0, 1.0, "heart"]
    for text in ("", "...", "漢字だけ", "x" * 801, "word " * 50_000, None, "a\x00b", "bell\x07 rings",
                 "a\x1b[2Jb", "\ud800", "a \ue000"):
        yield "speech", [text, *speech]
    for place, values in {1: (0.1, 3, float("nan"), "fast"), 4: (0, 33), 5: (11, float("nan")), 6: (3,),
                          7: ("nobody", None, 7, ["heart"], {"heart": 1})}.items():
        for value in values:
            arguments = ["Hello.", *speech]
            arguments[place] = value
            yield "speech", arguments
    for name in ("photophone/nothing", "../../etc/passwd", "/etc/passwd", "dac-16khz", None, 7,
                 ["photophone/tiny-image"], "x" * 10_000):
        yield "tokens_image", [None, name]
    yield "tokens_image", [None, "photophone/tiny-image"]
    yield "enhance", [None, 1.0]
    for share in (7, -0.1, float("nan"), "all"):
        yield "enhance", [None, share]
    for body in (b"", b"{", b"[]", b"null", b'{"data": 7}', b'{"data": null}', b"[" * 20_000, b'{"data":' * 9_000,
                 b"\xff\xfe", b'{"data": ["' + b"x" * 300_000 + b'"]}'):
        yield "image", body
    yield "image", []
    yield "image", ["a red apple"]
    yield "image", ["a red apple", *rest, *rest, "more"]
    yield "enhance", [None, 1.0, 1.0]
    yield "speech", ["Hello.", *speech, "more"]
    yield "v2/image", {"prompt": "a red apple"}
    yield "nothing", []
    yield "../../config", []
    yield "image%00", []
