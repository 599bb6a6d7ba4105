"""What tests share; its place also lets all of them import :mod:`tiny`."""

import shutil

import pytest
import torch
from tiny import small_pipeline

torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def pipeline():
    return small_pipeline()


@pytest.fixture(scope="session")
def saved(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A saved pipeline to damage."""
    return shutil.copytree(saved, tmp_path / "copy")
