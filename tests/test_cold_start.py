"""What each command may import: a cold start is the sum of its imports."""

import json
import subprocess
import sys

import pytest

HEAVY = {"accelerate", "diffusers", "gradio", "hibari", "huggingface_hub", "jinja2", "librosa", "matplotlib", "mpmath",
         "numba", "numpy", "onnx", "onnxruntime", "pandas", "PIL", "pyarrow", "requests", "scipy", "sklearn", "sympy",
         "timm", "tokenizers", "torch", "torchaudio", "torchvision", "transformers", "yaml",
         "torch._dynamo", "torch._inductor"}
"""Packages that take long to import, or bring others with them."""
PIPELINE = {"numpy", "torch", "tokenizers"}
COMMANDS = {
    "help": (["--help"], set()),
    "version": (["--version"], set()),
    "wrong arguments": (["image"], set()),
    "unknown command": (["imagine", "a cat"], set()),
    "help of the server": (["serve", "--help"], set()),
    "models": (["models"], set()),
    "speak": (["speak", "Hi there, 42.", "-o", "speech.wav"], PIPELINE),
    "image": (["image", "a red apple", "-o", "apple.png"], PIPELINE | {"PIL"}),
    "enhance": (["enhance", "speech.wav", "-o", "clean.wav"], PIPELINE),
    "encode": (["encode", "speech.wav", "-m", "photophone/tiny-speech", "-o", "speech.safetensors"], PIPELINE),
    "decode": (["decode", "speech.safetensors", "-o", "decoded.wav"], PIPELINE),
    "tokenize": (["tokenize", "apple.png", "-o", "apple.safetensors"], PIPELINE | {"PIL"}),
    "detokenize": (["detokenize", "apple.safetensors", "-o", "again.png"], PIPELINE | {"PIL"}),
}
"""Arguments of each command, and which of the heavy packages it may import; later ones read what earlier ones wrote."""
PROGRAM = """
import json, sys
from photophone.cli import main
sys.argv = ["photophone", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code or 0
else:
    code = 0
print(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cold")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_only_what_it_needs(name, folder):
    arguments, allowed = COMMANDS[name]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=folder, check=True, capture_output=True,
                          text=True, timeout=300)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert (code == 0) == (name not in ("wrong arguments", "unknown command")), done.stderr
    assert HEAVY & set(modules) <= allowed


def test_what_is_watched_for_is_what_the_libraries_import():
    """The list would hold nothing back if its names were wrong."""
    program = ("import sys, diffusers.pipelines.pipeline_utils, hibari\nfrom transformers import T5EncoderModel\n"
               "print(*sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=300)
    assert {"diffusers", "transformers", "huggingface_hub", "scipy", "hibari", "torch", "tokenizers"} <= HEAVY & set(
        done.stdout.split())
