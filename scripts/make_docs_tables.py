"""Write the tables of README and docs that follow from data: systems, comparisons with official code, speeds.

A document holds a table between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``. Systems come from the entries of the
families, comparisons from ``tests/goldens``, forms of checkpoints from ``tests/wrappings.py``, speeds from
``benchmarks/results.json``, which ``make bench`` writes, passes of backbones from ``benchmarks/backbone_calls.json``.
Nothing else in a document is touched.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import struct
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests")]  # behind: names of theirs are in use elsewhere

from media_formats import audio_formats, image_modes, written_formats  # noqa: E402 - all come from the repository
from tables import markdown  # noqa: E402

from photophone.core.files import atomic_write  # noqa: E402
from photophone.core.privacy import SWITCHES  # noqa: E402
from photophone.loading.entry import ModelEntry  # noqa: E402
from photophone.loading.registry import families  # noqa: E402

BLOCK = re.compile(r"<!-- (?P<name>[\w-]+):begin -->\n.*?<!-- (?P=name):end -->", re.DOTALL)
FAMILY = re.compile(r"photophone\.(tokenizers|codecs|generators)\.(\w+)")
CLASS = re.compile(r"^from photophone\.(?:layers|tokenizers|codecs|generators)\.[\w.]+ import ([A-Z]\w+)", re.MULTILINE)
GOLDENS = ROOT / "tests" / "goldens"
RESULTS = ROOT / "benchmarks" / "results.json"
CALLS = ROOT / "benchmarks" / "backbone_calls.json"
KINDS = {"tokenizers": "image tokenizer", "codecs": "codec", "generators": "generator"}
OWN_CONFIGS = {"latent1d": "tiny_image_tokenizer", "flow-ar": "tiny_image_generator", "stream-codec": "tiny_codec_24k",
               "speech-ar": "tiny_voices_generator", "enhancer": "tiny_enhancer", "vocos": "tiny_vocoder"}
"""Configs that need not name their family: their script trains it when none is named."""
NOT_MEASURED = "Not measured yet: `make bench`."


def documents() -> list[Path]:
    """README and all pages."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def short(licence: str) -> str:
    """A licence without its explanations."""
    return re.split(r"; | \(|, ", licence)[0]


def joined(words) -> str:
    """Each once, in their order."""
    return ", ".join(dict.fromkeys(word for word in words if word))


def millions(count: int) -> str:
    """A number of parameters: "0.4 M", "112 M", "2.4 B"."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} B"
    return f"{count / 1e6:.1f} M" if count < 1e7 else f"{count / 1e6:.0f} M"


def sizes(entries: list[ModelEntry]) -> str:
    """Parameters of the smallest and the largest model."""
    known = sorted({entry.parameters for entry in entries if entry.parameters})
    return " to ".join(dict.fromkeys(millions(count) for count in (known[:1] + known[-1:])))


def variants(entries: list[ModelEntry]) -> str:
    """The names, or the first and how many there are."""
    names = [f"`{entry.name}`" for entry in entries]
    return ", ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"


def recorded(system: str) -> list[str]:
    """Names of the tensors of official code that the tests of a system compare."""
    with open(GOLDENS / "data" / system / "io.safetensors", "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        names = [name for name in json.loads(file.read(length)) if name.startswith(("mid_", "out_"))]
    skipped = re.findall(r'\.skip\(\s*"([^"]+)"', (GOLDENS / f"{system}.py").read_text(encoding="utf-8"))
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in skipped)]


def adaptors() -> dict[str, str]:
    """The text of the adaptor of each system in tests/goldens, and of what it shares with others."""
    found = {}
    for file in sorted(GOLDENS.glob("*.py")):
        if not (GOLDENS / "data" / file.stem / "io.safetensors").exists():
            continue
        text = file.read_text(encoding="utf-8")
        for shared in re.findall(r"^from (\w+) import", text, re.MULTILINE):
            if (GOLDENS / f"{shared}.py").exists() and shared != "golden":
                text += (GOLDENS / f"{shared}.py").read_text(encoding="utf-8")
        found[file.stem] = text
    return found


def compared() -> dict[str, set[str]]:
    """Families that the adaptor of each system in tests/goldens reads."""
    return {system: {f"{kind}.{name}" for kind, name in FAMILY.findall(text)} for system, text in adaptors().items()}


def trained() -> set[str]:
    """Families, by the names of their folders with dashes, that a config in configs/ trains."""
    named = re.compile(r"^  family: ([\w-]+)", re.MULTILINE)
    found = {name for name, config in OWN_CONFIGS.items() if (ROOT / "configs" / f"{config}.yaml").exists()}
    for file in (ROOT / "configs").rglob("*.yaml"):
        found.update(named.findall(file.read_text(encoding="utf-8")))
    return found


def state(family: ModuleType, checked: set[str]) -> str:
    """What shows that it computes what it should."""
    place = family.__name__.removeprefix("photophone.")
    if place in checked:
        return "equal on tiny models"
    if any("transformers" in entry.code_licence for entry in family.ENTRIES):
        return "runs transformers' network"
    return "our own" if all(short(entry.code_licence) == "Apache-2.0" for entry in family.ENTRIES) else "not compared"


def systems() -> str:
    """One row a family: what it is, its models, sizes and licences, what was checked, and whether it trains here."""
    checked, recipes, rows = set().union(*compared().values()), trained(), []
    for family in families():
        _, kind, folder = family.__name__.split(".")
        entries = family.ENTRIES
        names = {folder.replace("_", "-"), *getattr(family, "CLASSES", {}),
                 *(entry.training_name for entry in entries if entry.training_name)}
        rows.append([(family.__doc__ or "").splitlines()[0].rstrip("."), KINDS[kind], variants(entries),
                     sizes(entries), joined(short(entry.code_licence) for entry in entries),
                     joined(short(entry.weights_licence) for entry in entries), state(family, checked),
                     "yes" if names & recipes else "no"])
    columns = ("family", "kind", "models", "parameters", "code", "weights", "checked", "trains here")
    return markdown((columns, rows))


def parity() -> str:
    """One row a system of tests/goldens: its classes and how many tensors of official code are compared."""
    by_place = {family.__name__.removeprefix("photophone."): family for family in families()}
    rows, texts = [], adaptors()
    for system, places in compared().items():
        read = [by_place[place] for place in sorted(places) if place in by_place]
        entries = [entry for family in read for entry in family.ENTRIES
                   if entry.kind != "pipeline" and (entry.target.partition(":")[0] in texts[system]
                                                    or re.search(rf"\b{entry.class_name}\b", texts[system]))]
        classes = [entry.class_name for entry in entries] or CLASS.findall(texts[system])  # without entries
        rows.append([system, joined(f"`{name}`" for name in classes), str(len(recorded(system))),
                     joined(short(entry.code_licence) for entry in entries),
                     joined(short(entry.weights_licence) for entry in entries)])
    return markdown((("system", "classes", "tensors compared", "code", "weights"), rows))


def privacy() -> str:
    """One row a library that would report something, and what is set against it."""
    rows = [[switch.library, f"`{switch.name}={switch.value}`", switch.stops] for switch in SWITCHES]
    return markdown((("library", "is set to", "stops"), rows))


def wrappings() -> str:
    """One row a form in which weights are read, and what the report says of a small model that was loaded from it."""
    from official import official_models
    from wrappings import AVERAGES, WRAPPINGS

    from photophone.loading.files import Content

    model_class, state, config, _ = official_models()["maskgit_vqgan MaskGITVQGAN"]
    raw = {key: value + 1 for key, value in state.items()}
    contents = {**{words: wrap(state) for words, wrap in WRAPPINGS.items()},
                **{words: wrap(raw, state) for words, wrap in AVERAGES.items()}}
    logging.disable(logging.WARNING)  # the reports are what the table shows
    try:
        reports = {words: model_class.load_content(None, Content(content), None, config).load_report
                   for words, content in contents.items()}
    finally:
        logging.disable(logging.NOTSET)
    return markdown((("in the file", "what the report says"),
                     [[words, "; ".join(report.lines).replace("|", " ")] for words, report in reports.items()]))


def calls() -> str:
    """One row a generator of images: passes of the backbone that ``benchmarks/backbone_calls.py`` counted for an image,
    and those that its authors state."""
    rows = [[f"`{row['name']}`", str(row["counted"]), str(row["published"]), row["source"]]
            for row in json.loads(CALLS.read_text(encoding="utf-8"))]
    return markdown((("generator", "counted here", "published", "source"), rows))


def results() -> dict:
    """What ``make bench`` measured, or nothing."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"machine": {}, "tables": {}}


def machine() -> str:
    """A sentence on the machine of all speeds."""
    told = results()["machine"]
    if not told:
        return NOT_MEASURED
    return (f"Measured by `make bench` on {told['cores']} cores of {told['processor']}, torch {told['torch']}, Python "
            f"{told['python']}, {told['date']}.")


def speed(name: str) -> str:
    """A table of benchmarks/results.json, and the command that measures it."""
    table = results()["tables"].get(name)
    if table is None:
        return NOT_MEASURED
    threads = f", threads: {table['threads']}" if table.get("threads") else ""
    return f"{markdown((table['columns'], table['rows']))}\n\n`{table['command']}`{threads}."


def content(name: str) -> str:
    """What stands between the markers of that name.

    Raises:
        ValueError: an unknown name.
    """
    if name.startswith("speed-"):
        return speed(name.removeprefix("speed-"))
    tables = {"systems": systems, "parity": parity, "machine": machine, "privacy": privacy, "wrappings": wrappings,
              "calls": calls, "audio-formats": audio_formats, "written-formats": written_formats,
              "image-modes": image_modes}
    if name not in tables:
        raise ValueError(f"no table is called {name!r}; known are {', '.join(tables)} and speed-NAME")
    return tables[name]()


def rewrite(text: str) -> str:
    """A document with its tables made anew."""
    return BLOCK.sub(lambda match: f"<!-- {match['name']}:begin -->\n{content(match['name'])}\n"
                                   f"<!-- {match['name']}:end -->", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a table is not current")
    arguments = parser.parse_args()
    stale = []
    for document in documents():
        before = document.read_text(encoding="utf-8")
        after = rewrite(before)
        if after == before:
            continue
        stale.append(document.relative_to(ROOT))
        if not arguments.check:
            with atomic_write(document) as partial:
                partial.write_text(after, encoding="utf-8")
    print(f"{'not current' if arguments.check else 'written'}: {', '.join(map(str, stale)) or 'none'}")
    return int(arguments.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
