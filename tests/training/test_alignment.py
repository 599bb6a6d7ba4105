"""Alignment of tokens with a teacher's patches: each way against its formula on small numbers."""

import pytest
import torch
from torch import nn

from photophone import ReplayNoise
from photophone.training.losses.alignment import ALIGNMENTS, Alignment, alignment_loss

KEEP = nn.Identity()


def cosine(one, two):
    return (one * two).sum(-1) / (one.norm(dim=-1) * two.norm(dim=-1))


def test_repeat_lets_a_token_stand_for_patches_that_follow_each_other():
    tokens, patches = torch.randn(2, 4, 5), torch.randn(2, 12, 5)
    expected = -torch.stack([cosine(tokens[:, place // 3], patches[:, place]) for place in range(12)]).mean()
    torch.testing.assert_close(alignment_loss(tokens, patches, KEEP), expected)
    assert float(alignment_loss(tokens, 2 * tokens.repeat_interleave(3, dim=1), KEEP)) == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="5 patches do not split among 4 tokens; use 'avg_1d'"):
        alignment_loss(tokens, torch.randn(2, 5, 5), KEEP)


@pytest.mark.parametrize(("count", "places"), [(4, 12), (6, 16), (5, 5), (3, 2)])
def test_avg_1d_averages_the_patches_of_each_token(count, places):
    """Token i takes the patches from floor(i L / N) up to ceil((i + 1) L / N)."""
    tokens, patches = torch.randn(2, count, 5), torch.randn(2, places, 5)
    parts = [patches[:, i * places // count:-(-(i + 1) * places // count)] for i in range(count)]
    means = torch.stack([part.mean(1) for part in parts], dim=1)
    torch.testing.assert_close(alignment_loss(tokens, patches, KEEP, "avg_1d"), -cosine(tokens, means).mean())


def test_avg_1d_shuffle_shuffles_the_patches_of_all_rows_alike_first():
    tokens, patches = torch.randn(2, 2, 5), torch.randn(2, 4, 5)
    order = torch.tensor([[2, 0, 3, 1]])
    made = alignment_loss(tokens, patches, KEEP, "avg_1d_shuffle", ReplayNoise(permutation=[order]))
    means = torch.stack([patches[:, [2, 0]].mean(1), patches[:, [3, 1]].mean(1)], dim=1)
    torch.testing.assert_close(made, -cosine(tokens, means).mean())
    torch.manual_seed(0)
    first = alignment_loss(tokens, patches, KEEP, "avg_1d_shuffle")
    torch.manual_seed(0)
    assert torch.equal(first, alignment_loss(tokens, patches, KEEP, "avg_1d_shuffle"))


def test_global_compares_the_means_and_projects_behind_them():
    tokens, patches = torch.randn(2, 4, 5), torch.randn(2, 12, 5)
    made = alignment_loss(tokens, patches, torch.square, "global")
    torch.testing.assert_close(made, -cosine(tokens.mean(1).square(), patches.mean(1)).mean())


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_the_module_trains_its_projection_and_no_teacher(align):
    teacher = nn.Conv2d(3, 7, 4, stride=4)
    module = Alignment(lambda images: [teacher(images)], 5, 16, hidden=6, align=align)
    images, values = torch.rand(2, 3, 16, 16), torch.randn(2, 4, 5, requires_grad=True)
    module(values, module.teach(images)).backward()
    assert values.grad is not None and teacher.weight.grad is None
    assert [name for name, weight in module.named_parameters() if weight.grad is None] == []


def test_unknown_ways_are_refused():
    with pytest.raises(ValueError, match="align must be one of repeat, avg_1d, avg_1d_shuffle, global, got 'mean'"):
        Alignment(lambda images: [images], 5, 16, align="mean")
