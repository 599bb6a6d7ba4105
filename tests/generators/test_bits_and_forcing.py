"""BitDance, BAR, Orthus, ARRA, Diffusion Forcing and Mixture-of-Mamba at other sizes than those of the goldens."""

import math

import pytest
import torch
from tiny import shake

from photophone import ClassLabels, SeededNoise, Tokens
from photophone.decoding.fixed_point import iteration_counts
from photophone.decoding.forcing import level_matrix
from photophone.decoding.loop import KVCache
from photophone.generators.arra.model import ARRA
from photophone.generators.bar.model import BAR
from photophone.generators.bitdance.model import BitDance
from photophone.generators.diffusion_forcing.model import DiffusionForcing
from photophone.generators.diffusion_forcing.planning import DiffusionForcingPlanner
from photophone.heads.branched import BranchedFlowHead
from photophone.layers.gaussian_diffusion import linear_betas, zero_terminal_snr
from photophone.layers.mixture_of_mamba import MixtureOfMamba, selective_scan
from photophone.quantizers.binary import GFQ
from photophone.quantizers.bits import unpack_bits

BIT_SIZES = {"grid_size": 6, "token_dim": 6, "num_codebooks": 3, "num_classes": 4, "width": 48, "depth": 2,
             "num_heads": 3, "head_width": 64, "head_depth": 3, "head_modulations": 2}


@pytest.mark.parametrize("changes", [
    {"step_side": 1, "class_tokens": 1}, {"step_side": 2, "class_tokens": 5}, {"step_side": 3, "raster": True},
    {"step_side": 6}], ids=str)
def test_bitdance_states_with_a_cache_equal_those_of_one_pass(changes):
    model = shake(BitDance(**{"class_tokens": 2, **BIT_SIZES, **changes}))
    labels, bits = torch.tensor([1, 4]), model.bits(model.example_tokens(2).values)
    assert torch.equal(model.codes(bits), model.example_tokens(2).values)
    with torch.no_grad():
        whole = model.teacher_states(bits, labels)
        cache = KVCache(2, 2, 3, len(model.rotary()), 16)
        parts = [model.states(model.prefix(labels), 0, cache)[:, -model.block:]]
        for known in bits[:, :-model.block].split(model.block, dim=1):
            parts.append(model.states(model.token_in(known), cache.length, cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_a_block_of_bitdance_does_not_see_later_ones():
    model = shake(BitDance(**BIT_SIZES, class_tokens=2, step_side=2))
    bits = model.bits(model.example_tokens(1).values)
    changed = bits.clone()
    changed[:, 8:12] *= -1  # the third block
    with torch.no_grad():
        before, after = (model.teacher_states(value, torch.tensor([0])) for value in (bits, changed))
    assert torch.equal(before[:, :12], after[:, :12]) and not torch.allclose(before[:, 12:16], after[:, 12:16])


@pytest.mark.parametrize(("bits", "side", "steps"), [(3, 1, "1,2"), (2, 2, "8"), (5, 4, "1,9,70")])
def test_bar_makes_codes_of_any_bits_and_steps(bits, side, steps):
    model = shake(BAR(grid_size=4, token_bits=bits, step_side=side, num_classes=3, class_repeats=1, width=24, depth=2,
                      num_heads=2, head_width=20, head_depth=1), scale=0.2)
    codes = model.example_tokens(2).values
    assert torch.equal(model.codes(model.bits(codes)), codes)
    for random_order in (False, True):
        made = model.generate(ClassLabels(torch.tensor([0, 2])), noise=SeededNoise.from_seeds([1, 2]),
                              sampler=model.Sampler(bit_steps=steps, guidance_scale=2.0, random_order=random_order))
        assert made.values.shape == (2, 16) and int(made.values.max()) < 2**bits


@pytest.mark.parametrize("steps", ["2,x", "0,3", "1,1", "4"])
def test_bar_refuses_steps_that_are_not_those_of_its_bits(steps):
    model = BAR(grid_size=2, token_bits=3, num_classes=3, class_repeats=1, width=24, depth=1, num_heads=2,
                head_width=20, head_depth=1)
    with pytest.raises(ValueError, match="bit_steps|steps must reveal 3 bits"):
        model.generate(ClassLabels(torch.tensor([0])), noise=SeededNoise.from_seeds([1]),
                       sampler=model.Sampler(bit_steps=steps))


def test_gfq_packs_the_first_bit_lowest_and_counts_groups_as_samples():
    book, x = GFQ(6, 2, entropy_weight=1.0), torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0)) / 50
    output = book(x)
    bits = (x > 0).long().unflatten(-1, (2, 3))
    assert torch.equal(output.indices, (bits * torch.tensor([1, 2, 4])).sum(-1).transpose(1, 2))
    assert torch.equal(book.decode(output.indices), output.values)
    codes = 2.0 * unpack_bits(torch.arange(8), 3) - 1
    shares = (2 * x.unflatten(-1, (2, 3)).flatten(0, 2) @ codes.t() / 0.01).softmax(-1)  # of all codes of a group
    row, mean = torch.special.entr(shares).sum(-1).mean(), shares.mean(0)
    torch.testing.assert_close(output.metrics["row_entropy"], row, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.metrics["batch_entropy"], torch.special.entr(mean).sum(), rtol=1e-3, atol=1e-3)


def test_arra_with_norms_behind_its_blocks_predicts_from_the_past_alone():
    model = shake(ARRA(num_tokens=4, num_codes=8, vocab_size=20, image_start=15, image_end=16, width=24, depth=2,
                       num_heads=4, num_kv_heads=2, hidden=32, norm_rows=2, post_norm=True))
    ids = torch.randint(3, 20, (1, 7), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 5] = 3 + (ids[:, 5] - 2) % 17
    with torch.no_grad():
        before, after = model.states(ids), model.states(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5], after[:, 5])


@pytest.mark.parametrize("horizon", [1, 3, 4])
def test_matrices_begin_with_noise_and_end_clean(horizon):
    for kind in ("pyramid", "autoregressive", "full_sequence"):
        matrix = level_matrix(kind, horizon, 5, 1.5)
        assert matrix[0].tolist() == [5] * horizon and matrix[-1].tolist() == [0] * horizon
        assert bool(((matrix[:-1] - matrix[1:]).abs() <= 1).all())
    with pytest.raises(ValueError, match="one of pyramid"):
        level_matrix("spiral", 3, 5)


@pytest.mark.parametrize("network", [
    {"network": "transformer", "network_config": {"width": 16, "depth": 1, "num_heads": 2, "hidden": 8}},
    {"network": "unet", "network_config": {"width": 8, "multipliers": [1, 2], "resolution": 4, "attention_sizes": [2],
                                           "num_heads": 1, "head_dim": 4, "linear_attention": False}}],
    ids=lambda given: given["network"])
def test_frames_are_rolled_out_row_by_row(network):
    model = shake(DiffusionForcing(frame_dim=2, frame_stack=2, num_train_steps=30, objective="velocity",
                                   snr_decay=0.9, **network))
    shape = (2, 2, 2) + ((4, 4) if network["network"] == "unet" else ())
    known = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    options = {"num_steps": 3, "window": 3, "chunk": 2, "eta": 0.5}
    both = model.generate(known, 8, noise=SeededNoise.from_seeds([1, 2]), **options)
    alone = model.generate(known[1:], 8, noise=SeededNoise.from_seeds([2]), **options)
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both[:, :2], known)
    loss = model.train().loss(both)
    loss.backward()
    assert bool(loss.isfinite())


def test_the_guide_of_plans_is_a_weighted_mean_of_distances():
    model = DiffusionForcingPlanner(observation_dim=4, action_dim=2, frame_stack=1, network_config={
        "width": 16, "depth": 1, "num_heads": 2, "hidden": 8}, num_train_steps=40)
    start, goal = torch.zeros(1, 6), torch.ones(1, 6)
    tokens = torch.zeros(1, 3, 6)
    tokens[0, 0, 0] = 3.0  # three away from the start, in the first pair of channels
    value = float(model.guide(start, goal, 1, 2.0)(tokens))
    near = math.tanh(math.sqrt(2) / 2)
    sums = 20 * math.tanh(1.5) + (1 * near + 8 * near + 8 * math.sqrt(2)) + (0 * near + 8 * near + 8 * math.sqrt(2))
    assert value == pytest.approx(-2.0 * 1000 * sums / 9, rel=1e-5)


def test_budgets_never_pass_their_sum():
    for steps in (1, 2, 7):
        for budget in (steps, steps + 1, 5 * steps + 3):
            for kind in ("fixed", "increasing", "decreasing"):
                counts = iteration_counts(budget, steps, kind)
                assert len(counts) == steps and sum(counts) <= budget and min(counts) >= 1
    with pytest.raises(ValueError, match="at least as many iterations"):
        iteration_counts(3, 4)


def test_the_stretched_schedule_ends_in_noise_alone():
    betas = zero_terminal_snr(linear_betas(50))
    kept = torch.cumprod(1 - betas, dim=0)
    assert float(kept[-1]) == 0 and float(betas[0]) == pytest.approx(float(linear_betas(50)[0]))


def test_the_scan_is_the_recurrence_and_masks_must_hold_every_token():
    generator = torch.Generator().manual_seed(0)
    x, dt = torch.randn(1, 2, 3, generator=generator), torch.rand(1, 2, 3, generator=generator)
    decay = -torch.rand(2, 4, generator=generator)
    read_in, read_out = torch.randn(2, 1, 4, 3, generator=generator)
    made, state = selective_scan(x, dt, decay, read_in, read_out), torch.zeros(2, 4)
    for step in range(3):
        state = torch.exp(dt[0, :, step, None] * decay) * state + dt[0, :, step, None] * read_in[0, :, step] * \
            x[0, :, step, None]
        torch.testing.assert_close(made[0, :, step], state @ read_out[0, :, step])
    block = MixtureOfMamba(8, modalities=3)
    masks = [torch.tensor([True, False, False]), torch.tensor([False, True, False]), torch.zeros(3, dtype=torch.bool)]
    with pytest.raises(ValueError, match="hold every token"):
        block(torch.randn(1, 3, 8), masks)


def test_branches_without_guidance_are_the_one_with_all_conditions():
    head = shake(BranchedFlowHead(12, 4, width=16, depth=1))
    hidden = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(0))
    one = head.sample_branches(hidden[:1], 1, noise=SeededNoise.from_seeds([1]), num_steps=3)
    for branches in (2, 3):
        made = head.sample_branches(hidden[:branches], branches, text_guidance=1.0, image_guidance=1.0,
                                    noise=SeededNoise.from_seeds([1]), num_steps=3)
        torch.testing.assert_close(made, one)


def test_tokens_of_bitdance_are_codes():
    model = BitDance(**BIT_SIZES, class_tokens=2)
    assert isinstance(model.example_tokens(2), Tokens) and model.example_tokens(2).values.shape == (2, 3, 36)
