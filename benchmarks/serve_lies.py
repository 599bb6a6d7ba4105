"""What ``serve_attack.py`` sends: recordings and pictures that lie, and requests that no schema describes."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from typing import Any

import numpy as np
import soundfile
from PIL import Image

Request = tuple[str, str, dict[str, Any]]
SPEECH, IMAGES, ENHANCE = "/v1/audio/speech", "/v1/images/generations", "/v1/audio/enhance"
EDITS, VARIATIONS = "/v1/images/edits", "/v1/images/variations"
JSON = {"content-type": "application/json"}


def sound(form: str = "WAV", subtype: str = "PCM_16", seconds: float = 0.3) -> bytes:
    """A short recording of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(16000 * seconds)).astype(np.float32)
    soundfile.write(file, noise, 16000, format=form, subtype=subtype)
    return file.getvalue()


def picture(kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A small picture of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
    Image.fromarray(noise).convert(mode).save(file, format=kind)
    return file.getvalue()


def told_png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that tells a size which it does not have."""
    def part(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + part(b"IDAT", rows) + part(b"IEND", b""))


def lying_sounds() -> list[tuple[str, bytes]]:
    """Recordings with headers that lie, with NaN, and what is none."""
    whole = sound()
    nan = bytearray(sound("WAV", "FLOAT"))
    nan[-400:-396] = struct.pack("<f", float("nan"))
    huge = whole[:40] + b"\xff\xff\xff\x7f" + whole[44:]
    return [("nan.wav", bytes(nan)), ("huge.wav", huge), ("empty.wav", b""), ("../../etc/passwd", whole),
            ("picture.wav", picture()), ("zip.flac", b"PK\x03\x04" + bytes(500)), ("long" * 60 + ".wav", whole),
            ("big.wav", whole + bytes(3_000_000)), ("nul\0.wav", sound("FLAC"))]


def lying_pictures() -> list[tuple[str, bytes]]:
    """Pictures with headers that lie, of kinds that are not read, that grow, and what is none."""
    bomb = told_png(30_000, 30_000, zlib.compress(bytes(20_000_000), 9))
    large = told_png(5_000, 4_000, zlib.compress(bytes(4_000 * 15_001), 9))
    return [("huge.png", told_png(2**31 - 1, 2**31 - 1)), ("none.png", told_png(40, 40)), ("bomb.png", bomb),
            ("zero.png", told_png(0, 0)), ("empty.png", b""), ("../../etc/passwd", picture()), ("sound.png", sound()),
            ("tiff.png", picture("TIFF")), ("bmp.png", picture("BMP")), ("svg.png", b"<svg onload='x'/>"),
            ("large.png", large), ("big.png", picture() + bytes(3_000_000)), ("long" * 60 + ".png", picture()),
            ("eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), ("nul\0.png", picture("GIF", "P"))]


def bent(draws: random.Random, whole: list[bytes]) -> bytes:
    """One of these files, cut short, with some bytes changed, or both."""
    data = bytearray(draws.choice(whole))
    if draws.random() < 0.5:
        data = data[:draws.randrange(len(data))]
    for _ in range(draws.choice((0, 1, 5, 50))):
        if data:
            data[draws.randrange(min(len(data), draws.choice((64, len(data)))))] = draws.randrange(256)
    return bytes(data)


def file_requests(draws: random.Random, count: int) -> list[Request]:
    """So many requests with files: half of them recordings, half of them pictures."""
    sounds = [sound(), sound("FLAC"), sound("OGG", "VORBIS"), sound("MP3", "MPEG_LAYER_III"), sound("WAV", "FLOAT")]
    drawn = [picture(), picture("PNG", "RGBA"), picture("JPEG"), picture("WEBP", "RGBA"), picture("GIF", "P")]
    lies, made = (lying_sounds(), lying_pictures()), []
    for number in range(count):
        kind, place = number % 2, number // 2
        if place < len(lies[kind]):
            file = lies[kind][place]
        else:
            file = f"file{draws.choice(('.wav', '.mp3', '.png', '.exe', ''))}", bent(draws, (sounds, drawn)[kind])
        made.append(picture_request(draws, file, drawn) if kind else sound_request(draws, file))
    return made


def lying_fields(draws: random.Random, fields: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """A form whose fields are mostly the first of what they may be, so that the file is looked at, too."""
    return {name: values[0] if draws.random() < 0.9 else draws.choice(values) for name, values in fields.items()}


def sound_request(draws: random.Random, file: tuple[str, bytes]) -> Request:
    """A recording to clean, or a voice."""
    if draws.random() < 0.75:
        form = {"mix": ("1", "0.5", "nan", "-1", "x", ""), "response_format": ("wav", "flac", "mp3", "opus", "exe")}
        return "POST", ENHANCE, {"files": {"file": file}, "data": lying_fields(draws, form)}
    form = {"model": ("tts-1", "none"), "input": ("Hi.", ""), "voice_text": ("no.", "", "x" * 2000),
            "speed": ("1", "inf", "0x1")}
    return "POST", SPEECH, {"files": {"voice": file}, "data": lying_fields(draws, form)}


def picture_request(draws: random.Random, file: tuple[str, bytes], drawn: list[bytes]) -> Request:
    """A picture to edit or to vary, or a mask of one that is whole."""
    form = {"n": ("1", "2", "0", "1e9", ""), "num_inference_steps": ("1", "2", "999"),
            "seed": ("1", "-1", "9" * 40, "nan"), "background": ("auto", "transparent", "red")}
    if draws.random() < 0.4:
        form["strength"] = ("0.5", "nan", "0")
        return "POST", VARIATIONS, {"files": {"image": file}, "data": lying_fields(draws, form)}
    form |= {"prompt": ("a red apple", "", "\0", "x" * 3000), "rounds": ("1", "2", "65")}
    whole = ("a.png", draws.choice(drawn))
    files = {"image": file, "mask": whole} if draws.random() < 0.5 else {"image": whole, "mask": file}
    return "POST", EDITS, {"files": files, "data": lying_fields(draws, form)}


def odd_bodies() -> list[bytes]:
    """Contents that are wrong in ways that no schema describes."""
    return [b"[" * 100_000, b'{"a":' * 30_000, b"nul", b"\xff\xfe\x00", b'{"input": NaN}', b"1e999",
            b'"' + b"x" * 190_000, b'{"model": "tts-1", "input": "Hi.", "speed": Infinity}',
            b"{" + b'"a": 1,' * 20_000 + b'"b": 2}', b'{"model": "tts-1", "input": "\\ud800\\udc00\\ud800"}',
            b" " * 250_000, b"9" * 100_000, b"\0" * 100,
            json.dumps({"model": "tts-1", "input": "\u202e\u0000\ufffe" * 500}).encode(),
            json.dumps({"model": "tts-1", "input": "\u0301" * 4000}).encode(),
            json.dumps({"model": "tts-1", "input": "1234567890" * 400}).encode(),
            json.dumps({"model": "tts-1", "input": "Hi.", "voice": {"audio": "A" * 4_000_000}}).encode(),
            json.dumps({"model": "tts-1", "input": "Hi.", "voice": {"audio": "A" * 4_000_004}}).encode()]


def odd_forms() -> list[bytes]:
    """Parts of forms that end nowhere, have no name, or have too many of something; their boundary is x."""
    head = b'--x\r\nContent-Disposition: form-data; name="'
    part = head + b'a"\r\n\r\n1\r\n'
    file = head + b'image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + picture() + b"\r\n"
    return [b"", b"--x", b"--x--\r\n", part, part * 2000 + b"--x--\r\n", file * 30 + b"--x--\r\n", file[:-300],
            head + b"y" * 100_000, head + b'a"\r\nX-Y: ' + b"z" * 20_000_000, b"-" * 20_000_000,
            head + b'a"\r\n' + b"X-Y: z\r\n" * 5000 + b"\r\n1\r\n--x--\r\n",
            head + b'image"; filename*=utf-8\'\'%ff%fe\r\n\r\n1\r\n--x--\r\n', b"\0" * 10_000,
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
            head + b'prompt"\r\n\r\n' + b"\xff" * 250_000 + b"\r\n--x--\r\n",
            head + b'mask"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--x--\r\n', file + file + b"--x--\r\n"]


def odd_requests() -> list[Request]:
    """Bodies, forms, headers and addresses that are wrong in ways that no schema describes."""
    odd: list[Request] = [("POST", path, {"content": body, "headers": JSON}) for body in odd_bodies()
                          for path in (SPEECH, IMAGES, ENHANCE, EDITS)]
    form = "multipart/form-data; boundary=x"
    odd += [("POST", path, {"content": body, "headers": {"content-type": form}}) for body in odd_forms()
            for path in (SPEECH, ENHANCE, EDITS, VARIATIONS, IMAGES)]
    text = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + b"\xfcb-9a" * 30_000 + b"\r\n--x--\r\n"
    odd += [("POST", EDITS, {"content": text, "headers": {"content-type": f"{form}; charset={name}"}})
            for name in ("none", "undefined", "punycode", "idna", "unicode_escape", "utf-7", "x" * 1000)]
    headers = [{"x-much": "y" * 60_000}, {f"x-{number}": "y" * 50 for number in range(400)}, {"content-length": "-1"},
               {"content-type": "application/json; charset=utf-7"}, {"authorization": "Bearer " + "x" * 20_000},
               {"content-type": "multipart/form-data"}, {"content-type": "multipart/form-data; boundary=" + "-" * 500},
               {"content-encoding": "gzip"},
               {"transfer-encoding": "gzip"}, {"expect": "200-maybe"}, {"host": "a/../b"}]
    odd += [("POST", path, {"content": b"{}", "headers": own}) for own in headers
            for path in (SPEECH, ENHANCE, VARIATIONS)]
    paths = ["/v1/models/" + "x" * 30_000, "/v1/models/../../etc/passwd", "/v1/models/%00", "/v1/models/%ff%fe",
             "//", "/.env", "/v1/audio/speech/", "/v1/images/edits", "/v1/models/" + "%2e%2e%2f" * 30,
             "/openapi.json?" + "a=b&" * 5000]
    return odd + [(method, path, {}) for path in paths for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS")]
