"""Every block of code in README and docs runs, and every picture, sound and link is there.

A block of ``python`` or ``bash`` runs in its document's order, in one folder a document that holds the repository and
some pictures and recordings of a reader. The line before a block may say ``<!-- minutes: REASON -->``: it runs in the
slow tests only; ``<!-- not run: REASON -->``: it cannot run here; or ``<!-- file: PATH -->``: it is a file of the
repository, in a copy of which the other blocks of that document then run.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from speech import write_recordings
from tiny import draw_icon, icons

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<mark>not run|minutes|file): (?P<reason>[^>]+) -->\n)?"
                   r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_NOT_RUN = 20


def blocks(document, languages=("python", "bash")):
    """The matches of ``BLOCK`` of some languages."""
    return [match for match in BLOCK.finditer(document.read_text(encoding="utf-8")) if match["language"] in languages]


def documents(*marks):
    """Documents with blocks that have one of these marks, or None for no mark."""
    return [pytest.param(document, id=document.name) for document in DOCUMENTS
            if any(match["mark"] in marks for match in blocks(document))]


@pytest.fixture(scope="session")
def my_voice(tmp_path_factory):
    """A minute of a reader's own voice, with the words of each clip."""
    return write_recordings(tmp_path_factory.mktemp("voice") / "recordings")


@pytest.fixture
def folder(tmp_path, monkeypatch, my_voice):
    """What a reader has: the repository, pictures and recordings."""
    for name in ("scripts", "configs", "benchmarks", "docs", "photophone"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name, chosen in (("my_images", slice(0, 60)), ("my_validation", slice(60, 76))):
        (tmp_path / name).mkdir()
        rows = []
        for number, ((colour, shape), fields) in enumerate(list(icons())[chosen]):
            draw_icon(colour, shape).save(tmp_path / name / f"{number}.png")
            rows.append({"file_name": f"{number}.png", **fields, "style": f"{shape}s"})
        (tmp_path / name / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "my_voice_recordings").symlink_to(my_voice)
    (tmp_path / "my_recordings").mkdir()
    shutil.copy(ROOT / "photophone" / "pretrained" / "tiny-enhance" / "noisy.flac", tmp_path / "my_recordings")
    binary = tmp_path / ".bin" / "photophone"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m photophone.cli "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PATH", f"{binary.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_process(command, timeout=1800):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def commands(code):
    """Arguments of each ``photophone`` command of a block that has nothing else in it, or None."""
    if re.search(r"[|<>$;&]", re.sub("\"[^\"]*\"|#.*", "", code)):
        return None
    lines = [shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines()]
    found = [line for line in lines if line]
    return [line[1:] for line in found] if all(line[0] == "photophone" for line in found) else None


def with_files():
    """Documents with blocks that are files."""
    return [parameter.values[0] for parameter in documents("file")]


@pytest.mark.parametrize("document", [one for one in documents(None) if one.values[0] not in with_files()])
def test_quick_code_of_a_document_runs(document, folder, run):
    """All in this process, which has loaded the libraries, but for blocks that need a shell."""
    session = {"__name__": "document"}  # blocks of Python go on where the last one ended, as a reader's session does
    for match in blocks(document):
        if match["mark"] is not None:
            continue
        if match["language"] == "python":
            exec(compile(match["code"], document.name, "exec"), session)
        elif (calls := commands(match["code"])) is not None:
            for arguments in calls:
                code, _, errors = run(*arguments)
                assert code == 0, (arguments, errors)
        else:
            in_process(["bash", "-euo", "pipefail", "-c", match["code"]])


@pytest.fixture
def copy(tmp_path, monkeypatch, folder):
    """A copy of the repository that can be changed; large data is linked."""
    for name, linked in (("photophone", ("pretrained",)), ("tests", ("goldens",))):
        (tmp_path / name).unlink(missing_ok=True)
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", *linked))
        for part in linked:
            (tmp_path / name / part).symlink_to(ROOT / name / part)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.parametrize("document", with_files(), ids=lambda document: document.name)
def test_files_of_a_document_work_in_a_copy_of_the_repository(document, copy):
    for match in blocks(document):
        if match["mark"] == "file":
            file = copy / match["reason"]
            assert not file.exists()
            file.parent.mkdir(exist_ok=True)
            file.write_text(match["code"], encoding="utf-8")
        elif match["mark"] is None:
            shell = ["bash", "-euo", "pipefail", "-c"] if match["language"] == "bash" else [sys.executable, "-c"]
            in_process([*shell, match["code"]])
    in_process([sys.executable, "-m", "ruff", "check", "photophone/tokenizers", "photophone/codecs",
                "photophone/generators"])


@pytest.mark.slow
@pytest.mark.parametrize("document", documents("minutes"))
def test_all_code_of_a_document_runs(document, folder):
    """Each block in processes of its own, as a reader runs it; Python goes on from the blocks before, so what those
    wrote, which nothing replaces unasked, is taken away first."""
    session, written = [], set()
    for match in blocks(document):
        if match["mark"] == "not run":
            continue
        if match["language"] == "bash":
            in_process(["bash", "-euo", "pipefail", "-c", match["code"]])
        else:
            session.append(match["code"])
            for file in written:
                file.unlink(missing_ok=True)
            before = set(Path.cwd().rglob("*"))
            in_process([sys.executable, "-c", "\n".join(session)])
            written |= {file for file in set(Path.cwd().rglob("*")) - before if file.is_file()}


def test_the_timed_path_of_a_newcomer_is_the_one_of_the_start_page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    steps = runpy.run_path(str(ROOT / "benchmarks" / "newcomer.py"))["STEPS"]
    written = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").replace(" \\\n   ", "")
    assert steps and all(command in written for _, command in steps)


def test_few_blocks_do_not_run_and_say_why():
    marked = [match for document in DOCUMENTS for match in blocks(document) if match["mark"]]
    assert sum(match["mark"] == "not run" for match in marked) <= MOST_NOT_RUN
    assert all(len(match["reason"]) > 8 for match in marked)


def test_blocks_are_marked_with_their_language():
    for document in DOCUMENTS:
        found = [match["language"] for match in BLOCK.finditer(document.read_text(encoding="utf-8"))]
        assert set(found) <= {"python", "bash", ""}, document.name


def test_pictures_sounds_and_files_are_there_and_small():
    for document in DOCUMENTS:
        text = BLOCK.sub("", document.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", text):
            name = target[0] or target[1]
            if "://" in name or name.startswith("mailto:"):
                continue
            file = document.parent / name
            assert file.exists(), f"{document.name}: {name}"
            if file.suffix in (".wav", ".ogg"):
                assert file.stat().st_size < 150_000


def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
                          cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis" not in page
    assert "guidance_scale" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
