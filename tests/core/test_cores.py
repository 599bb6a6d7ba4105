"""Quotas of control groups, in files as Linux writes them, and what runs on the machine."""

import os
import subprocess
import sys
import time

import pytest

from photophone.core import cores
from photophone.core.cores import own_running, quota_cores, usable_cores

NEW = "30 20 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
OLD = "31 20 0:27 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "32 20 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n21 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n"


def system(folder, mounts, groups, files):
    """A process's folder of /proc in an own file system with these files."""
    process = folder / "proc" / "self"
    for name, text in {process / "mountinfo": OTHER + mounts, process / "cgroup": groups,
                       **{folder / name: text for name, text in files.items()}}.items():
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(text)
    return quota_cores(process, folder)


TOP = "sys/fs/cgroup"


@pytest.mark.parametrize("text, wanted", [
    ("150000 100000\n", 1.5), ("max 100000\n", None), ("200000 50000\n", 4.0), ("50000 100000", 0.5), ("", None),
    ("abc def\n", None), ("100000 0\n", None), ("-1 100000\n", None), ("100000\n", None), ("1 2 3\n", None)])
def test_version_2(tmp_path, text, wanted):
    assert system(tmp_path, NEW.format(root="/"), "0::/\n", {f"{TOP}/cpu.max": text}) == wanted


@pytest.mark.parametrize("quota, period, wanted", [
    ("150000\n", "100000\n", 1.5), ("-1\n", "100000\n", None), ("300000\n", "100000\n", 3.0), ("100000\n", "0\n", None),
    ("", "", None), ("x\n", "100000\n", None), ("0\n", "100000\n", None)])
def test_version_1(tmp_path, quota, period, wanted):
    folder = f"{TOP}/cpu,cpuacct"
    assert system(tmp_path, OLD.format(root="/"), "4:cpu,cpuacct:/\n2:memory:/\n",
                  {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}) == wanted


def test_the_tightest_of_all_parents_counts(tmp_path):
    files = {f"{TOP}/a/cpu.max": "200000 100000\n", f"{TOP}/a/b/cpu.max": "max 100000\n",
             f"{TOP}/a/b/c/cpu.max": "800000 100000\n", f"{TOP}/z/cpu.max": "10000 100000\n"}
    assert system(tmp_path, NEW.format(root="/"), "0::/a/b/c\n", files) == 2


def test_both_versions_together(tmp_path):
    old = f"{TOP}/cpu,cpuacct/job"
    files = {f"{TOP}/unified/cpu.max": "max 100000\n", f"{old}/cpu.cfs_quota_us": "250000\n",
             f"{old}/cpu.cfs_period_us": "100000\n"}
    mounts = NEW.format(root="/").replace(TOP, f"{TOP}/unified") + OLD.format(root="/")
    assert system(tmp_path, mounts, "5:cpu,cpuacct:/job\n0::/\n", files) == 2.5


@pytest.mark.parametrize("mounted, path", [
    ("/docker/abc", "/docker/abc"),  # the container's own group is what it sees at the mount point
    ("/docker/abc", "/docker/abc/inner"), ("/", "/"), ("/docker/abc", "/somewhere/else"), ("/", "/../..")])
def test_a_container_sees_its_own_group_at_the_top(tmp_path, mounted, path):
    assert system(tmp_path, NEW.format(root=mounted), f"0::{path}\n", {f"{TOP}/cpu.max": "100000 100000\n"}) == 1


@pytest.mark.parametrize("mounts, groups", [("", ""), ("nothing of the kind\n", "nor here\n"), (NEW, ""),
                                            ("", "0::/\n"), ("1 2 - \n - cgroup2\n", "::\n0\n")])
def test_what_cannot_be_read_limits_nothing(tmp_path, mounts, groups):
    assert system(tmp_path, mounts.format(root="/"), groups, {f"{TOP}/cpu.max": "100000 100000\n"}) is None


def test_no_proc_limits_nothing(tmp_path):
    assert quota_cores(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize("quota, wanted", [(None, 8), (1.5, 1), (0.2, 1), (3.9, 3), (64.0, 8)])
def test_usable_cores(monkeypatch, quota, wanted):
    monkeypatch.setattr(cores, "MACHINE", 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_quota", lambda moment: quota)
    found = usable_cores()
    assert found.count == wanted and found.machine == 64
    assert ("quota" if wanted < 8 else "affinity") in found.why


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_an_affinity_of_one_core():
    code = ("import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
            "from photophone.core.cores import usable_cores; print(usable_cores().count)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize("text, wanted", [("0.1 0.2 0.3 5/200 77\n", 5), ("", None), ("0.1 0.2\n", None),
                                          ("0 0 0 x/y 1\n", None)])
def test_runnable(tmp_path, text, wanted):
    (tmp_path / "loadavg").write_text(text)
    assert cores._runnable(tmp_path) == wanted


def test_own_threads_are_no_load(tmp_path, monkeypatch):
    """Six run, four of them are ours, whatever their names; a thread that ends meanwhile does not count."""
    for number, state in enumerate("RRSRRD"):
        (tmp_path / "self" / "task" / str(number)).mkdir(parents=True)
        (tmp_path / "self" / "task" / str(number) / "stat").write_text(f"{number} (a) S (b c) {state} 1 2\n")
    (tmp_path / "self" / "task" / "99").mkdir()
    (tmp_path / "loadavg").write_text("0 0 0 6/100 9\n")
    monkeypatch.setattr(cores, "PROC", tmp_path)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert own_running(tmp_path / "self" / "task") == 4
    assert cores.other_tasks(0) == 2
    (tmp_path / "loadavg").write_text("0 0 0 1/100 9\n")
    assert cores.other_tasks(0) == 0


def test_load_of_a_moment_is_none(monkeypatch):
    seen = iter([4, 3, 1])
    monkeypatch.setattr(cores, "_runnable", lambda proc: next(seen))
    monkeypatch.setattr(cores, "own_running", lambda tasks: 1)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert cores.other_tasks(0) == 0


def test_no_word_of_the_system_is_no_load(monkeypatch):
    monkeypatch.setattr(cores, "_runnable", lambda proc: None)
    assert cores.other_tasks(0) == 0
