"""What commands do with places: formats by name, nothing replaced unasked, bad places in one line, full disks."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from speech import small_codec, small_speech
from tiny import SMALL_TOKENIZER, draw_icon, write_prepared
from visitors import small_enhancer

from photophone import TextToImagePipeline, TextToSpeechPipeline, Tokens, __version__
from photophone.core.command import one_line
from photophone.core.files import NoSpace, atomic_folder, atomic_write, check_target
from photophone.core.pictures import PICTURE_FORMATS
from photophone.data.audio_checks import WRITE_FORMATS

ROOT = Path(__file__).parents[1]
LONG = "a" * 300
PATIENCE = 240
SIGNALS = [pytest.param(signal.SIGTERM, id="TERM"), pytest.param(signal.SIGINT, id="INT", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def models(saved, tmp_path_factory):
    """Tiny models and media, and a command with ``{out}`` for its result, and its suffixes, of each kind."""
    folder = tmp_path_factory.mktemp("models")
    TextToSpeechPipeline(small_speech(), small_codec()).save_pretrained(folder / "speaker")
    small_enhancer(folder / "enhancer")
    draw_icon("red", "ring").save(folder / "ring.png")
    soundfile.write(folder / "hum.wav", 0.2 * np.sin(np.arange(8_000) * 0.05), 16_000)
    Tokens(torch.randn(1, 4, 8)).save(folder / "picture.safetensors")
    Tokens(torch.randint(0, 16, (1, 80, 9)), model="dmel-16k-25ms").save(folder / "sound.safetensors")
    tokenizer = saved / "image_tokenizer"
    return {"image": (["image", "red ring", "-m", saved, "--steps", 1], PICTURE_FORMATS),
            "speak": (["speak", "Light carries sound.", "-m", folder / "speaker", "--steps", 1], WRITE_FORMATS),
            "enhance": (["enhance", folder / "hum.wav", "-m", folder / "enhancer"], WRITE_FORMATS),
            "tokenize": (["tokenize", folder / "ring.png", "-m", tokenizer], (".safetensors",)),
            "encode": (["encode", folder / "hum.wav", "-m", "dmel-16k-25ms"], (".safetensors",)),
            "detokenize": (["detokenize", folder / "picture.safetensors", "-m", tokenizer], PICTURE_FORMATS),
            "decode": (["decode", folder / "sound.safetensors", "--config", '{"iterations": 1}'], WRITE_FORMATS)}


MAKERS = ["image", "speak", "enhance", "tokenize", "encode", "detokenize", "decode"]
MEDIA = ["image", "speak", "enhance", "detokenize", "decode"]


def one_error(answer, *words):
    code, output, errors = answer
    assert (code, output) == (2, "") and len(errors.splitlines()) == 1, answer
    assert errors.startswith("photophone: ") and all(word in errors for word in words), errors


def kind_of(file):
    if file.suffix in PICTURE_FORMATS:
        return Image.open(file).format
    info = soundfile.info(file)
    return info.format, info.subtype


@pytest.mark.parametrize("name", MEDIA)
def test_the_name_says_the_format(run, models, tmp_path, name):
    command, suffixes = models[name]
    for suffix in (*suffixes, next(iter(suffixes)).upper()):
        file = tmp_path / f"result{suffix}"
        code, _, errors = run(*command, "-o", file, "--overwrite")
        assert code == 0, errors
        expected = suffixes[suffix.lower()]
        assert kind_of(Path(shutil.copy(file, tmp_path / f"copy{suffix.lower()}"))) == (
            expected[0] if isinstance(expected[1], dict) else expected)


@pytest.mark.parametrize("name", MAKERS)
def test_an_unknown_suffix_is_refused_with_the_known_ones(run, models, tmp_path, name):
    command, suffixes = models[name]
    one_error(run(*command, "-o", tmp_path / "result.xyz"), "result.xyz", *suffixes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MEDIA)
def test_a_folder_has_no_suffix_or_ends_in_a_slash(run, models, tmp_path, name):
    command, suffixes = models[name]
    (tmp_path / "there.d").mkdir()
    for place in (tmp_path / "plain", f"{tmp_path}/with.dot/", tmp_path / "there.d"):
        assert run(*command, "-o", place)[0] == 0
        assert next(file for file in Path(place).iterdir() if file.suffix != ".json").suffix in suffixes


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_there_is_not_replaced_unasked(run, models, tmp_path, name):
    command, suffixes = models[name]
    file = tmp_path / f"result{next(iter(suffixes))}"
    file.write_bytes(b"of somebody")
    one_error(run(*command, "-o", file), str(file), "exists already", "--overwrite")
    assert file.read_bytes() == b"of somebody" and len(list(tmp_path.iterdir())) == 1
    assert run(*command, "-o", file, "--overwrite")[0] == 0 and file.read_bytes() != b"of somebody"


@pytest.mark.parametrize("name", ["image", "speak"])
def test_a_json_that_was_there_is_not_replaced_and_an_own_result_is(run, models, tmp_path, name):
    command, suffixes = models[name]
    file, beside = tmp_path / f"apple{next(iter(suffixes))}", tmp_path / "apple.json"
    beside.write_text('{"mine": 1}')
    one_error(run(*command, "-o", file), "apple.json", "exists already")
    assert beside.read_text() == '{"mine": 1}' and not file.exists()
    beside.unlink()
    assert run(*command, "-o", file, "--seed", 1)[0] == 0
    assert run(*command, "-o", file, "--seed", 2)[0] == 0  # nobody changed it since
    assert json.loads(beside.read_text())["seed"] == 2
    file.write_bytes(file.read_bytes() + b"retouched")
    one_error(run(*command, "-o", file, "--seed", 3), file.name, "exists already")


def test_results_in_python_are_as_careful(saved, tmp_path):
    result = TextToImagePipeline.from_pretrained(saved)("red ring", num_inference_steps=1)
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(FileExistsError):
        result.save(tmp_path / "a.png")
    assert result.save(tmp_path / "a.png", overwrite=True) == [tmp_path / "a.png"]
    with pytest.raises(ValueError, match="the name must end in .png"):
        result.save(tmp_path / "a.gif")


def bad_places(folder, suffix):
    """Places where nothing can be written, and words of the error."""
    (folder / "file").write_text("")
    (folder / f"folder{suffix}").mkdir(exist_ok=True)
    return [(f"{folder}/file/result{suffix}", "Not a directory"), (f"{folder}/{LONG}{suffix}", "too long"),
            (f"{folder}/{LONG}/result{suffix}", "too long"), (f"/proc/nowhere/result{suffix}", "/proc/nowhere"),
            (f"/dev/full/result{suffix}", "Not a directory")]


@pytest.mark.parametrize("name", MAKERS)
def test_bad_places_take_one_line(run, models, tmp_path, name):
    command, suffixes = models[name]
    for place, words in bad_places(tmp_path, next(iter(suffixes))):
        one_error(run(*command, "-o", place), words)
    if name in ("tokenize", "encode"):  # for the others it is the folder for files
        one_error(run(*command, "-o", tmp_path / "folder.safetensors"), "Is a directory")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", f"folder{next(iter(suffixes))}"]


@pytest.mark.parametrize("arguments", [
    ["tokenize", "{place}"], ["detokenize", "{place}", "-m", "photophone/tiny-image"],
    ["enhance", "{place}", "-o", "x"], ["encode", "{place}", "-m", "dmel-16k-25ms"],
    ["decode", "{place}", "-m", "dmel-16k-25ms"],
    ["speak", "Hi", "--voice", "{place}"], ["convert", "mar-kl16", "{place}", "out"], ["image", "a", "-m", "{place}"],
    ["evaluate", "codec", "dmel-16k-25ms", "--no-judges", "--data", "{place}"],
    ["evaluate", "speech", "--data", "{place}", "--peer", "none"],
    ["evaluate", "enhance", "--speech", "{place}", "--noise", "{place}"], ["evaluate", "enhance", "--pairs", "{place}"],
    ["evaluate", "image", "--data", "{place}"],
], ids=lambda arguments: " ".join(arguments[:2]))
def test_bad_inputs_take_one_line(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in ("folder", "./file/below.wav", f"{LONG}.wav", "nowhere.wav", "/dev/full", "file"):
        one_error(run(*(part.format(place=place) for part in arguments)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A disk of 256 kB."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("disks can be mounted by root alone")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def full(small_disk):
    """It with 4 kB left, and afterwards empty."""
    (small_disk / "filling").write_bytes(bytes(252 * 1024))
    yield small_disk
    for file in small_disk.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("image", "tokenize", "detokenize")])
def test_a_full_disk_takes_one_line_and_leaves_nothing(run, models, full, name):
    command, suffixes = models[name]
    one_error(run(*command, "-o", full / f"result{next(iter(suffixes))}"), "the disk is full", "were free", "needed")
    assert [file.name for file in full.iterdir()] == ["filling"]


def test_a_disk_without_a_byte_takes_one_line_for_every_command(run, models, full):
    (full / "more").write_bytes(bytes(4096))
    for name in MAKERS:
        command, suffixes = models[name]
        one_error(run(*command, "-o", full / f"result{next(iter(suffixes))}"), "the disk is full", "0 bytes were free")
    assert sorted(file.name for file in full.iterdir()) == ["filling", "more"]


def test_the_space_that_is_needed_is_told_where_it_is_known(full):
    with pytest.raises(NoSpace, match=r"4\.1 kB were free, 400\.0 kB are needed") as error:
        Tokens(torch.zeros(1, 1000, 100)).save(full / "t.safetensors")
    assert "\n" not in one_line(error.value)
    with pytest.raises(NoSpace, match="disk is full"), atomic_folder(full / "model") as folder:
        (folder / "weights").write_bytes(bytes(100_000))
    assert [file.name for file in full.iterdir()] == ["filling"]


def test_devices_and_folders_are_no_targets(tmp_path):
    for place in ("/dev/null", "/dev/full"):
        with pytest.raises(OSError, match="device, pipe or socket"):
            check_target(place, overwrite=True)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="device, pipe or socket"), atomic_write(tmp_path / "pipe"):
        pass
    assert Path("/dev/null").is_char_device()


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "a", overwrite=False) as partial:
        partial.write_text("ours")
        (tmp_path / "a").write_text("theirs")
    assert (tmp_path / "a").read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1


def test_a_failure_removes_the_folders_that_were_made(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "new" / "deep" / "a"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with atomic_write(tmp_path / ("n" * 250)) as partial:  # as long as names may be, nearly
        partial.write_text("")


def test_weights_can_be_read_by_others(saved, run, tmp_path):
    former = os.umask(0o022)
    try:
        (tmp_path / "private.safetensors").write_bytes(b"")
        (tmp_path / "private.safetensors").chmod(0o600)
        pipeline = TextToImagePipeline.from_pretrained(saved)
        pipeline.image_tokenizer.save_pretrained(tmp_path)
        pipeline.save_pretrained(tmp_path / "pipeline")
    finally:
        os.umask(former)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.rglob("*.safetensors")}
    assert modes.pop("private.safetensors") == 0o600 and set(modes.values()) == {0o644} and modes


def test_the_version_is_printed(run):
    assert run("--version") == (0, f"photophone {__version__}\n", "")


def test_quiet_silences_c_libraries_and_keeps_errors(tmp_path):
    """libmpg123 complains by itself about such files; what Python says of them stays."""
    soundfile.write(tmp_path / "hum.mp3", 0.2 * np.sin(np.arange(40_000) * 0.05), 16_000)
    data = bytearray((tmp_path / "hum.mp3").read_bytes())
    data[2000:2100] = bytes(100)
    (tmp_path / "hum.mp3").write_bytes(data)
    code = ("import os, sys; sys.argv = ['photophone', 'encode', 'hum.mp3', '-m', 'dmel-16k-25ms', '-q']\n"
            "import photophone.data.audio_stream as audio\n"
            "class Reader(audio.AudioReader):\n"
            "    def __init__(self, *given):\n"
            "        os.write(2, b'a C library speaks')\n"
            "        super().__init__(*given)\n"
            "audio.AudioReader = Reader\n"
            "import photophone.data.audio; photophone.data.audio.AudioReader = Reader\n"
            "from photophone.cli import main; main()")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("photophone: ") and done.stderr.count("\n") == 1, done.stderr


def start(*command, cwd):
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=cwd, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def wait_for(found, process):
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", SIGNALS)
def test_speech_that_is_ended_leaves_nothing(tmp_path, number):
    process = start("-m", "photophone.cli", "speak", "Light carries sound. " * 2000, "-o", "new/long.wav", cwd=tmp_path)
    wait_for(lambda: any(file.stat().st_size > 44 for file in tmp_path.rglob("*.part")), process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (128 + number, "") and "Traceback" not in errors
    assert not list(tmp_path.iterdir())


WRITER = """
import io, signal, time
import numpy as np, soundfile
from photophone.core.command import as_command

class Sink(io.BytesIO):
    told = False

    def write(self, data):  # soundfile calls this from C
        if not self.told and len(data) > 1000:
            self.told = True
            signal.raise_signal(signal.SIGTERM)
        return super().write(data)

with as_command("writer"), soundfile.SoundFile(Sink(), "w", 16000, 1, "PCM_16", format="WAV") as sound:
    for _ in range(10_000):
        sound.write(np.zeros(10_000, np.float32))
        time.sleep(0.01)
"""


def test_a_signal_within_a_function_that_c_code_calls_ends_in_order(tmp_path):
    process = start("-c", WRITER, cwd=tmp_path)
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (128 + signal.SIGTERM, "", "")


SCRIPT = ROOT / "scripts" / "train_image_tokenizer.py"


@pytest.fixture
def training(tmp_path):
    data = write_prepared(tmp_path / "icons.safetensors")
    settings = {"data": str(data), "model": SMALL_TOKENIZER, "steps": 100_000, "batch_size": 8, "log_every": 1,
                "checkpoint_every": 50_000, "preview_every": 0, "validate_every": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    return ["--config", tmp_path / "config.yaml"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_training_that_is_ended_saves_and_continues(tmp_path, training, number):
    process = start(SCRIPT, *training, "--output", "run", cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 2, process)
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number and output == "" and "Traceback" not in errors
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    step = int(checkpoint.name[5:])
    last = errors.splitlines()[-1]
    assert f"ended by {number.name} after step {step} of 100000" in last and "--resume" in last
    assert json.loads(metrics.read_text().splitlines()[-1])["step"] == step  # not one step was lost
    resumed = start(SCRIPT, *training, "--output", "run", "--resume", f"steps={step + 2}", cwd=tmp_path)
    output, errors = resumed.communicate(timeout=PATIENCE)
    assert resumed.returncode == 0 and f"{step + 2} of {step + 2} steps done" in output, errors
    again = start(SCRIPT, *training, "--output", "run", "--resume", f"steps={step}", cwd=tmp_path)
    output, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 2 and f"steps is {step}, but" in errors and f"has done {step + 2}" in errors, errors
    weights = [*checkpoint.parent.rglob("*.safetensors"), *(tmp_path / "run" / "export").glob("*.safetensors")]
    mask = os.umask(0)
    os.umask(mask)
    assert weights and {file.stat().st_mode & 0o777 for file in weights} == {0o666 & ~mask}


def fill(disk):
    """Leave no byte on it."""
    with (disk / "filling").open("ab", buffering=0) as filling, suppress(OSError):
        while True:
            filling.write(bytes(1024))


def test_a_training_on_a_full_disk_takes_one_line_and_keeps_its_checkpoint(tmp_path, training):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=False,
                                     capture_output=True).returncode:
        pytest.skip("disks can be mounted by root alone")
    try:
        small = start(SCRIPT, *training, "--output", disk / "run", "checkpoint_every=2", "steps=1000", cwd=tmp_path)
        wait_for(lambda: list(disk.glob("run/checkpoints/step-*/state.json")), small)
        fill(disk)
        output, errors = small.communicate(timeout=PATIENCE)
        last = errors.splitlines()[-1]
        assert small.returncode == 2, errors
        assert "step-" in last and ".part" not in last and "MB are needed" in last
        assert "Traceback" not in errors and "the disk is full" in last, errors
        assert "train_image_tokenizer.py: " in last and "free" in last and "needed" in last and "--resume" in last
        checkpoints = disk / "run" / "checkpoints"
        assert list(checkpoints.glob("step-*/state.json")) and not list(checkpoints.glob(".*"))
        fill(disk)  # what the first was writing when the disk became full is gone, and left room for one checkpoint
        refused = start(SCRIPT, *training, "--output", disk / "other", cwd=tmp_path)
        output, errors = refused.communicate(timeout=PATIENCE)
        assert refused.returncode == 2 and "MB are needed" in errors and len(errors.splitlines()) == 1
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("place", ["file/below", LONG, "/proc/nowhere", "file"], ids=lambda place: place[:12])
def test_a_training_in_a_bad_place_takes_one_line(tmp_path, training, place, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, training), "--output", place])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    output, errors = capsys.readouterr()
    assert (stop.value.code, output) == (2, "") and len(errors.splitlines()) == 1, errors
