"""What the Dockerfile names is there: it cannot be built in a test, for that takes a daemon and a network."""

import json
import re
import shlex
import tomllib

from served import ROOT
from typer.main import get_command

from photophone.cli import app

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def test_it_copies_this_repository_alone_and_what_the_package_needs_is_not_left_out():
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)
    assert copied == ["."] and not re.search(r"^ADD|\bgit\b|curl|wget", DOCKERFILE, re.MULTILINE)
    left_out = set((ROOT / ".dockerignore").read_text(encoding="utf-8").split())
    assert not left_out & {"photophone", "pyproject.toml", "setup.py", "README.md", "LICENSE"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"/source\[(\w+)\]", DOCKERFILE)) <= extras.keys()


def test_it_starts_the_server_with_options_that_there_are():
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)
    name, command, *arguments = json.loads(entry)
    known = {option for parameter in get_command(app).commands[command].params for option in parameter.opts}
    told = re.findall(r"(?m)^#.*docker run.* photophone(?::cuda)?((?: --\S+ ?\S*)*)$", DOCKERFILE)
    options = [word for word in (*arguments, *shlex.split(" ".join(told))) if word.startswith("--")]
    assert name == "photophone" and set(options) <= known and "--device" in options
    assert "PHOTOPHONE_TOKEN" in DOCKERFILE and "USER photophone" in DOCKERFILE
