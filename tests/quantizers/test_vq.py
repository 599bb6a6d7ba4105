"""One codebook: closed forms of the losses, gradients, and every codebook update against a plain loop."""

import math

import pytest
import torch
import torch.nn.functional as F

from photophone.core.noise import ReplayNoise
from photophone.quantizers import MultiCodebookVQ, VectorQuantizer
from photophone.quantizers.base import entropy_terms
from photophone.quantizers.codebook_updates import kmeans, pick_rows


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer_with(codebook, **config):
    quantizer = VectorQuantizer(codebook.shape[1], codebook.shape[0], **config)
    with torch.no_grad():
        quantizer.codebook.copy_(codebook)
    return quantizer


@pytest.mark.parametrize("mode", ["euclidean", "l2_norm", "cosine_search"])
def test_indices_values_and_loss_equal_the_definition_in_float64(mode):
    x, codebook = draw(2, 9, 4), draw(11, 4, seed=1)
    config = {} if mode == "euclidean" else {mode: True}
    output = quantizer_with(codebook, beta=0.3, codebook_weight=0.7, **config)(x)
    rows, codes = x.double(), codebook.double()
    unit_rows, unit_codes = F.normalize(rows, dim=-1), F.normalize(codes, dim=-1)
    if mode == "euclidean":
        index = (rows[:, :, None] - codes).square().sum(-1).argmin(-1)
    else:
        index = (unit_rows @ unit_codes.T).argmax(-1)
    if mode == "l2_norm":
        rows, codes = unit_rows, unit_codes
    assert torch.equal(output.indices, index)
    torch.testing.assert_close(output.values.double(), codes[index], rtol=0, atol=1e-6)
    torch.testing.assert_close(output.loss.double(), (rows - codes[index]).square().mean())  # weights 0.3 + 0.7


def test_gradients_of_loss_and_values():
    x, codebook = draw(2, 5, 3).requires_grad_(), draw(7, 3, seed=1)
    quantizer = quantizer_with(codebook, beta=0.25, codebook_weight=2.0)
    output = quantizer(x)
    upstream = draw(2, 5, 3, seed=2)
    (gradient,) = torch.autograd.grad((output.values * upstream).sum(), x, retain_graph=True)
    assert torch.equal(gradient, upstream)  # straight through: the identity
    output.loss.backward()
    error = x.detach() - codebook[output.indices]
    torch.testing.assert_close(x.grad, 0.25 * 2 * error / error.numel())
    expected = torch.zeros_like(codebook)
    for token, index in zip(error.reshape(-1, 3), output.indices.flatten()):
        expected[index] -= 2.0 * 2 * token / error.numel()
    torch.testing.assert_close(quantizer.codebook.grad, expected)


def test_straight_through_gradient_of_normalised_tokens_is_that_of_the_normalisation():
    x = draw(1, 4, 3).requires_grad_()
    upstream = draw(1, 4, 3, seed=2)
    output = quantizer_with(draw(7, 3, seed=1), l2_norm=True)(x)
    (gradient,) = torch.autograd.grad((output.values * upstream).sum(), x)
    (expected,) = torch.autograd.grad((F.normalize(x, dim=-1) * upstream).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_metrics_count_codes():
    quantizer = quantizer_with(torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    metrics = quantizer(torch.tensor([[[0.0], [0.1], [2.0], [9.0]]]), mask=torch.tensor([[True] * 3 + [False]])).metrics
    assert float(metrics["used_share"]) == 0.5
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert float(metrics["perplexity"]) == pytest.approx(math.exp(entropy))


def test_entropy_terms_against_float64_sums():
    logits = 3 * draw(13, 6)
    p = logits.double().softmax(-1)
    row, batch = entropy_terms(logits, eps=1e-12)
    assert row.item() == pytest.approx(-(p * p.log()).sum(-1).mean().item(), rel=1e-5)
    average = p.mean(0)
    assert batch.item() == pytest.approx(-(average * average.log()).sum().item(), rel=1e-5)


def test_entropy_of_sure_choices_has_finite_gradient():
    logits = torch.tensor([[0.0, 1e4, -1e4], [0.0, 1e4, -1e4]], requires_grad=True)
    row, batch = entropy_terms(logits)
    (row - batch).backward()
    assert row.item() == 0 and batch.item() == pytest.approx(0, abs=1e-5)
    assert bool(logits.grad.isfinite().all())


def test_entropy_loss_uses_squared_distances():
    x, codebook = draw(2, 5, 3), draw(6, 3, seed=1)
    plain = quantizer_with(codebook)(x).loss
    with_entropy = quantizer_with(codebook, entropy_weight=0.5, entropy_temperature=2.0)(x).loss
    distance = (x.double()[:, :, None] - codebook.double()).square().sum(-1).flatten(0, 1)
    p = (-distance / 2.0).softmax(-1)
    expected = -(p * p.log()).sum(-1).mean() + (p.mean(0) * p.mean(0).log()).sum()
    assert (with_entropy - plain).item() == pytest.approx(0.5 * expected.item(), rel=1e-3)


def ema_by_hand(codebook, sizes, sums, batches, decay, eps=1e-5):
    """Moving averages token by token, in float64."""
    codebook, sizes, sums = codebook.double(), sizes.double(), sums.double()
    for batch in batches:
        counts, totals = torch.zeros_like(sizes), torch.zeros_like(sums)
        for token in batch.reshape(-1, codebook.shape[1]).double():
            nearest = int((token - codebook).square().sum(-1).argmin())
            counts[nearest] += 1
            totals[nearest] += token
        for code in range(len(codebook)):
            sizes[code] = decay * sizes[code] + (1 - decay) * counts[code]
            sums[code] = decay * sums[code] + (1 - decay) * totals[code]
        for code in range(len(codebook)):
            smooth = (sizes[code] + eps) / (sizes.sum() + len(sizes) * eps) * sizes.sum()
            codebook[code] = sums[code] / smooth
    return codebook, sizes, sums


def test_moving_averages_equal_a_plain_loop():
    codebook = draw(5, 3, seed=1)
    quantizer = VectorQuantizer(3, 5, ema_decay=0.8, revive_below=0.0)
    quantizer.codebook.copy_(codebook)
    quantizer.code_sum.copy_(codebook)
    batches = [draw(2, 6, 3, seed=seed) for seed in range(3)]
    for batch in batches:
        used = quantizer.codebook.clone()
        output = quantizer(batch)
        assert torch.equal(output.values, used[output.indices])  # the update comes after the look-up
    expected = ema_by_hand(codebook, torch.ones(5), codebook, batches, 0.8)
    for got, want in zip((quantizer.codebook, quantizer.cluster_size, quantizer.code_sum), expected):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)
    assert not list(quantizer.parameters())
    before = quantizer.codebook.clone()
    quantizer.eval()(batches[0])
    quantizer.train().encode(batches[0])
    assert torch.equal(quantizer.codebook, before)


def test_moving_average_loss_is_the_commitment_alone():
    x = draw(2, 6, 3)
    quantizer = VectorQuantizer(3, 5, ema_decay=0.8, beta=0.4).eval()
    expected = 0.4 * (x - quantizer.codebook[quantizer.encode(x)]).square().mean()
    torch.testing.assert_close(quantizer(x).loss, expected)


def test_dead_codes_become_the_rows_of_lowest_priority():
    quantizer = VectorQuantizer(1, 3, ema_decay=0.5, revive_below=0.9)
    codebook = torch.tensor([[0.0], [100.0], [200.0]])
    quantizer.codebook.copy_(codebook)
    quantizer.code_sum.copy_(codebook)
    x = torch.tensor([[[0.5], [-0.5], [0.25], [1.0]]])
    priority = torch.tensor([[0.9, 0.2, 0.4, 0.1]])
    mask = torch.tensor([[True, True, True, False]])  # the lowest priority is padding
    quantizer(x, mask=mask, noise=ReplayNoise(uniform=[priority]))
    assert quantizer.codebook[1:].flatten().tolist() == [-0.5, 0.25]
    assert quantizer.cluster_size.tolist() == pytest.approx([2.0, 0.9, 0.9])
    torch.testing.assert_close(quantizer.code_sum[1:], quantizer.codebook[1:] * 0.9)


def test_revival_keeps_a_whole_codebook_in_use():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(2, 16, ema_decay=0.9, revive_below=1.0)
    for seed in range(20):
        output = quantizer(draw(4, 64, 2, seed=seed))
    assert float(output.metrics["used_share"]) == 1.0


def test_pick_rows_is_a_choice_without_repeats():
    x = torch.arange(5.0)[:, None]
    assert pick_rows(x, torch.tensor([0.3, 0.1, 0.5, 0.2, 0.4]), 3).flatten().tolist() == [1, 3, 0]
    assert sorted(pick_rows(x, torch.rand(5), 5).flatten().tolist()) == [0, 1, 2, 3, 4]
    assert len(pick_rows(x, torch.rand(5), 12)) == 12


def test_kmeans_equals_a_plain_loop():
    x, start = draw(40, 2), draw(4, 2, seed=1)
    start[3] = 50.0  # never nearest: stays
    centres, counts = kmeans(x, start, 5)
    expected = start.double()
    for _ in range(5):
        nearest = (x.double()[:, None] - expected).square().sum(-1).argmin(1)
        for code in range(4):
            if (nearest == code).any():
                expected[code] = x.double()[nearest == code].mean(0)
    torch.testing.assert_close(centres.double(), expected, rtol=1e-5, atol=1e-5)
    assert counts.tolist() == nearest.bincount(minlength=4).tolist()


def test_kmeans_start_finds_clusters_once():
    means = torch.tensor([[-5.0, 0.0], [5.0, 0.0], [0.0, 7.0]])
    x = (means[torch.arange(60) % 3] + 0.01 * draw(60, 2)).view(2, 30, 2)
    quantizer = VectorQuantizer(2, 3, ema_decay=0.99, revive_below=0.0, kmeans_iterations=10)
    priority = torch.linspace(0, 0.9, 60).view(2, 30)  # the start is rows 0, 1, 2: one of each cluster
    quantizer.eval()(x)
    assert not quantizer.initialized
    quantizer.train()(x, noise=ReplayNoise(uniform=[priority]))
    assert quantizer.initialized
    nearest = (quantizer.codebook[:, None] - means).norm(dim=-1).min(1)
    assert sorted(nearest.indices.tolist()) == [0, 1, 2] and nearest.values.max() < 0.02
    assert quantizer.cluster_size.tolist() == pytest.approx([20, 20, 20])
    quantizer(draw(2, 30, 2), noise=ReplayNoise(uniform=[priority]))
    assert (quantizer.codebook[:, None] - means).norm(dim=-1).min(1).values.max() < 0.5  # no second start


@pytest.mark.parametrize("l2_norm", [False, True])
def test_clustering_equals_the_published_formula(l2_norm):
    x, codebook = draw(2, 8, 3), draw(6, 3, seed=1)
    quantizer = quantizer_with(codebook, clustering=True, l2_norm=l2_norm)
    usage, expected = torch.zeros(6).double(), codebook.double()
    for _ in range(2):
        rows = x.double().flatten(0, 1)
        a, b = (F.normalize(rows, dim=-1), F.normalize(expected, dim=-1)) if l2_norm else (rows, expected)
        distance = (a[:, None] - b).square().sum(-1)  # (M, K)
        share = distance.argmin(1).bincount(minlength=6) / len(rows)
        usage = 0.99 * usage + 0.01 * share
        decay = torch.exp(-(usage * 6 * 10) / (1 - 0.99) - 1e-3)[:, None]
        expected = expected * (1 - decay) + rows[distance.argmin(0)] * decay
        loss = quantizer(x).loss
    loss.backward()  # the update after the look-up does not disturb the graph
    torch.testing.assert_close(quantizer.codebook.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(quantizer.usage.double(), usage)


def test_multi_codebook_is_one_search_a_chunk():
    x = draw(2, 5, 6)
    quantizer = MultiCodebookVQ(6, 7, 3, l2_norm=True)
    output = quantizer(x)
    losses = []
    for book in range(3):
        part = F.normalize(x[..., 2 * book:2 * book + 2].double(), dim=-1)
        codes = F.normalize(quantizer.codebooks[book].codebook.detach().double(), dim=-1)
        index = (part @ codes.T).argmax(-1)
        assert torch.equal(output.indices[:, book], index)
        torch.testing.assert_close(output.values[..., 2 * book:2 * book + 2].double(), codes[index], rtol=0, atol=1e-6)
        losses.append(1.25 * (part - codes[index]).square().mean())
    torch.testing.assert_close(output.loss.double(), torch.stack(losses).mean())
