"""The start of a training: codebooks filled from data, and quantizers that let their input through."""

import pytest
import torch
import torch.nn.functional as F

from photophone.quantizers import FSQ, MultiCodebookVQ, SoftVQ, VectorQuantizer
from photophone.quantizers.multi_scale import MultiScaleVQ


def same(x):
    return x


def unit(x):
    return F.normalize(x, dim=-1)


def unit_halves(x):
    return torch.cat([unit(part) for part in x.chunk(2, dim=-1)], dim=-1)


BOOKS = {
    "plain": (lambda: VectorQuantizer(8, 64), same), "unit": (lambda: VectorQuantizer(8, 64, l2_norm=True), unit),
    "averaged": (lambda: VectorQuantizer(8, 64, ema_decay=0.9), same),
    "several": (lambda: MultiCodebookVQ(8, 32, 2, l2_norm=True), unit_halves),
    "scales": (lambda: MultiScaleVQ(8, 64, [1, 2, 4]), same), "soft": (lambda: SoftVQ(8, 16, 2), same),
}


def outputs():
    """What a fresh encoder makes: all rows close to each other and far from the codes, (B, N, D) = (8, 16, 8)."""
    return 0.1 * torch.randn(8, 16, 8, generator=torch.Generator().manual_seed(1)) + 5


@pytest.mark.parametrize("name", BOOKS)
def test_codes_from_data_are_used(name):
    torch.manual_seed(0)
    book = BOOKS[name][0]().eval()
    before = float(book(outputs()).metrics["used_share"])
    book.start_codebook(outputs())
    after = float(book(outputs()).metrics["used_share"])
    assert after > 0.5 and after > 2 * before


@pytest.mark.parametrize("name", BOOKS)
def test_a_bypassed_quantizer_hands_on_what_its_search_sees(name):
    make, seen = BOOKS[name]
    book, x = make().train(), outputs().requires_grad_()
    book.bypassed = True
    output = book(x)
    torch.testing.assert_close(output.values, seen(x))
    assert output.indices is None and float(output.loss.detach()) == 0
    (output.values.square().sum() + output.loss).backward()
    assert x.grad is not None and all(weight.grad is not None for weight in book.parameters())


def test_quantizers_without_a_learned_codebook_refuse():
    with pytest.raises(ValueError, match="FSQ has no codebook that could start from data"):
        FSQ([4, 4, 4]).start_codebook(torch.zeros(1, 2, 3))
