"""Codebook lookups in Triton's interpreter against float64."""

import pytest
import torch
import torch.nn.functional as F
from exactness import check, random

from photophone.kernels import vq
from photophone.kernels.fused import vq as fused_vq

SHAPES = [(1, 1, 1), (37, 5, 3), (70, 130, 33), (17, 300, 8)]


def scores(x, codes, cosine):
    x, codes = x.double(), codes.double()
    if cosine:
        return -(F.normalize(x, dim=-1) @ F.normalize(codes, dim=-1).T)
    return (x[:, None] - codes[None]).square().sum(-1)


def assert_nearest(indices, x, codes, cosine, seed):
    truth = scores(x, codes, cosine)
    assert indices.dtype == torch.long and int(indices.min()) >= 0 and int(indices.max()) < len(codes)
    excess = truth.gather(1, indices[:, None])[:, 0] - truth.min(1).values
    worst = int(excess.argmax())
    assert float(excess[worst]) <= 1e-5, f"seed {seed}: row {worst} is {float(excess[worst])} from the nearest"
    assert (indices == truth.argmin(1)).float().mean() > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "codes", "dim"), SHAPES)
def test_equals_float64(fused, rows, codes, dim, dtype):
    cosine = (rows + codes) % 2 == 0
    x, book = random(rows, rows, dim, dtype=dtype), random(codes, codes, dim, dtype=dtype)
    valid = torch.arange(rows) % 3 != 1
    found = fused(vq.lookup, x, book, cosine=cosine, statistics=True, valid=valid)
    assert_nearest(found.indices, x, book, cosine, rows)
    assert torch.equal(found.values, book[found.indices].float())
    one_hot = F.one_hot(found.indices, codes).double() * valid[:, None]
    assert torch.equal(found.counts.double(), one_hot.sum(0))
    check("sums", rows, found.sums, one_hot.T @ x.double())


def test_wide_codes_are_read_in_parts(fused):
    for dtype, dim in ((torch.float32, 100), (torch.bfloat16, 300)):
        x, book = random(1, 20, dim, dtype=dtype), random(2, 70, dim, dtype=dtype)
        assert_nearest(fused(vq.nearest_code, x, book), x, book, False, 1)


def test_every_tile_gives_the_same():
    x, book = random(3, 1, 70, 6), random(4, 1, 150, 6)
    for config in fused_vq.CONFIGS.values():
        indices = fused_vq.lookup(x, book, False, False, False, None, config)[0]
        assert_nearest(indices[0], x[0], book[0], False, 3)


def test_several_codebooks_and_strided_rows(fused):
    # (Q, M, D) and (Q, K, D)
    x, books = random(5, 40, 3, 10)[:, :, :6].transpose(0, 1), random(6, 50, 3, 6).transpose(0, 1)
    found = fused(vq.lookup, x, books, cosine=True, statistics=True)
    assert found.indices.shape == (3, 40) and found.values.shape == (3, 40, 6)
    for q in range(3):
        assert_nearest(found.indices[q], x[q], books[q], True, 5)
        assert torch.equal(found.values[q], books[q][found.indices[q]])
        assert torch.equal(found.counts[q], torch.bincount(found.indices[q], minlength=50).float())


@pytest.mark.parametrize("dim", [5, 40])
def test_residual_stages(fused, dim):
    x, books = random(7, 33, dim), random(8, 4, 60, dim, scale=0.6)
    found = fused(vq.residual_lookup, x, books, statistics=True, valid=torch.arange(33) < 30)
    residual = x.double()
    for q in range(4):
        assert_nearest(found.indices[q], residual.float(), books[q], False, 7)
        one_hot = F.one_hot(found.indices[q, :30], 60).double()
        assert torch.equal(found.counts[q].double(), one_hot.sum(0))
        check("sums", 7, found.sums[q], one_hot.T @ residual[:30])
        residual = residual - books[q].double()[found.indices[q]]
    check("values", 7, found.values, x.double() - residual)


def test_the_reference_agrees_with_itself():
    x, books = random(9, 25, 4), random(10, 3, 16, 4)
    found = vq.residual_lookup(x, books, statistics=True)
    first = vq.lookup(x, books[0], statistics=True)
    assert torch.equal(found.indices[0], first.indices) and torch.equal(found.sums[0], first.sums)
    both = vq.lookup(torch.stack([x, x]), books[:2])
    assert torch.equal(both.values[0], books[0][both.indices[0]])
    left = x - first.values
    assert torch.equal(found.indices[1], vq.nearest_code(left, books[1]))


@pytest.mark.parametrize(("call", "x", "books"), [
    (vq.lookup, (2, 3), (4, 2)), (vq.lookup, (2, 3), (0, 3)), (vq.lookup, (2, 5, 3), (3, 4, 3)),
    (vq.residual_lookup, (2, 3), (4, 3)), (vq.residual_lookup, (2, 3), (0, 4, 3))])
def test_refuses_shapes(call, x, books):
    with pytest.raises(ValueError, match="codebook"):
        call(torch.zeros(x), torch.zeros(books))


def test_refuses_a_mask_of_other_rows():
    with pytest.raises(ValueError, match="valid"):
        vq.lookup(torch.zeros(2, 3), torch.zeros(4, 3), valid=torch.ones(3, dtype=torch.bool))
