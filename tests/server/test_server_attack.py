"""Malformed and hostile requests, a few of each kind; ``benchmarks/serve_attack.py`` makes thousands."""

import runpy

import pytest
from served import ROOT, check_watched, served, watched


@pytest.fixture(scope="module")
def attack():
    return runpy.run_path(str(ROOT / "benchmarks" / "serve_attack.py"))


def test_no_request_breaks_the_server_or_learns_anything(attack, tmp_path):
    with served("--deadline", attack["DEADLINE"], **watched(tmp_path)) as server:
        findings = attack["run_attack"](server.address, 120, 1)
        code, errors = server.end()
    assert findings.count >= 120 and len(findings.statuses) >= 4
    slow = [fault for fault in findings.faults if fault.endswith(" s")]  # a matter of the machine
    assert [fault for fault in findings.faults if fault not in slow] == []
    assert code == 143 and "Traceback" not in errors
    check_watched(tmp_path)


def test_the_attack_would_see_what_it_looks_for(attack):
    for telling in (b"Traceback (most recent", b'File "a.py", line 1', b"/usr/lib/x", b"no such file: /tmp/y"):
        assert attack["TELLING"].search(telling)
    assert not attack["TELLING"].search(b'{"error": {"message": "speed: Input should be less than or equal to 2"}}')
