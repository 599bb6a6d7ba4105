"""Threads of a call: chosen by work, cores and load, within what torch has, and put back whatever happens."""

import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from photophone.core import threads
from photophone.core.cores import Cores
from photophone.core.threads import choose_threads, each_with_threads, fitting_threads, set_threads, worth

SMALL, LARGE = 1, 1000
pytestmark = pytest.mark.skipif(not threads.can_choose(), reason="torch's OpenMP cannot be asked here")


@pytest.fixture
def model():
    return nn.Linear(200, 200)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight cores, nothing else running, whatever machine this is."""
    state = {"cores": Cores(8, 8, "all cores"), "others": 0, "calmed": []}
    monkeypatch.setattr(threads, "usable_cores", lambda: state["cores"])
    monkeypatch.setattr(threads, "other_tasks", lambda room: state["others"])
    monkeypatch.setattr(threads, "MACHINE", 8)
    monkeypatch.setattr(threads, "LOOK_SECONDS", -1)
    monkeypatch.setattr(threads, "calm", lambda count, cores, ask: state["calmed"].append((count, cores)))
    monkeypatch.delenv(threads.ENVIRONMENT, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield state
    assert torch.get_num_threads() == 8, "a test left other threads behind"
    assert not threads._running and not hasattr(threads._here, "bound")
    torch.set_num_threads(before)


def now():
    """Of OpenMP and of MKL."""
    lines = torch.__config__.parallel_info().splitlines()
    return [int(line.split(":")[1]) for line in lines if "get_max_threads()" in line]


def elsewhere(action):
    """The result of ``action`` in a new thread of Python."""
    found = []
    thread = threading.Thread(target=lambda: found.append(action()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("work, wanted", [(0, 1), (4_000_000, 1), (12_000_000, 2), (17_000_000, 3), (31_999_999, 6),
                                          (32_000_000, 8), (10**12, 8)])
def test_work(work, wanted):
    assert choose_threads(work, 8)[0] == min(8, worth(work)) == wanted


def test_cores_bound_and_load(machine):
    assert choose_threads(LARGE * 10**6, 3) == (3, "torch has 3")
    machine["cores"] = Cores(2, 64, "a quota of 2 cores")
    assert choose_threads(10**9, 8) == (2, "a quota of 2 cores")
    machine["others"] = 40  # does not change a result to the last bit
    assert choose_threads(10**9, 8)[0] == 2
    assert choose_threads(12_000_000, 8) == (2, "a quota of 2 cores")
    machine["cores"] = Cores(1, 64, "an affinity of 1 of 64 cores")
    assert choose_threads(10**9, 8) == (1, "an affinity of 1 of 64 cores")


@pytest.mark.parametrize("others, places, wanted", [(0, LARGE, []), (1, LARGE, [(8, 8)]), (9, LARGE, [(8, 8)]),
                                                    (3, 700, []), (4, 700, [(5, 8)]), (9, SMALL, [])])
def test_threads_spin_less_where_there_are_not_cores_for_all(model, machine, others, places, wanted):
    machine["others"] = others
    with fitting_threads(model, places):
        assert machine["calmed"] == wanted


@pytest.mark.parametrize("others, wanted", [(0, 8), (1, 7), (5, 3), (7, 1), (40, 1)])
def test_what_has_the_same_result_anyway_gives_way_to_other_programs(model, machine, others, wanted):
    machine["others"] = others
    with fitting_threads(model, LARGE, gives_way=True) as region:
        assert now() == [wanted, wanted] and region.count == wanted
        assert ("other programs" in region.why) == (wanted < 8)
        assert machine["calmed"] == [(8, 8)] * (wanted < 8)  # for what torch computes around the call
    with fitting_threads(model, SMALL, gives_way=True):
        assert now() == [1, 1]
    set_threads(6)
    try:
        with fitting_threads(model, LARGE, gives_way=True):
            assert now() == [6, 6]
    finally:
        set_threads(None)


def test_a_small_model_has_one_thread_and_a_large_one_all(model):
    with fitting_threads(model, SMALL):
        assert now() == [1, 1]
    assert now() == [8, 8]
    with fitting_threads(model, LARGE):
        assert now() == [8, 8]
    assert now() == [8, 8]


def test_only_the_calling_thread_changes(model):
    with fitting_threads(model, SMALL):
        assert now() == [1, 1]
        assert elsewhere(now) == [8, 8]  # one that starts meanwhile, and keeps what it got
    assert elsewhere(now) == [8, 8]


def test_nested_calls(model):
    with fitting_threads(model, SMALL):
        with fitting_threads(model, LARGE):  # a large model in a callback of a small one
            assert now() == [8, 8]
            with fitting_threads(model, SMALL):
                assert now() == [1, 1]
            assert now() == [8, 8]
        assert now() == [1, 1]


def test_an_exception_puts_back(model):
    with pytest.raises(ZeroDivisionError), fitting_threads(model, SMALL):
        with pytest.raises(KeyError), fitting_threads(model, LARGE):
            raise KeyError
        assert now() == [1, 1]
        raise ZeroDivisionError


def test_calls_of_several_threads_that_overlap_in_any_order(model):
    """A begins, B begins, A ends, B ends; and C, new meanwhile, has what torch gives to new threads."""
    steps = [threading.Event() for _ in range(4)]
    seen = {}

    def first():
        with fitting_threads(model, SMALL):
            steps[0].set()
            steps[1].wait(10)
            seen["A"] = now()
        seen["A after"] = now()
        steps[2].set()

    def second():
        steps[0].wait(10)
        with fitting_threads(model, SMALL):
            seen["C"] = elsewhere(now)
            steps[1].set()
            steps[2].wait(10)
            seen["B"] = now()
        seen["B after"] = now()

    both = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert seen == {"A": [1, 1], "B": [1, 1], "C": [8, 8], "A after": [8, 8], "B after": [8, 8]}
    assert elsewhere(now) == [8, 8]


def test_other_calls_of_this_process_are_load(model, machine):
    def other():
        with fitting_threads(model, 700):
            return now()

    with fitting_threads(model, LARGE):
        assert machine["calmed"] == []
        assert elsewhere(other) == [5, 5] and machine["calmed"] == [(5, 8)]
    assert elsewhere(other) == [5, 5] and len(machine["calmed"]) == 1


def test_threads_that_the_user_gave_are_the_upper_bound(model):
    torch.set_num_threads(3)
    try:
        with fitting_threads(model, LARGE):
            assert now() == [3, 3]
        assert now() == [3, 3]
    finally:
        torch.set_num_threads(8)


def test_the_environment_and_set_threads(model, monkeypatch, machine):
    machine.update(cores=Cores(2, 2, "all cores"), others=9)
    monkeypatch.setenv(threads.ENVIRONMENT, "4")
    with fitting_threads(model, SMALL) as region:
        assert now() == [4, 4] and region.why == "PHOTOPHONE_THREADS=4"
    set_threads(5)
    try:
        with fitting_threads(model, SMALL):
            assert now() == [5, 5]
        set_threads(100)
        with fitting_threads(model, SMALL) as region:
            assert now() == [8, 8] and region.why == "set_threads=100, torch has 8"
    finally:
        set_threads(None)
    monkeypatch.setenv(threads.ENVIRONMENT, "")
    with fitting_threads(model, SMALL):
        assert now() == [1, 1]


@pytest.mark.parametrize("value", [0, -1, 2.5, "two", True, 10**9, ""])
def test_a_wrong_number_is_refused(model, monkeypatch, value):
    with pytest.raises(ValueError, match="count must be a whole number of 1 to 1024 threads"):
        set_threads(value)
    if value != "":
        monkeypatch.setenv(threads.ENVIRONMENT, str(value))
        with pytest.raises(ValueError, match="PHOTOPHONE_THREADS must be a whole number"), fitting_threads(model, 1):
            pass


def test_parts_are_made_within_and_handed_out_without(model):
    closed = []

    def parts():
        try:
            for _ in range(3):
                yield now()
        finally:
            closed.append(now())

    made = each_with_threads(parts(), model, SMALL)
    assert next(made) == [1, 1] and now() == [8, 8]
    made.close()
    assert closed and now() == [8, 8]
    assert list(each_with_threads(parts(), model, SMALL)) == [[1, 1]] * 3


def test_load_that_comes_between_steps(model, machine):
    with fitting_threads(model, 700) as region:  # 28 million
        assert now() == [5, 5]
        machine["others"] = 24
        region.adapt()
        assert now() == [5, 5] and machine["calmed"] == [(5, 8)]
        machine["others"] = 0
        region.adapt()
        assert len(machine["calmed"]) == 1


def test_a_model_elsewhere_or_compiled_changes_nothing(model):
    import torch._dynamo  # noqa: F401 (what compiling imports)

    with fitting_threads(nn.Linear(2, 2, device="meta"), SMALL):
        assert now() == [8, 8]
    model.compile(backend="eager")
    with fitting_threads(nn.Sequential(model), SMALL):
        assert now() == [8, 8]


def test_calm_threads_come_and_go():
    """In a process of its own: threads that only sleep, for as long as they are used."""
    code = """
import threading, time
from photophone.core import calm, threads
calm.STAY_SECONDS = 0.2
names = lambda: [t.name for t in threading.enumerate() if t.name == "photophone-calm"]
if calm.can_calm():
    assert calm.calm(2, 2, threads._ask) and calm.calm(2, 2, threads._ask) and len(names()) == 1
    assert not calm.calm(2, 64, threads._ask)
    while names(): time.sleep(0.02)
    assert calm.calm(2, 2, threads._ask) and len(names()) == 1
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "done\n", done.stderr
