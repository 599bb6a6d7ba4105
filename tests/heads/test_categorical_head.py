"""Categorical head: filters against brute force, draws against the softmax."""

import pytest
import torch
import torch.nn.functional as F

from photophone.core.noise import ReplayNoise, SeededNoise
from photophone.heads import CategoricalHead
from photophone.heads.categorical import draw_nucleus, draw_repetition_aware
from photophone.kernels.sampling import draw_categorical, filter_logits, filter_min_p, filter_top_k, filter_top_p

LOGITS = torch.randn(4, 3, 11, generator=torch.Generator().manual_seed(0))


def kept(logits):
    return [set(row.isfinite().nonzero()[:, 0].tolist()) for row in logits.reshape(-1, logits.shape[-1])]


@pytest.mark.parametrize("k", [1, 4, 11, 20, 0])
def test_top_k_keeps_the_largest(k):
    expected = [set(sorted(range(11), key=lambda i: -row[i])[:k or 11]) for row in LOGITS.reshape(-1, 11).tolist()]
    assert kept(filter_top_k(LOGITS, k)) == expected


def test_top_k_keeps_ties():
    assert kept(filter_top_k(torch.tensor([[1.0, 2.0, 0.0, 1.0]]), 2)) == [{0, 1, 3}]


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9, 1.0])
def test_top_p_keeps_the_nucleus(p):
    expected = []
    for row in LOGITS.reshape(-1, 11).softmax(-1).tolist():
        total, nucleus = 0.0, set()
        for i in sorted(range(11), key=lambda i: -row[i]):
            if total <= p:
                nucleus.add(i)
            total += row[i]
        expected.append(nucleus)
    assert kept(filter_top_p(LOGITS, p)) == expected


EIGHTHS = torch.tensor([[0.5, 0.125, 0.125, 0.25]]).log()


@pytest.mark.parametrize(("p", "reach", "llamagen", "cosyvoice"), [
    (0.3, {0}, {0}, {0}), (0.5, {0}, {0, 3}, {0}), (0.6, {0, 3}, {0, 3}, {0, 3}), (0.75, {0, 3}, {0, 1, 3}, {0, 3}),
    (0.8, {0, 1, 2, 3}, {0, 1, 3}, {0, 1, 3}), (1.0, {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3})])
def test_rules_of_top_p_at_the_border_and_among_equals(p, reach, llamagen, cosyvoice):
    for rule, expected in (("reach", reach), ("llamagen", llamagen), ("cosyvoice", cosyvoice)):
        for dtype in (torch.float32, torch.float64):
            assert kept(filter_top_p(EIGHTHS.to(dtype), p, rule)) == [expected], (rule, dtype)


def test_top_p_sums_in_float32_whatever_the_logits_are():
    logits = torch.zeros(1, 4096, dtype=torch.bfloat16)
    logits[:, :2048] = 1.0  # equals: 0.73 of the mass together
    assert len(kept(filter_top_p(logits, 0.5))[0]) == 2048 and len(kept(filter_top_p(logits, 0.74))[0]) == 4096
    assert len(kept(filter_top_p(logits, 0.5, "cosyvoice"))[0]) == pytest.approx(4096 / 2 * 0.5 / 0.731, abs=3)


def test_cosyvoice_counts_top_k_and_top_p_together():
    # of all tokens the two likeliest have 0.7; of the three that top-k leaves they would have 0.7 / 0.85
    logits = torch.tensor([[0.4, 0.3, 0.15, 0.15]]).log()
    assert kept(filter_logits(logits, top_k=3, top_p=0.8, top_p_rule="cosyvoice")) == [{0, 1, 2}]
    assert kept(filter_logits(logits, top_k=2, top_p=0.8, top_p_rule="cosyvoice")) == [{0, 1}]
    assert kept(filter_logits(logits, top_k=0, top_p=1.0, top_p_rule="cosyvoice")) == [{0, 1, 2, 3}]
    assert kept(filter_logits(logits, top_k=3, top_p=0.8)) == [{0, 1, 2, 3}]


@pytest.mark.parametrize("p", [0.0, 0.1, 0.7, 1.0])
def test_min_p_keeps_what_is_likely_enough(p):
    rows = LOGITS.reshape(-1, 11).softmax(-1).tolist()
    assert kept(filter_min_p(LOGITS, p)) == [{i for i in range(11) if row[i] >= p * max(row)} for row in rows]


def test_filters_do_not_change_what_they_keep():
    out = filter_logits(LOGITS, temperature=0.5, top_k=6, top_p=0.9, min_p=0.01)
    assert out.isinf().any()
    assert torch.equal(out[out.isfinite()], (LOGITS / 0.5)[out.isfinite()])
    step_by_step = filter_min_p(filter_top_p(filter_top_k(LOGITS / 0.5, 6), 0.9), 0.01)
    assert torch.equal(out, step_by_step)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5},
                                   {"min_p": -0.1}, {"top_p_rule": "most"}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=str(*wrong.values())):
        filter_logits(LOGITS, **wrong)


def test_gumbel_max_draws_from_the_softmax():
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, float("-inf"), 0.5])
    count = 40_000
    drawn = draw_categorical(logits.expand(1, count, 6), SeededNoise.from_seeds([5]))
    observed, expected = drawn[0].bincount(minlength=6), logits.softmax(-1) * count
    assert observed[4] == 0
    likely = logits.isfinite()
    chi_square = ((observed - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi_square < 18.47  # 0.1 % point at 4 degrees of freedom


def test_loss_is_cross_entropy_over_the_mask():
    head, hidden = CategoricalHead(8, 11, label_smoothing=0.1), torch.randn(2, 5, 8)
    target, mask = torch.randint(11, (2, 5)), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    expected = F.cross_entropy(head.linear(hidden)[mask], target[mask], label_smoothing=0.1)
    torch.testing.assert_close(head.loss(hidden, target.masked_fill(~mask, -7), mask), expected)


def test_several_codebooks_use_slices_of_the_linear_layer():
    head, hidden, target = CategoricalHead(8, 11, num_codebooks=3), torch.randn(2, 5, 8), torch.randint(11, (2, 3, 5))
    mask = torch.rand(2, 5) < 0.5
    mask[0, 0] = True
    by_book = [F.cross_entropy(F.linear(hidden, head.linear.weight[11 * q : 11 * q + 11],
                                        head.linear.bias[11 * q : 11 * q + 11])[mask], target[:, q][mask])
               for q in range(3)]
    torch.testing.assert_close(head.loss(hidden, target, mask), torch.stack(by_book).mean())
    assert head.sample(hidden, noise=SeededNoise.from_seeds([0, 1])).shape == (2, 3, 5)
    with pytest.raises(ValueError, match=r"\(2, 3, 5\), got torch.int64 \(2, 5\)"):
        head.loss(hidden, target[:, 0])


def test_greedy_takes_the_largest_guided_logit_and_draws_nothing():
    head, hidden = CategoricalHead(8, 11), torch.randn(4, 5, 8)
    logits = head.linear(hidden)
    guided = logits[2:] + 2.5 * (logits[:2] - logits[2:])
    assert torch.equal(head.sample(hidden, guidance=2.5, temperature=0, noise=ReplayNoise()), guided.argmax(-1))


def test_sample_respects_top_k():
    head, hidden = CategoricalHead(8, 11), torch.randn(2, 500, 8)
    best = head.linear(hidden).topk(2).indices
    drawn = head.sample(hidden, top_k=2, temperature=2.0, noise=SeededNoise.from_seeds([0, 1]))
    assert (drawn[..., None] == best).any(-1).all()
    assert (drawn != best[..., 0]).any()


def reference_nucleus(scores, top_p, top_k):
    """Kept tokens by a plain loop, likeliest first."""
    kept, mass = [], 0.0
    for token in sorted(range(len(scores)), key=lambda token: -scores[token].item()):
        if mass >= top_p or len(kept) == top_k:
            break
        kept.append(token)
        mass += scores.softmax(0)[token].item()
    return kept


@pytest.mark.parametrize(("top_p", "top_k"), [(0.8, 25), (0.3, 25), (1.0, 3), (0.9, 1)])
def test_nucleus_draws_have_the_probabilities_of_what_is_kept(top_p, top_k):
    scores = torch.randn(12, generator=torch.Generator().manual_seed(4))
    draws = draw_nucleus(scores.expand(20000, -1), SeededNoise.from_seeds(range(20000)), top_p=top_p, top_k=top_k)
    kept = reference_nucleus(scores, top_p, top_k)
    expected = torch.zeros(12)
    expected[kept] = scores.softmax(0)[kept] / scores.softmax(0)[kept].sum()
    torch.testing.assert_close(draws.bincount(minlength=12) / 20000, expected, rtol=0, atol=0.015)
    with pytest.raises(ValueError, match="must keep a token"):
        draw_nucleus(scores[None], SeededNoise.from_seeds([0]), top_k=0)


def test_repeated_tokens_are_given_up():
    scores = torch.tensor([[9.0, 1.0, 0.5, 0.0]]).expand(400, -1)  # token 0 is all that a nucleus of 0.5 keeps

    def draw(history, **options):
        return draw_repetition_aware(scores, torch.tensor([history]).long().expand(400, -1).reshape(400, len(history)),
                                     SeededNoise.from_seeds(range(400)), top_p=0.5, **options)

    assert bool((draw([]) == 0).all()) and bool((draw([1, 2, 3]) == 0).all())
    assert bool((draw([0] + [1] * 10) == 0).all())  # the window has 10 tokens
    others = draw([0] + [1] * 9)
    assert set(others.tolist()) == {1, 2, 3}
    share = scores[0, 1:].softmax(0)
    torch.testing.assert_close(others.bincount(minlength=4)[1:] / 400, share, rtol=0, atol=0.08)
    assert bool((draw([0, 1, 1, 1], share=0.2) == 0).all()) and not bool((draw([0, 0, 1], share=0.2) == 0).any())


def test_a_repetition_aware_row_does_not_depend_on_its_batch():
    scores = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    history = torch.randint(0, 30, (4, 12), generator=torch.Generator().manual_seed(2))
    batch = SeededNoise.from_seeds([1, 2, 3, 4])
    first, second = (draw_repetition_aware(scores, history, batch) for _ in range(2))
    for row in range(4):
        alone = SeededNoise.from_seeds([row + 1])
        for whole in (first, second):
            assert draw_repetition_aware(scores[row:row + 1], history[row:row + 1], alone).item() == whole[row].item()
