"""The official tensors in ``data/`` against our models, through the adaptors beside this file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from golden import Golden, load_system
from safetensors.torch import load_file, save_file

FOLDERS = sorted(path.parent for path in (Path(__file__).parent / "data").glob("*/config.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_official_tensors(folder):
    golden = Golden(folder)
    verdicts = load_system(golden).compare(golden)
    assert [verdict for verdict in verdicts if verdict.status == "MISS"] == []
    assert any(verdict.status == "ok" for verdict in verdicts)


@pytest.mark.parametrize("kept", ["weights", "weights_v001", "causal"])
def test_focalcodec_needs_no_more_than_the_files_of_one_model(kept, tmp_path):
    """A folder may hold one of the two key formats, or the causal model alone, and the tensors of what it holds."""
    source = Path(__file__).parent / "data" / "focalcodec"
    for name in ("config.json", f"{kept}.safetensors"):
        shutil.copy(source / name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in {"offline", "offline_v001", "causal"} - {"causal" if kept == "causal" else "offline"}:
        config.pop(name)
    (tmp_path / "config.json").write_text(json.dumps(config))
    prefixes = ("mid_c_", "out_c_", "out_s_", "in_sig_causal")
    tensors = {name: value for name, value in load_file(source / "io.safetensors").items()
               if name.startswith(prefixes) == (kept == "causal") and "knn" not in name and "matching" not in name}
    save_file(tensors, tmp_path / "io.safetensors")
    golden = Golden(tmp_path)
    verdicts = load_system(golden, "focalcodec").compare(golden)
    assert verdicts and [verdict for verdict in verdicts if verdict.status != "ok"] == []
