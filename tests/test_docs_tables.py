"""Tables of README and docs are those of the data they come from."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "scripts"), str(ROOT / "benchmarks")]  # behind: names of theirs are in use here

import bench  # noqa: E402 - scripts, which are no package
import make_docs_tables  # noqa: E402
import tables  # noqa: E402

from photophone.loading.registry import families  # noqa: E402

SPEED = re.compile(r"[\d.]+ images/s|real-time factor (?:of |is )?[\d.]+|[\d.]+ times as fast|RTF [\d.]+|tokens/s")
CARDS = sorted((ROOT / "photophone" / "pretrained").glob("*/README.md"))


@pytest.mark.parametrize("document", make_docs_tables.documents(), ids=lambda path: path.name)
def test_running_the_generator_changes_nothing(document):
    text = document.read_text(encoding="utf-8")
    assert make_docs_tables.rewrite(text) == text, "run `make tables`"


def test_every_family_has_a_row_with_its_licences():
    rows = make_docs_tables.systems().splitlines()[2:]
    found = list(families())
    assert len(rows) == len(found)
    for row, family in zip(rows, found):
        assert all(entry.name in row for entry in family.ENTRIES[:1])  # a family may have no published weights at all
        assert all(make_docs_tables.short(entry.weights_licence) in row for entry in family.ENTRIES)


def test_every_golden_is_in_the_table_of_comparisons_with_the_number_of_its_tensors():
    rows = {row.split("|")[1].strip(): row for row in make_docs_tables.parity().splitlines()[2:]}
    data = {path.parent.name for path in (ROOT / "tests" / "goldens" / "data").glob("*/io.safetensors")}
    assert data <= set(rows)
    for system in data:
        assert len(make_docs_tables.recorded(system)) > 1 and "`" in rows[system]


def test_tensors_that_are_skipped_by_name_are_not_counted():
    assert "out_softvq_usage" not in make_docs_tables.recorded("softvq")
    assert len(make_docs_tables.recorded("softvq")) == 34


@pytest.mark.parametrize("document", [*make_docs_tables.documents(), *CARDS],
                         ids=lambda path: f"{path.parent.name}-{path.name}")
def test_speeds_stand_in_generated_tables_only(document):
    text = make_docs_tables.BLOCK.sub("", document.read_text(encoding="utf-8"))
    assert SPEED.findall(text) == []


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no-such"):
        make_docs_tables.rewrite("<!-- no-such:begin -->\n<!-- no-such:end -->")
    assert make_docs_tables.content("speed-never-measured") == make_docs_tables.NOT_MEASURED


def test_text_around_a_table_stays():
    text = "before\n<!-- machine:begin -->\nold\n<!-- machine:end -->\nafter"
    made = make_docs_tables.rewrite(text)
    assert made.startswith("before\n<!-- machine:begin -->\n") and made.endswith("\n<!-- machine:end -->\nafter")
    assert "old" not in made and make_docs_tables.rewrite(made) == made


@pytest.mark.parametrize(("value", "text"), [(0.0146, "0.0146"), (15.678, "15.7"), (1234.5, "1,234"), (3, "3"),
                                             (None, ""), ("as is", "as is"), (1e-7, "1e-07")])
def test_numbers_have_three_digits(value, text):
    assert tables.cell(value) == text


def test_tables_are_printed_and_kept(tmp_path, capsys):
    tables.publish({"one": (("a", "b"), [(1, 0.25)])}, tmp_path / "x.json", threads=1)
    assert "| 1 | 0.25 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text()) == {"one": {"threads": 1, "columns": ["a", "b"],
                                                                     "rows": [[1, 0.25]]}}


def test_tables_of_another_machine_are_not_kept(tmp_path):
    here, file = bench.machine(), tmp_path / "results.json"
    assert bench.kept(file, here) == {}
    file.write_text(json.dumps({"machine": {**here, "date": "2020-01-01"}, "tables": {"image": {}}}))
    assert bench.kept(file, here) == {"image": {}}
    file.write_text(json.dumps({"machine": {**here, "cores": 1000}, "tables": {"image": {}}}))
    assert bench.kept(file, here) == {}


def test_every_part_of_the_benchmark_is_a_script_that_keeps_its_tables():
    for arguments in {**bench.PARTS, **bench.SLOW}.values():
        text = (ROOT / "benchmarks" / arguments[0]).read_text(encoding="utf-8")
        assert "add_json_option(parser)" in text and "publish(" in text
    assert set(bench.THREADED) <= set(bench.PARTS)


def test_every_quoted_speed_is_one_that_the_benchmark_measures():
    measured = {"cold-start", "image", "speech", "enhance", "enhance-live", "enhance-long", "codecs", "resample",
                "cpu-vq", "cpu-codec", "cpu-decode", "growth", "decode-growth", "decode-requests", "generators",
                "generators-claims", "training", "newcomer"}
    for document in make_docs_tables.documents():
        for match in make_docs_tables.BLOCK.finditer(document.read_text(encoding="utf-8")):
            if match["name"].startswith("speed-"):
                assert match["name"].removeprefix("speed-") in measured
    if make_docs_tables.RESULTS.exists():
        assert set(make_docs_tables.results()["tables"]) <= measured
