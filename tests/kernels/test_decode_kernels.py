"""Solver steps, draws over the vocabulary and rotary positions in Triton's interpreter against float64."""

import itertools

import pytest
import torch
from exactness import check, gradients, random

from photophone.core.noise import ReplayNoise
from photophone.kernels import dispatch, rotary, sampling, solver
from photophone.kernels.fused import sampling as fused_sampling
from photophone.layers.rotary import grid_rotary, sequence_rotary, with_condition_rows

NUMBERS = (1.1, 0.5, 0.4, 0.5, -3.0, -1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("guidance", [None, 2.5, torch.tensor([1.5, 3.0])])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 1, 1), (2, 40, 16)])
def test_solver_steps(fused, shape, guidance, dtype):
    x, noise = random(1, *shape), random(2, *shape)
    output = random(3, 4, *shape[1:-1], 2 * shape[-1], dtype=dtype)
    cond, uncond = output.chunk(2)
    uncond, strength = (None, 1.0) if guidance is None else (uncond, guidance)
    first = cond[..., :shape[-1]], None if uncond is None else uncond[..., :shape[-1]]
    exact = [None if t is None else t.double() for t in (x, *first, noise, cond, uncond)]
    for a, draw in ((1.0, None), (0.9, noise)):
        found = fused(solver.linear_step, x, *first, strength, a, -0.1, draw, 0.3)
        true = solver.linear_step(*exact[:3], strength, a, -0.1, None if draw is None else exact[3], 0.3)
        check("linear step", 1, found, true)
    for clip, heat in ((False, 0.8), (True, 0.0)):
        seen, observed = [], []
        found = fused(solver.ddpm_step, x, cond, uncond, strength, NUMBERS, noise, heat, clip=clip,
                      observe=lambda *pair, to=seen: to.extend(pair))
        solver.ddpm_step(exact[0], *exact[4:], strength, NUMBERS, exact[3], heat, clip=clip,
                         observe=lambda *pair, to=observed: to.extend(pair))
        true = solver.ddpm_step(exact[0], *exact[4:], strength, NUMBERS, exact[3], heat, clip=clip)
        check("DDPM step", 1, found, true)
        for name, a, b in zip(("mean", "log std"), seen, observed):
            check(name, 1, a, b)


FILTERS = [{}, {"temperature": 0}, {"top_k": 3, "temperature": 0.5}, {"top_p": 0.7}, {"min_p": 0.2},
           {"top_k": 12, "top_p": 0.8, "min_p": 0.05, "temperature": 1.3}]


@pytest.mark.parametrize("filters", FILTERS)
def test_draws_equal_the_reference_in_float64(fused, filters):
    for seed, (shape, dtype, guidance) in enumerate([
            ((2, 1, 57), torch.float32, 1.7), ((1, 2, 300), torch.bfloat16, None), ((1, 5), torch.float32, 1.0),
            ((1, 1), torch.float32, None), ((2, 61), torch.float16, torch.tensor([1.2, 3.0]))]):
        logits = random(seed + 30, 2 * shape[0], *shape[1:], dtype=dtype, scale=2.0)
        cond, uncond = logits.chunk(2)
        uncond, strength = (None, 1.0) if guidance is None else (uncond, guidance)
        uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
        exact = [None if t is None else t.double() for t in (cond, uncond)]
        found = fused(sampling.draw, cond, uncond, strength, ReplayNoise(uniform=[uniform]), **filters)
        combined = solver.combine_guidance(*exact, strength)
        if filters.get("temperature") == 0:
            true = combined.argmax(-1)
        else:
            kept = sampling.filter_logits(combined, **filters)
            true = (kept - torch.log(-torch.log(uniform.double().clamp(min=1e-38)))).argmax(-1)
        assert torch.equal(found, true), f"seed {seed}: {found.tolist()} instead of {true.tolist()}"


def test_kept_sets_are_exact_whatever_the_noise(fused):
    """A draw whose noise prefers the least likely tokens one by one walks through the whole kept set."""
    logits = random(40, 1, 6, scale=1.5)
    for options in ({"top_k": 4}, {"top_p": 0.75}):
        kept = sampling.filter_logits(logits, **options)[0].isfinite()
        for token in range(6):
            uniform = torch.full((1, 6), 0.5)
            uniform[0, token] = 1 - 2**-24  # a Gumbel draw of 16.6
            found = int(fused(sampling.draw, logits, None, 1.0, ReplayNoise(uniform=[uniform]), **options))
            assert (found == token) == bool(kept[token]), (options, token)


def test_ties_masks_and_blocks():
    tied = torch.tensor([[1.0, 2.0, 2.0, 0.0, -0.0, float("-inf")]])
    uniform = torch.full((1, 6), 0.5)
    draw = fused_sampling.sample(tied, None, 1.0, 1.0, 2, 1.0, None, uniform)
    assert draw.tolist() == [1]  # the first of equals, as torch's argmax
    long = random(41, 2, 700)
    uniform = torch.rand(2, 700, generator=torch.Generator().manual_seed(41))
    config = {"BLOCK": 256, "num_warps": 4}
    found = fused_sampling.sample(long, None, 1.0, 1.0, 50, 0.9, None, uniform, config)
    true = sampling.draw(long.double(), None, 1.0, ReplayNoise(uniform=[uniform]), top_k=50, top_p=0.9)
    assert torch.equal(found, true)


@pytest.mark.parametrize(("p", "expected"), [(0.4, {1}), (0.5, {1}), (0.51, {0, 1, 3}), (0.75, {0, 1, 3}),
                                             (0.76, {0, 1, 3}), (1.0, {0, 1, 2, 3})])
def test_the_kernel_has_the_rule_of_top_p(fused, p, expected):
    """Probabilities 0.25, 0.5, 0 and 0.25: at 0.5 one token reaches p, above it both of the next ones are kept."""
    logits = torch.tensor([[0.25, 0.5, 1e-9, 0.25]]).log()
    reference = set(sampling.filter_top_p(logits, p)[0].isfinite().nonzero()[:, 0].tolist())
    kept = set()
    for token in range(4):
        uniform = torch.full((1, 4), 0.5)
        uniform[0, token] = 1 - 2**-24
        if int(fused(sampling.draw, logits, None, 1.0, ReplayNoise(uniform=[uniform]), top_p=p)) == token:
            kept.add(token)
    assert kept - {2} == reference - {2} == expected - {2}  # the third can hardly be drawn


def test_rules_of_official_code_take_the_reference(monkeypatch):
    monkeypatch.setattr(dispatch, "MODE", "triton")
    monkeypatch.setattr(fused_sampling, "sample", lambda *_: pytest.fail("the kernel knows one rule only"))
    for rule in ("llamagen", "cosyvoice"):
        token = sampling.draw(torch.zeros(1, 5), None, 1.0, ReplayNoise(uniform=[torch.rand(1, 5)]), top_p=0.5,
                              top_p_rule=rule)
        assert token.shape == (1,) and 0 <= int(token) < 5


def test_norms_of_queries_without_eps_add_what_torch_adds(fused):
    qkv, table = 0.01 * random(60, 1, 3, 2, 8).bfloat16(), random(61, 2, 4, 2)
    ones = torch.ones(8, dtype=torch.bfloat16)
    caches = [torch.zeros(2, 1, 1, 4, 8, dtype=torch.bfloat16) for _ in range(2)]
    options = {"num_heads": 1, "q_weight": ones, "k_weight": ones, "eps": None}
    made = fused(rotary.rotate_into_cache, qkv, table, caches[0], 0, **options)
    true = rotary.rotate_into_cache(qkv, table, caches[1], 0, **options)
    torch.testing.assert_close(made, true, rtol=0.02, atol=0.02)
    torch.testing.assert_close(caches[0], caches[1], rtol=0.02, atol=0.02)


def test_bad_filters_are_refused_by_both(fused):
    noise = ReplayNoise(uniform=[torch.rand(1, 5)] * 9)
    for options in ({"top_k": -1}, {"top_p": 0.0}, {"min_p": 2.0}, {"temperature": -1.0}, {"top_p_rule": "most"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            fused(sampling.draw, torch.zeros(1, 5), None, 1.0, noise, **options)
        with pytest.raises(ValueError, match=next(iter(options))):
            sampling.draw(torch.zeros(1, 5), None, 1.0, noise, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("halves", [False, True])
def test_rotation(fused, halves, dtype):
    tables = [sequence_rotary(6, 10), with_condition_rows(grid_rotary(2, 2, 12), 2),
              torch.stack([sequence_rotary(3, 2), sequence_rotary(9, 2)[6:]])[:, None],
              random(50, 3, 4, 5, 2)]  # shared, two axes, of each row, of each head
    for seed, (table, shape) in enumerate(zip(tables, [(2, 3, 6, 10), (1, 9, 6, 12), (2, 1, 3, 2), (2, 3, 4, 10)])):
        x = random(seed + 51, shape[0], shape[2], shape[1], shape[3], dtype=dtype).transpose(1, 2).requires_grad_()
        found, grads = fused(gradients, lambda x, table=table: rotary.rotate(x, table, halves), [x], seed)
        true, true_grads = gradients(lambda x, table=table: rotary.rotate(x, table.double(), halves).double(),
                                     [x.detach().double().requires_grad_()], seed)
        check("rotation", seed, found[0], true[0])
        check("gradient", seed, grads[0], true_grads[0])


CACHES = list(itertools.product([False, True], [None, 1e-5], [3, torch.tensor([0, 4])]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("halves", "eps", "position"), CACHES)
def test_rotation_into_a_cache(fused, halves, eps, position, dtype):
    heads, kv_heads, count, dim, length = 4, 2, 2, 6, 7
    qkv = random(60, 2, count, heads + 2 * kv_heads, dim, dtype=dtype).transpose(1, 2)
    table = sequence_rotary(count, dim)
    norms = {} if eps is None else {"q_weight": random(61, dim, dtype=dtype), "k_weight": random(62, dim, dtype=dtype),
                                    "eps": eps}
    before = random(63, 2, 2, kv_heads, length, dim, dtype=dtype)
    cache, true_cache = before.clone(), before.double()
    options = {"num_heads": heads, "halves": halves}
    queries = fused(rotary.rotate_into_cache, qkv, table, cache, position, **options, **norms)
    exact = {name: value.double() if isinstance(value, torch.Tensor) else value for name, value in norms.items()}
    true = rotary.rotate_into_cache(qkv.double(), table.double(), true_cache, position, **options, **exact)
    # the reference turns in float32 whatever it is given
    check("queries", 60, queries, true)
    check("cache", 60, cache, true_cache)
    untouched = torch.ones(2, length, dtype=torch.bool)
    starts = position.tolist() if isinstance(position, torch.Tensor) else [position] * 2
    for row, start in enumerate(starts):
        untouched[row, start:start + count] = False
    for row in range(2):
        assert torch.equal(cache[:, row, :, untouched[row]], before[:, row, :, untouched[row]])


def test_a_cache_is_not_overrun(fused):
    qkv, table, cache = random(64, 2, 3, 1, 4), sequence_rotary(1, 4), torch.zeros(2, 2, 1, 3, 4)
    with pytest.raises(ValueError, match="cache of 3"):
        rotary.rotate_into_cache(qkv, table, cache, 3, num_heads=1)
    with pytest.raises(ValueError, match="cache"):
        rotary.rotate_into_cache(qkv, table, cache[:, :1], 0, num_heads=1)
    with pytest.raises(ValueError, match="norms"):
        rotary.rotate_into_cache(qkv, table, cache, 0, num_heads=1, q_weight=torch.ones(4))
    fused(rotary.rotate_into_cache, qkv, table, cache, torch.tensor([3, -1]), num_heads=1)
    assert not cache.any()  # places outside are left out, not written elsewhere
