"""How kernels are compared with float64: in Triton's interpreter, with memory that is poisoned before it is written."""

import pytest
import torch

from photophone.kernels import dispatch


@pytest.fixture(autouse=True)
def poisoned():
    """New memory holds NaN or the largest integer, so that an element that is never written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def fused(monkeypatch):
    """``fused(function, *args)`` runs a public function of a kernel by Triton, and fails when it was not used."""
    from photophone.kernels.fused import launch

    def call(function, *args, **kwargs):
        launches = []
        original = torch.cuda.device_of
        monkeypatch.setattr(dispatch, "MODE", "triton")
        monkeypatch.setattr(launch.torch.cuda, "device_of", lambda x: launches.append(x) or original(x))
        try:
            result = function(*args, **kwargs)
        finally:
            monkeypatch.setattr(dispatch, "MODE", "auto")
            monkeypatch.setattr(launch.torch.cuda, "device_of", original)
        assert launches, "the reference ran, not the kernel"
        return result
    return call
