"""No command or script writes where nobody asked it to, or looks up a host; reports of libraries are off."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from official_streams import STT, tiny_lm, tiny_mimi, tiny_vocabulary
from speech import small_codec, small_speech, write_recordings
from test_cli_options import commands
from tiny import SMALL_TOKENIZER, draw_icon, small_chain, small_interleaved, small_pipeline, write_prepared
from visitors import small_enhancer

from photophone import ClassToImagePipeline, SpeechToTextPipeline, TextToSpeechPipeline
from photophone.codecs.focalcodec.model import FocalCodec
from photophone.core.privacy import SWITCHES
from photophone.data.speech import prepare_speech
from photophone.loading.registry import PRETRAINED

ROOT = Path(__file__).parents[1]
WATCH = Path(__file__).parent / "watch"
FOCAL = Path(__file__).parent / "goldens" / "data" / "focalcodec"
TELEMETRY_SECONDS = 28
"""onnxruntime calls its maker 20 seconds after it was loaded."""

STEPS = [  # arguments, and the files that they name, below {work}
    (["photophone", "models"], []), (["photophone", "doctor"], []),
    (["photophone", "image", "red ring", "-m", "{models}/image", "-o", "ring.png"], ["ring.png", "ring.json"]),
    (["photophone", "class-image", "3", "-m", "{models}/classes", "-o", "three.webp"], ["three.webp", "three.json"]),
    (["photophone", "interleave", "what <image> is", "-p", "{models}/icons/a.png", "-m", "{models}/interleaved",
      "--kind", "image", "--option", "num_inference_steps=2", "-o", "answer.html"], ["answer.html", "answer.json"]),
    (["photophone", "speak", "Light carries sound.", "-o", "light.mp3"], ["light.mp3", "light.json"]),
    (["photophone", "enhance", "{models}/hum.mp3", "-m", "{models}/enhancer", "-o", "clean.flac"], ["clean.flac"]),
    (["photophone", "transcribe", "{models}/hum.mp3", "-m", "{models}/writer", "-o", "said.txt"],
     ["said.txt", "said.json"]),
    (["photophone", "tokenize", "{models}/icons/a.png", "-o", "t.safetensors"], ["t.safetensors"]),
    (["photophone", "detokenize", "t.safetensors", "-o", "t.jpg"], ["t.jpg"]),
    (["photophone", "encode", "{models}/hum.mp3", "-m", "dmel-16k-25ms", "-o", "d.safetensors"], ["d.safetensors"]),
    (["photophone", "decode", "d.safetensors", "--config", '{{"iterations": 1}}', "-o", "d.ogg"], ["d.ogg"]),
    (["photophone", "convert", "focalcodec-offline-25hz", str(FOCAL / "weights_v001.safetensors"), "focal", "--config",
      "{models}/focal.json"], ["focal/config.json", "focal/diffusion_pytorch_model.safetensors"]),
    (["photophone", "verify", "photophone/tiny-vocoder", str(PRETRAINED / "tiny-vocoder")], []),
    (["photophone", "export", "photophone/tiny-image", "-o", "onnx"], ["onnx/decode.onnx"]),
    (["photophone", "evaluate", "codec", "dmel-16k-25ms", "--data", "{models}/speech", "--no-judges", "-o", "codecs"],
     ["codecs/codecs.json", "codecs/codecs.txt", "codecs/codecs.png"]),
    (["prepare_images.py", "{models}/icons", "-o", "i.safetensors", "--size", "16"], ["i.safetensors", "i.jsonl"]),
    (["prepare_noise.py", "{models}/speech", "-o", "n.safetensors"], ["n.safetensors", "n.jsonl"]),
    (["prepare_speech.py", "{models}/speech", "-o", "s.safetensors"], ["s.safetensors", "s.jsonl"]),
    (["speak_sentences.py", "{models}/sentences.csv", "--voice", "heart", "-o", "spoken_parts"], ["spoken_parts/"]),
    (["align_speech.py", "s.safetensors", "-o", "a.safetensors", "--worst", "-100", "--picture", "a.png"],
     ["a.safetensors", "a.jsonl", "a.left_out.tsv", "a.png"]),
    (["tokenize_dataset.py", "i.safetensors", "-t", "{models}/image/image_tokenizer", "-o", "it.safetensors"],
     ["it.safetensors"]),
    (["tokenize_speech.py", "s.safetensors", "-c", "{models}/codec", "-o", "st.safetensors"], ["st.safetensors"]),
    (["mix_noise.py", "{models}/hum.mp3", "{models}/speech/1.wav", "-o", "mixed.wav"], ["mixed.wav"]),
    (["build_caption_guide.py", "{models}/icons.jsonl", "--style", "flat emoji", "--least-styles", "1", "-o", "guide"],
     ["guide/captions.json"]),
    (["train_image_tokenizer.py", "--config", "{models}/train.yaml", "--output", "run"], ["run/"]),
    (["record_head.py", "image", "{models}/lines.txt", "-m", "{models}/image", "-o", "recorded", "--parts", "1",
      "--texts-per-part", "2", "--steps", "2", "--guidance-range", "1", "3"], ["recorded/"]),
    (["build_enhancer.py", "--enhancer", "{models}/enhancer/enhancer", "-o", "release", "--revision", "1"],
     ["release/"]),
]
SLOW = [
    (["photophone", "evaluate", "enhance", "--speech", "{models}/data.safetensors", "--noise",
      "{models}/data.safetensors", "--limit", "1", "--snr", "5", "-o", "enhance.json"], ["enhance.json"]),
    (["photophone", "evaluate", "speech", "--data", "{models}/lines.txt", "--limit", "1", "-o", "spoken"], ["spoken/"]),
    (["photophone", "evaluate", "times", "--data", "{models}/lines.txt", "--limit", "1", "-o", "times.json"],
     ["times.json"]),
    (["photophone", "evaluate", "image", "--data", "{models}/icons.safetensors", "-m", "{models}/image", "--steps", "2",
      "--limit", "4", "-o", "image.json"], ["image.json"]),
    (["photophone", "train", "voice", "{models}/mine", "-m", "{models}/speaker", "--steps", "1", "-o", "my-voice"],
     ["my-voice/"]),
    (["make_samples.py", "-n", "1", "-o", "samples"], ["samples/"]),
]
ELSEWHERE = {"demo": "tests/demo/test_demo_ending.py", "serve": "tests/server/test_server_process.py"}
ALIKE = {"train_codec.py", "train_enhancer.py", "train_image_generator.py", "train_tts.py", "build_pretrained.py",
         "build_speech.py", "train_aligner.py", "train_few_steps.py", "train_matting.py", "train_speech_chain.py",
         "train_text_encoder.py", "train_upscaler.py"}
"""The command of train_image_tokenizer.py and of build_enhancer.py with other parts."""
READS = {"fit_scaling.py"}
"""Imports what those that train do, reads the logs of runs and prints."""
ASKED_FOR = {"fetch_icons.py", "install_kokoro.py", "make_docs_tables.py", "make_docs_media.py",
             "make_edit_pictures.py"}
"""Downloads, needs packages of a teacher, and rewrites the documents of this repository."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models and media for all steps."""
    folder = tmp_path_factory.mktemp("models")
    small_pipeline().save_pretrained(folder / "image")
    ClassToImagePipeline(*small_chain("llamagen-b-256")).save_pretrained(folder / "classes")
    small_interleaved().save_pretrained(folder / "interleaved")
    TextToSpeechPipeline(small_speech(), small_codec()).save_pretrained(folder / "speaker")
    SpeechToTextPipeline(tiny_lm(STT), tiny_mimi(), tiny_vocabulary()).save_pretrained(folder / "writer")
    small_codec().save_pretrained(folder / "codec")
    small_enhancer(folder / "enhancer")
    (folder / "icons").mkdir()
    (folder / "speech").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        draw_icon(colour, "ring").save(folder / "icons" / f"{name}.png")
    hum = 0.2 * np.sin(np.arange(24_000) * 0.05) * np.linspace(0.1, 1, 24_000)
    soundfile.write(folder / "hum.mp3", hum, 16_000)
    for name in ("1", "2"):
        soundfile.write(folder / "speech" / f"{name}.wav", hum, 16_000)
        (folder / "speech" / f"{name}.txt").write_text("light carries sound")
    (folder / "lines.txt").write_text("Light carries sound.\n")
    (folder / "sentences.csv").write_text("text\nLight carries sound.\n")
    write_recordings(folder / "mine")
    official = json.loads((FOCAL / "config.json").read_text())["offline"]
    (folder / "focal.json").write_text(json.dumps(FocalCodec.convert_config(official)))
    data = write_prepared(folder / "icons.safetensors")
    training = {"data": str(data), "validation": str(data), "model": SMALL_TOKENIZER, "steps": 2, "batch_size": 4,
                "log_every": 1, "checkpoint_every": 2, "validate_every": 2, "preview_every": 2}
    (folder / "train.yaml").write_text(yaml.safe_dump(training))
    return folder


def watched(folder, environment=()):
    """The environment of a process whose home and temporary files lie in ``folder``, and that is watched."""
    for name in ("home", "tmp", "work"):
        (folder / name).mkdir(exist_ok=True)
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PATH": os.environ["PATH"],
           "PYTHONPATH": f"{WATCH}{os.pathsep}{ROOT}", "WATCH_LOG": str(folder / "hosts.log"),
           "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"), **dict(environment)}
    if compiler := shutil.which("cc"):
        library = folder / "native.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, WATCH / "native.c", "-ldl"], check=True)
        own["LD_PRELOAD"] = str(library)
    return own


def run_steps(folder, steps, models, **environment):
    """Run all steps in one watched process: exit code and new files of each, the hosts that were asked for."""
    plan = [[part.format(models=models) for part in arguments] for arguments, _ in steps]
    plan = [[str(ROOT / "scripts" / line[0]) if line[0].endswith(".py") else line[0], *line[1:]] for line in plan]
    own = watched(folder, environment)
    (folder / "plan.json").write_text(json.dumps(plan))
    done = subprocess.run([sys.executable, WATCH / "steps.py", folder / "plan.json", folder / "report.json"],
                          cwd=folder / "work", env=own, capture_output=True, text=True, check=False)
    assert (folder / "report.json").exists(), done.stdout + done.stderr
    log = folder / "hosts.log"
    return json.loads((folder / "report.json").read_text()), log.read_text() if log.exists() else "", done


def check_steps(folder, steps, models, **environment):
    report, hosts, done = run_steps(folder, steps, models, **environment)
    assert hosts == ""
    for (arguments, named), (code, files) in zip([*steps, (["the end"], [])], report, strict=True):
        assert code == 0, (arguments, done.stderr[-3000:])
        places = [f"{folder}/work/{name}" for name in named]
        cache = str(folder / "home" / ".cache" / "photophone")
        unasked = [file for file in files if not file.startswith(cache) and file not in places
                   and not any(file.startswith(place) for place in places if place.endswith("/"))]
        missing = [place for place in places if not Path(place).exists()]
        assert (arguments, unasked, missing) == (arguments, [], [])


def test_all_commands_and_scripts_are_watched():
    told = [step[0] for step in (*STEPS, *SLOW)]
    groups = ("evaluate", "train")
    ours = {" ".join(line[1:3] if line[1] in groups else line[1:2]) for line in told if line[0] == "photophone"}
    assert ours | ELSEWHERE.keys() == {name for name, _ in commands()}
    scripts = {path.name for path in (ROOT / "scripts").glob("*.py")}
    assert {line[0] for line in told if line[0].endswith(".py")} | ALIKE | READS | ASKED_FOR == scripts


def test_commands_write_what_they_were_asked_for_and_call_nobody(models, tmp_path):
    check_steps(tmp_path, STEPS, models)


@pytest.mark.slow
def test_evaluations_and_samples_too_and_half_a_minute_later(models, tmp_path):
    long = tmp_path / "long"  # mixtures want clips of 3 to 10 seconds
    long.mkdir()
    for name in ("1", "2"):
        soundfile.write(long / f"{name}.wav", 0.1 * np.random.default_rng(0).standard_normal(64_000), 16_000)
        (long / f"{name}.txt").write_text("light carries sound")
    prepare_speech([long], models / "data.safetensors", 16_000)
    check_steps(tmp_path, [*STEPS, *SLOW], models, WATCH_WAIT=str(TELEMETRY_SECONDS))


@pytest.mark.slow
def test_the_watch_sees_what_onnxruntime_does_unasked(models, tmp_path):
    """Otherwise the tests above could pass because they see nothing."""
    spoken = [step for step in STEPS if "speak" in step[0]]
    _, hosts, _ = run_steps(tmp_path, spoken, models, ORT_DISABLE_TELEMETRY="0", WATCH_WAIT=str(TELEMETRY_SECONDS))
    assert "native getaddrinfo" in hosts and list((tmp_path / "home").rglob("deviceid"))


def python(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment})
    assert done.returncode == 0, done.stderr
    return done


def test_the_import_sets_every_switch_and_leaves_the_users_own(tmp_path):
    code = "import os, json, photophone; print(json.dumps(dict(os.environ)))"
    seen = json.loads(python(code, HOME=str(tmp_path)).stdout)
    assert {switch.name: seen.get(switch.name) for switch in SWITCHES} == {one.name: one.value for one in SWITCHES}
    assert seen["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / ".cache" / "photophone" / "inductor")
    assert not list(tmp_path.iterdir())
    own = json.loads(python(code, HOME=str(tmp_path), HF_HUB_DISABLE_TELEMETRY="0", TRITON_CACHE_DIR="/x").stdout)
    assert own["HF_HUB_DISABLE_TELEMETRY"] == "0" and own["TRITON_CACHE_DIR"] == "/x"


def test_a_home_that_cannot_be_written_leaves_the_caches_where_libraries_have_them(tmp_path):
    (tmp_path / "file").write_text("")
    code = "import os, json, photophone; print(json.dumps(dict(os.environ)))"
    seen = json.loads(python(code, HOME=str(tmp_path / "file")).stdout)
    assert "TORCHINDUCTOR_CACHE_DIR" not in seen and seen["ORT_DISABLE_TELEMETRY"] == "1"


def test_an_onnxruntime_that_was_imported_before_is_told_of(tmp_path):
    module = ("import sys, types; m = types.ModuleType('onnxruntime'); m.__version__ = '{}'; "
              "sys.modules['onnxruntime'] = m")
    told = python(module.format("1.29.0") + "\nimport photophone", HOME=str(tmp_path)).stderr
    assert "onnxruntime was imported before photophone" in told and "ORT_DISABLE_TELEMETRY=1" in told
    assert python(module.format("1.28.1") + "\nimport photophone", HOME=str(tmp_path)).stderr == ""
    assert python(module.format("1.30.0") + "\nimport photophone", HOME=str(tmp_path),
                  ORT_DISABLE_TELEMETRY="1").stderr == ""
