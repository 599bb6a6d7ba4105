"""What every quantizer must do, whatever its family."""

import pytest
import torch

from photophone.core.noise import ReplayNoise
from photophone.quantizers import QUANTIZERS, build_quantizer

CONFIGS = {
    "vq": [dict(dim=6, codebook_size=20), dict(dim=6, codebook_size=20, l2_norm=True, entropy_weight=0.1),
           dict(dim=6, codebook_size=20, cosine_search=True), dict(dim=6, codebook_size=20, clustering=True),
           dict(dim=6, codebook_size=9, ema_decay=0.9, kmeans_iterations=3),
           dict(dim=6, codebook_size=9, ema_decay=0.9, l2_norm=True, entropy_weight=0.1)],
    "residual_vq": [dict(dim=6, codebook_size=8, num_codebooks=3), dict(dim=6, codebook_size=8, num_codebooks=1),
                    dict(dim=6, codebook_size=8, num_codebooks=3, codebook_dim=4, projection="shared"),
                    dict(dim=6, codebook_size=8, num_codebooks=3, codebook_dim=2, projection="stage",
                         cosine_search=True, quantizer_dropout=0.5),
                    dict(dim=6, codebook_size=8, num_codebooks=2, ema_decay=0.9, kmeans_iterations=2)],
    "multi_codebook_vq": [dict(dim=6, codebook_size=8, num_codebooks=3, l2_norm=True)],
    "fsq": [dict(levels=[4, 3, 5, 2, 8, 7]), dict(levels=[4, 4, 4], dim=6, double_bound=True)],
    "gfq": [dict(dim=6), dict(dim=6, num_codebooks=2)],
    "lfq": [dict(dim=6), dict(dim=6, num_codebooks=2)],
    "bsq": [dict(dim=6), dict(dim=6, num_codebooks=3, beta=0.25)],
    "bernoulli": [dict(dim=6, bits=8, num_codebooks=2, code_weight=1.0), dict(dim=6, bits=5, deterministic=True)],
    "soft_vq": [dict(dim=6, num_codewords=16, num_codebooks=2), dict(dim=6, num_codewords=16, l2_norm=False)],
    "gaussian": [dict(dim=6)],
    "none": [dict(dim=6)],
}
CASES = [pytest.param(name, config, id=f"{name}{number}")
         for name, configs in CONFIGS.items() for number, config in enumerate(configs)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(name, config, seed=0):
    torch.manual_seed(seed)
    return build_quantizer(name, **config)


def test_every_name_is_covered():
    assert set(CONFIGS) == set(QUANTIZERS)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_shapes_dtypes_and_round_trip(name, config):
    quantizer = build(name, config).eval()
    x = draw(3, 8, 6)
    output = quantizer(x)
    books, width = quantizer.num_codebooks, quantizer.token_dim or 6
    assert output.values.shape == (3, 8, width) and output.values.dtype == torch.float32
    assert output.loss.shape == () and bool(output.loss.isfinite())
    assert all(value.shape == () and not value.requires_grad for value in output.metrics.values())
    tokens = quantizer.encode(x)
    if quantizer.codebook_size is None:
        assert output.indices is None and tokens.shape == (3, 8, quantizer.token_dim)
    else:
        assert output.indices.shape == ((3, 8) if books == 1 else (3, books, 8))
        assert torch.equal(output.indices, tokens)
        assert 1 <= float(output.metrics["perplexity"]) <= quantizer.codebook_size
    torch.testing.assert_close(quantizer.decode(tokens), output.values, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "config"), CASES)
@pytest.mark.parametrize("training", [False, True])
def test_padded_tokens_change_nothing(name, config, training):
    """Values and state of a padded batch equal those where the padding held other numbers, even NaN."""
    x, other = draw(2, 8, 6), draw(2, 8, 6)
    mask = torch.arange(8) < torch.tensor([[8], [5]])
    other[1, 5:] = torch.nan
    results = []
    for tokens in (x, other):
        quantizer = build(name, config).train(training)
        value = tokens.clone().requires_grad_()
        torch.manual_seed(5)
        output = quantizer(value, mask=mask)
        if output.loss.requires_grad:
            output.loss.backward()
        gradients = {key: parameter.grad for key, parameter in quantizer.named_parameters()}
        results.append((output, quantizer.state_dict(), gradients, value.grad))
    (first, state, gradients, x_grad), (second, other_state, other_gradients, other_grad) = results
    assert torch.equal(first.values[mask], second.values[mask])
    assert torch.equal(first.loss, second.loss)
    assert {key: float(value) for key, value in first.metrics.items()} == \
           {key: float(value) for key, value in second.metrics.items()}
    assert all(torch.equal(state[key], other_state[key]) for key in state)
    for key, gradient in gradients.items():
        assert (gradient is None and other_gradients[key] is None) or torch.equal(gradient, other_gradients[key]), key
    if x_grad is not None:
        assert torch.equal(x_grad[mask], other_grad[mask])
        assert x_grad[~mask].abs().max() == 0


@pytest.mark.parametrize(("name", "config"), CASES)
def test_a_masked_batch_counts_as_the_valid_tokens_alone(name, config):
    quantizer = build(name, config).eval()
    if name == "gaussian":
        pytest.skip("the KL is summed over tokens and divided by the batch: see test_gaussian")
    if quantizer.num_codebooks > 1 and name == "soft_vq":
        pytest.skip("the segments depend on the padded length")
    x = draw(1, 8, 6)
    masked = quantizer(x, mask=torch.arange(8)[None] < 5)
    alone = quantizer(x[:, :5])
    torch.testing.assert_close(masked.loss, alone.loss)
    for key, value in alone.metrics.items():
        torch.testing.assert_close(masked.metrics[key], value)


@pytest.mark.parametrize(("name", "config"), CASES)
def test_an_empty_mask_gives_finite_loss_and_no_update(name, config):
    quantizer = build(name, config).train()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    output = quantizer(draw(2, 8, 6), mask=torch.zeros(2, 8, dtype=torch.bool))
    assert output.loss.item() == 0
    assert all(torch.equal(before[key], value) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize(("name", "config"), CASES)
def test_bfloat16_input_and_autocast(name, config):
    """bfloat16 goes in and out; the arithmetic is that of float32 on the same numbers."""
    quantizer = build(name, config).eval()
    x = draw(2, 8, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        low = quantizer(x)
        tokens = quantizer.encode(x)
    full = quantizer(x.float())
    assert low.values.dtype == torch.bfloat16 and low.loss.dtype == torch.float32
    assert torch.equal(low.values, full.values.bfloat16())
    assert torch.equal(low.loss, full.loss)
    assert torch.equal(tokens, quantizer.encode(x.float()))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_a_training_step_in_bfloat16_weights(name, config):
    quantizer = build(name, config).bfloat16().train()
    x = draw(2, 8, 6).bfloat16().requires_grad_()
    output = quantizer(x)
    (output.values.float().square().mean() + output.loss).backward()
    assert x.grad.dtype == torch.bfloat16 and bool(x.grad.isfinite().all())


@pytest.mark.parametrize(("name", "config"), CASES)
def test_save_and_load(name, config, tmp_path):
    trained = build(name, config).train()
    trained(draw(2, 8, 6))
    torch.save(trained.state_dict(), tmp_path / "state.pt")
    loaded = build(name, config, seed=1)
    loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    x = draw(2, 8, 6, seed=3)
    first, second = trained.eval()(x), loaded.eval()(x)
    assert torch.equal(first.values, second.values) and torch.equal(first.loss, second.loss)
    torch.manual_seed(0)
    first = trained.train()(x)
    torch.manual_seed(0)
    second = loaded.train()(x)
    assert torch.equal(first.values, second.values)
    state = loaded.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in trained.state_dict().items())


@pytest.mark.parametrize(("name", "config"), CASES)
def test_refuses_wrong_input(name, config):
    quantizer = build(name, config)
    for bad in (draw(2, 8, 5), draw(8, 6), torch.zeros(2, 8, 6, dtype=torch.long)):
        with pytest.raises(ValueError, match="needs float"):
            quantizer(bad)
    for bad in (torch.ones(2, 7, dtype=torch.bool), torch.ones(2, 8)):
        with pytest.raises(ValueError, match="mask must be Bool"):
            quantizer(draw(2, 8, 6), mask=bad)
    with pytest.raises(ValueError, match="decodes"):
        quantizer.decode(torch.zeros(2, 8, 5, 4))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_refuses_indices_out_of_range(name, config):
    quantizer = build(name, config)
    if quantizer.codebook_size is None:
        with pytest.raises(ValueError, match="decodes float"):
            quantizer.decode(torch.zeros(2, 8, dtype=torch.long))
        return
    shape = (2, 8) if quantizer.num_codebooks == 1 else (2, quantizer.num_codebooks, 8)
    for value in (-1, quantizer.codebook_size):
        with pytest.raises(ValueError, match=rf"0\.\.{quantizer.codebook_size - 1}, got .*{value}"):
            quantizer.decode(torch.full(shape, value))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown quantizer 'vqq'.*bsq, fsq, gaussian.*soft_vq, vq"):
        build_quantizer("vqq", dim=4)
    with pytest.raises(TypeError, match="codebook_sise"):
        build_quantizer("vq", dim=4, codebook_sise=4)


@pytest.mark.parametrize(("name", "config", "message"), [
    ("vq", dict(dim=0, codebook_size=4), "dim.*got 0"),
    ("vq", dict(dim=4, codebook_size=2.5), "codebook_size.*2.5"),
    ("vq", dict(dim=4, codebook_size=4, l2_norm=True, cosine_search=True), "l2_norm"),
    ("vq", dict(dim=4, codebook_size=4, ema_decay=1.0), "ema_decay.*got 1.0"),
    ("vq", dict(dim=4, codebook_size=4, kmeans_iterations=3), "kmeans_iterations.*got 3"),
    ("vq", dict(dim=4, codebook_size=4, revive_below=-1.0), "revive_below.*-1.0"),
    ("vq", dict(dim=4, codebook_size=4, ema_decay=0.9, clustering=True), "clustering"),
    ("vq", dict(dim=4, codebook_size=4, entropy_temperature=0.0), "entropy_temperature.*0.0"),
    ("residual_vq", dict(dim=4, codebook_size=4, num_codebooks=2, projection="all"), "projection.*'all'"),
    ("residual_vq", dict(dim=4, codebook_size=4, num_codebooks=2, codebook_dim=2), "codebook_dim=2"),
    ("residual_vq", dict(dim=4, codebook_size=4, num_codebooks=2, quantizer_dropout=1.5), "1.5"),
    ("multi_codebook_vq", dict(dim=5, codebook_size=4, num_codebooks=2), "dim=5.*num_codebooks=2"),
    ("fsq", dict(levels=[4, 1]), r"\[4, 1\]"),
    ("fsq", dict(levels=[]), "levels"),
    ("fsq", dict(levels=[8] * 21), "62"),
    ("fsq", dict(levels=[5], eps=0.25), "eps=0.25"),
    ("fsq", dict(levels=[4, 2], eps=-1e-3), "eps=-0.001"),
    ("lfq", dict(dim=63), "63 bits.*62"),
    ("bsq", dict(dim=6, num_codebooks=4), "6 bits.*4 codebooks"),
    ("lfq", dict(dim=6, entropy_group_bits=17), "17"),
    ("lfq", dict(dim=6, inverse_temperature=0), "inverse_temperature.*0"),
    ("bernoulli", dict(dim=6, bits=7, num_codebooks=2), "7 bits"),
    ("soft_vq", dict(dim=6, num_codewords=4, tau=-1.0), "tau.*-1.0"),
    ("soft_vq", dict(dim=6, num_codewords=0), "num_codewords.*0"),
    ("gaussian", dict(dim=5), "got 5"),
])
def test_bad_settings_are_refused_with_their_value(name, config, message):
    with pytest.raises(ValueError, match=message):
        build_quantizer(name, **config)


def test_none_is_the_identity():
    x = draw(2, 3, 4).requires_grad_()
    output = build_quantizer("none", dim=4)(x)
    assert torch.equal(output.values, x) and output.loss.item() == 0
    output.values.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize(("name", "config"), CASES)
def test_evaluation_draws_nothing(name, config):
    quantizer = build(name, config).eval()
    if name == "gaussian":
        pytest.skip("draws whenever a Noise is given")
    nothing = ReplayNoise()  # refuses the first draw
    assert quantizer(draw(2, 8, 6), noise=nothing).values.isfinite().all() and nothing.exhausted
