"""Nearest-code search against brute force in float64."""

import pytest
import torch
import torch.nn.functional as F

from photophone.kernels import vq
from photophone.kernels.vq import nearest_code


def brute_force(x, codebook, cosine):
    x, codebook = x.double(), codebook.double()
    if cosine:
        return -(F.normalize(x, dim=-1) @ F.normalize(codebook, dim=-1).T)
    return (x[:, None] - codebook[None]).square().sum(-1)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(("rows", "codes", "dim"), [
    (1, 1, 1), (37, 5, 3), (200, 257, 8), (64, 1000, 33),
    (600, 2049, 8), (1025, 1500, 3), (512, 2560, 40),  # in tiles, whole and cut
])
def test_equals_brute_force_in_float64(rows, codes, dim, cosine):
    generator = torch.Generator().manual_seed(rows + codes)
    x = torch.randn(rows, dim, generator=generator)
    codebook = torch.randn(codes, dim, generator=generator)
    index = nearest_code(x, codebook, cosine=cosine)
    assert index.dtype == torch.long and index.shape == (rows,)
    scores = brute_force(x, codebook, cosine)
    chosen = scores.gather(1, index[:, None])[:, 0]
    # Equal up to ties: the chosen code is no worse than the best one by more than float32 rounding.
    assert (chosen - scores.min(1).values).max() <= 1e-5
    assert (index == scores.argmin(1)).float().mean() > 0.99


def test_a_common_offset_does_not_hide_the_nearest_code():
    codebook = torch.tensor([[0.0], [0.25]])
    x = torch.tensor([[0.1], [0.15]])
    assert nearest_code(x, codebook).tolist() == [0, 1]


def test_chunks_change_nothing_and_limit_the_scores(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, codebook = torch.randn(100, 4, generator=generator), torch.randn(32, 4, generator=generator)
    sizes = []
    addmm = torch.addmm

    def recording(*args, **kwargs):
        result = addmm(*args, **kwargs)
        sizes.append(result.numel() * result.element_size())
        return result

    monkeypatch.setattr(vq.torch, "addmm", recording)
    whole = nearest_code(x, codebook)
    assert sizes == [100 * 32 * 4]
    sizes.clear()
    monkeypatch.setattr(vq, "MAX_SCORE_BYTES", 7 * 32 * 4)
    assert torch.equal(nearest_code(x, codebook), whole)
    assert len(sizes) == 15 and max(sizes) == 7 * 32 * 4


def test_tiles_take_the_first_of_equal_codes_and_any_dtype_and_stride():
    generator = torch.Generator().manual_seed(2)
    codebook = torch.randn(700, 4, generator=generator).repeat(3, 1)  # each code three times, in different tiles
    x = torch.randn(8, 900, generator=generator).T[:, ::2]
    index = nearest_code(x, codebook)
    assert index.max() < 700
    scores = brute_force(x, codebook[:700], False)
    assert (scores.gather(1, index[:, None])[:, 0] - scores.min(1).values).max() <= 1e-5
    half = nearest_code(x.bfloat16(), codebook.bfloat16())
    scores = brute_force(x.bfloat16(), codebook.bfloat16(), False)
    assert (scores.gather(1, half[:, None])[:, 0] - scores.min(1).values).max() <= 1e-5


def test_tiles_keep_rows_that_are_not_finite():
    x = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    x[3], x[5, 0] = float("nan"), float("inf")
    codebook = torch.randn(2048, 4, generator=torch.Generator().manual_seed(1))
    index = nearest_code(x, codebook)
    assert index.min() >= 0 and index.max() < 2048
    kept = x.isfinite().all(1)
    assert torch.equal(index[kept], nearest_code(x[kept], codebook))


def test_float32_inside_autocast():
    codebook = torch.tensor([[1.0], [1.001]])  # equal in bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest_code(torch.tensor([[1.001], [1.0]]), codebook).tolist() == [1, 0]


def test_no_rows():
    assert nearest_code(torch.zeros(0, 3), torch.ones(4, 3)).shape == (0,)


@pytest.mark.parametrize(("x", "codebook"), [((2, 3), (4, 2)), ((2, 3), (0, 3)), ((2, 2, 3), (4, 3))])
def test_refuses_shapes(x, codebook):
    with pytest.raises(ValueError, match="codebook"):
        nearest_code(torch.zeros(x), torch.zeros(codebook))
