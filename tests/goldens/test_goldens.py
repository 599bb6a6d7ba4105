"""The official tensors in ``data/`` against our models, through the adaptors beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden import Golden, load_system

FOLDERS = sorted(path.parent for path in (Path(__file__).parent / "data").glob("*/config.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_official_tensors(folder):
    golden = Golden(folder)
    verdicts = load_system(golden).compare(golden)
    assert [verdict for verdict in verdicts if verdict.status == "MISS"] == []
    assert any(verdict.status == "ok" for verdict in verdicts)
