"""The checker itself: what it must call a miss."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from check import main
from golden import Golden, System, load_system
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
DATA = HERE / "data" / "maskgit_vqgan"


def golden(folder, io, **config):
    """A golden of these tensors."""
    save_file({name: value.clone() for name, value in io.items()}, folder / "io.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return Golden(folder)


def verdict(folder, expected, made, **options):
    system = System("one")
    system.part("out_*", **options)(lambda _: {"out_x": made} if made is not None else {})
    (found,) = system.compare(golden(folder, {"out_x": expected, "in_y": torch.zeros(1)}))
    return found


SMALL = torch.tensor([1.0, -0.5])
ONE = torch.tensor([1.0, -100.0])
INFINITE = torch.tensor([1.0, float("-inf")])


@pytest.mark.parametrize("expected,made,status", [
    (SMALL, SMALL.double() + 9e-6, "ok"),
    (SMALL, SMALL.double() + 11e-6, "MISS"),
    (SMALL, SMALL + 1e-4, "MISS"),
    (ONE, None, "MISS"),
    (ONE, ONE[None], "MISS"),
    (ONE, ONE.long(), "MISS"),
    (ONE, torch.tensor([1.0, float("nan")]), "MISS"),
    (INFINITE, INFINITE, "ok"),
    (INFINITE, ONE, "MISS"),
    (ONE.long(), ONE.int(), "ok"),
    (ONE.long(), ONE.long() + 1, "MISS"),
    (ONE.bool(), ONE.bool(), "ok"),
    (ONE.bool(), ONE.long(), "MISS"),
])
def test_verdicts(expected, made, status, tmp_path):
    assert verdict(tmp_path, expected, made).status == status


def test_tolerances(tmp_path):
    assert verdict(tmp_path, ONE, ONE + 9e-5, tolerance=1e-4).status == "ok"
    assert verdict(tmp_path, ONE, ONE + 9e-4, relative=True).status == "ok"
    assert verdict(tmp_path, ONE, ONE + 2e-3, relative=True).status == "MISS"


def test_large_values_may_miss_by_their_rounding_and_small_ones_may_not(tmp_path):
    """Below 5.2 the tolerance of 1e-5 decides; above, 16 roundings of the largest value, in small values as well."""
    for largest, miss, status in ((1.0, 1.1e-5, "MISS"), (5.0, 1.1e-5, "MISS"), (36.0, 2.7e-5, "ok"),
                                  (36.0, 7.5e-5, "MISS"), (80.0, 1.4e-4, "ok"), (80.0, 1.6e-4, "MISS")):
        expected = torch.tensor([largest, 0.5], dtype=torch.float64)
        assert verdict(tmp_path, expected, expected + torch.tensor([0, miss])).status == status, (largest, miss)


def test_what_no_part_answers_for_is_a_miss_and_skips_carry_their_reason(tmp_path):
    system = System("some")
    system.part("out_a")(lambda _: {"out_a": ONE})
    system.skip("mid_*", reason="a table")
    found = system.compare(golden(tmp_path, {"out_a": ONE, "out_b": ONE, "mid_c": ONE, "in_d": ONE}))
    assert {one.name: (one.status, one.note) for one in found} == {
        "out_a": ("ok", ""), "out_b": ("MISS", "no part answers for it"), "mid_c": ("skip", "a table")}


def test_a_part_that_raises_leaves_the_others_alone(tmp_path, capsys):
    system = System("some")
    system.part("out_a")(lambda _: {"out_a": ONE})

    @system.part("out_b")
    def broken(golden):
        raise RuntimeError("no such layer")

    found = {one.name: one for one in system.compare(golden(tmp_path, {"out_a": ONE, "out_b": ONE}))}
    assert found["out_a"].status == "ok" and found["out_b"].status == "MISS"
    assert "broken raised RuntimeError" in found["out_b"].note and "no such layer" in capsys.readouterr().err


@pytest.mark.parametrize("used", [1, 2])
def test_recorded_draws_must_be_used_up(used, tmp_path):
    system = System("some")

    @system.part("out_*")
    def sample(golden):
        noise = golden.replay("loop")
        assert torch.equal(noise.permutation(2, 3), torch.tensor([[2, 0, 1], [0, 1, 2]]))
        return {"out_a": sum(noise.normal(2) for _ in range(used))}

    io = {"in_0": torch.tensor([2, 0, 1]), "in_1": torch.tensor([0, 1, 2]), "in_2": ONE, "in_3": ONE,
          "out_a": used * ONE}
    shuffle = "np.random.shuffle result"
    draws = {"loop": [["in_0", shuffle, [3], "int64"], ["in_1", shuffle, [3], "int64"], ["in_2", "randn", [2], ""],
                      ["in_3", "randn_like", [2], ""]]}
    (found,) = system.compare(golden(tmp_path, io, draws=draws))
    assert found.status == ("ok" if used == 2 else "MISS")


def run(*folders):
    return subprocess.run([sys.executable, HERE / "check.py", *folders], capture_output=True, text=True, check=False)


def test_exit_codes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["check.py", str(DATA)])
    assert main() == 0
    changed = tmp_path / "changed"
    shutil.copytree(DATA, changed)
    io = load_file(DATA / "io.safetensors")
    io["out_codes"][0, 0] = (io["out_codes"][0, 0] + 1) % 40
    save_file(io, changed / "io.safetensors")
    result = run(DATA, changed)
    assert result.returncode == 1
    (miss,) = [line for line in result.stdout.splitlines() if line.startswith("MISS")]
    assert "out_codes" in miss


def test_systems_without_an_adaptor_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no adaptor for any of .*'unheard'"):
        load_system(golden(tmp_path, {"out_a": ONE}, system="unheard"))


def test_names_are_sorted_by_their_numbers(tmp_path):
    found = golden(tmp_path, {f"in_idx_{number}": ONE for number in range(12)}).names("in_idx_*")
    assert found == [f"in_idx_{number}" for number in range(12)]
