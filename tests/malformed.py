"""Seeded malformed inputs of all commands: what people, disks and strangers make of texts, files and folders.

Every case is a command line to be run in a folder of its own. What it must do: end with 0 or 2, soon, in little memory,
and never with a traceback.
"""

import json
import random
import shutil
from pathlib import Path

import hostile

SOUNDS = {"wav": ("WAV", None), "flac": ("FLAC", None), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", None),
          "aiff": ("AIFF", None), "float.wav": ("WAV", "FLOAT")}
PICTURES = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF"}
NUMBERS = ("0", "-1", "1", "2", "3", "1e9", "1e-9", "nan", "inf", "-inf", "99999999999999999999", "0.5", "one", "", " ",
           "0x10", "1,5", "１")
PIECES = ("hello ", "Dr. ", "3.14 ", "$5 ", "\n", "\t", "\u200b", "\u202e", "é", "ß", "日本語", "Ω", "😀", "\0",
          "\ufeff", "<b>", "http://a.b/c?d=e ", "-", "--", "…", "\ud7ff", "½", "¹⁴C ", "CO2 ", "’", "((((", "A" * 300,
          "a b c d e f g ", "!!!! ")
VALUES = (None, 0, -1, 1, 2**31, 2**63, 1e308, float("nan"), "", "x", [], [0], {}, True, "../../etc",
          "photophone/tiny-image", [[[[]]]], -0.5, "cuda")

SAMPLER = ("--seed", "--steps", "--guidance", "--temperature", "--dtype", "--device", "-o", "-m")
OPTIONS = (("speak", ["Hello."], ("--speed", "--pause", "--voice", "--stream", *SAMPLER)),
           ("image", ["apple"], ("--number", "--size", *SAMPLER)),
           ("enhance", ["in.wav"], ("--mix", "--device", "--dtype", "-o", "-m")),
           ("encode", ["in.wav"], ("--config", "--weights", "--device", "-o")),
           ("models", ["in.wav"], ("--json", "--kind")), ("doctor", [], ("--json",)))


def bent(data: bytes, rng: random.Random) -> bytes:
    """``data`` after one kind of damage."""
    place = rng.randrange(len(data) + 1)
    end = min(len(data), place + rng.choice((1, 4, 64, 1000)))
    noise = rng.randbytes(rng.choice((1, 8, 300)))
    kind = rng.randrange(11)
    if kind == 0:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 5, 50))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == 1:  # the header, where lengths and kinds stand
        changed = bytearray(data)
        for _ in range(rng.choice((1, 2, 4))):
            changed[rng.randrange(min(64, len(changed)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        return bytes(changed)
    return {2: data[:place], 3: data[:place] + bytes(end - place) + data[end:], 4: data[:place] + noise + data[place:],
            5: data[:place] + data[end:], 6: data + noise, 7: b"", 8: data + data, 9: noise + data,
            10: rng.choice((b"<!DOCTYPE html><html>404</html>", b"{}", b"null", noise,
                            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"))}[kind]


def words(rng: random.Random) -> str:
    """A text that somebody might paste."""
    if rng.random() < 0.03:
        return (rng.choice(PIECES) * 250_000)[:250_000]  # more than is read at once
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 8)))


def bend_config(value, rng: random.Random):
    """A JSON value with one of its parts replaced, dropped or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        kind = rng.randrange(8)
        if kind == 0:
            return {name: part for name, part in value.items() if name != key}
        if kind == 1:
            return {**value, f"{key}_": value[key]}
        return {**value, key: bend_config(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return [bend_config(part, rng) if index == place else part for index, part in enumerate(value)]
    if isinstance(value, int | float) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, value * 1000, -value, 0, value / 2, str(value)))
    return rng.choice(VALUES)


def bend_folder(source: Path, target: Path, rng: random.Random) -> None:
    """A copy of a saved model with one file damaged, missing, moved or replaced by a folder."""
    shutil.copytree(source, target)
    file = rng.choice(sorted(path for path in target.rglob("*") if path.is_file()))
    kind = rng.randrange(8)
    if file.suffix == ".json" and kind < 5:
        file.write_text(json.dumps(bend_config(json.loads(file.read_text()), rng)))
    elif kind == 5:
        file.unlink()
    elif kind == 6:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(bent(file.read_bytes(), rng))


class Cases:
    """Command lines on inputs that lie in ``place``.

    Args:
        place: a folder with the whole parts: ``voice``, ``pictures``, ``enhancer``, ``codec`` and ``tokenizer`` (saved
            models), ``speech.safetensors`` and ``picture.safetensors`` (tokens), ``icons.safetensors`` (prepared).
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.sounds = {name: hostile.sound(*kind, seconds=0.3) for name, kind in SOUNDS.items()}
        self.pictures = {name: hostile.picture(kind) for name, kind in PICTURES.items()}

    def make(self, number: int, folder: Path) -> list[str]:
        """The command line of case ``number``; what it reads is written into ``folder``."""
        rng = random.Random(number)
        kinds = (self.text, self.sound, self.picture, self.tokens, self.model, self.options, self.settings)
        return kinds[number % len(kinds)](rng, folder)

    def model_of(self, command: str) -> str:
        return str(self.place / {"speak": "voice", "image": "pictures", "enhance": "enhancer", "encode": "codec",
                                 "decode": "codec", "tokenize": "tokenizer", "detokenize": "tokenizer"}[command])

    def text(self, rng: random.Random, folder: Path) -> list[str]:
        command = rng.choice(("speak", "image"))
        text = words(rng).replace("\0", "")  # the system itself refuses these in arguments
        return [command, "-m", self.model_of(command), "--steps", "1", "-o", "out", "--", text]

    def sound(self, rng: random.Random, folder: Path) -> list[str]:
        name = rng.choice(sorted(self.sounds))
        written = f"in.{name if rng.random() < 0.9 else rng.choice(('wav', 'png', 'txt', 'm4a'))}"
        (folder / written).write_bytes(bent(self.sounds[name], rng))
        command = rng.choice(("enhance", "enhance", "encode"))
        output = "out" if command == "enhance" else "o.safetensors"
        return [command, written, "-m", self.model_of(command), "-o", output]

    def picture(self, rng: random.Random, folder: Path) -> list[str]:
        name = rng.choice(sorted(self.pictures))
        (folder / f"in.{name}").write_bytes(bent(self.pictures[name], rng))
        return ["tokenize", f"in.{name}", "-m", self.model_of("tokenize"), "-o", "o.safetensors"]

    def tokens(self, rng: random.Random, folder: Path) -> list[str]:
        command, source = rng.choice((("decode", "speech"), ("detokenize", "picture"), ("decode", "picture")))
        data = (self.place / f"{source}.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + length])
        if rng.random() < 0.5:
            packed = json.dumps(bend_config(header, rng)).encode()
            data = len(packed).to_bytes(8, "little") + packed + data[8 + length:]
        else:
            data = bent(data, rng)
        (folder / "in.safetensors").write_bytes(data)
        output = "o.wav" if command == "decode" else "o.png"
        return [command, "in.safetensors", "-m", self.model_of(command), "-o", output]

    def model(self, rng: random.Random, folder: Path) -> list[str]:
        command = rng.choice(("speak", "image", "enhance", "encode", "tokenize"))
        bend_folder(Path(self.model_of(command)), folder / "model", rng)
        (folder / "in.wav").write_bytes(self.sounds["wav"])
        (folder / "in.png").write_bytes(self.pictures["png"])
        given = {"speak": ["Hello.", "--steps", "1", "-o", "out"], "image": ["apple", "--steps", "1", "-o", "out"],
                 "enhance": ["in.wav", "-o", "out"], "encode": ["in.wav", "-o", "o.safetensors"],
                 "tokenize": ["in.png", "-o", "o.safetensors"]}[command]
        return [command, "-m", "model", *given]

    def options(self, rng: random.Random, folder: Path) -> list[str]:
        (folder / "in.wav").write_bytes(self.sounds["wav"])
        command, own, names = rng.choice(OPTIONS)
        chosen = [part for name in rng.sample(names, min(len(names), rng.randint(1, 2)))
                  for part in (name, rng.choice((*NUMBERS, "nowhere/at/all", "in.wav", "in.wav/x", ".", "a" * 300)))]
        if command in ("speak", "image", "enhance", "encode") and "-m" not in chosen:
            own = [*own, "-m", self.model_of(command)]
        if command in ("speak", "image") and "--steps" not in chosen:
            own = [*own, "--steps", "1"]
        return [command, *own, *chosen]

    def settings(self, rng: random.Random, folder: Path) -> list[str]:
        """A training with one wrong setting, or on damaged data."""
        settings = {"data": "icons.safetensors", "steps": 1, "batch_size": 2, "warmup_steps": 1, "log_every": 1,
                    "validate_every": 0, "preview_every": 0, "checkpoint_every": 1, "task": {"l1": 0.5, "flip": 0.5},
                    "model": json.loads((self.place / "tokenizer" / "config.json").read_text())}
        settings["model"] = {key: value for key, value in settings["model"].items() if not key.startswith("_")}
        for name in ("icons.safetensors", "icons.jsonl"):
            shutil.copy(self.place / name, folder / name)
        if rng.random() < 0.6:
            settings = bend_config(settings, rng)
        else:
            file = folder / rng.choice(("icons.safetensors", "icons.jsonl"))
            file.write_bytes(bent(file.read_bytes(), rng))
        (folder / "in.yaml").write_text(json.dumps(settings))
        # settings that are right after all, such as two thousand million steps, are worked on for a moment
        return ["train_image_tokenizer", "--config", "in.yaml", "--output", "run", "--max-minutes", "0.02"]
