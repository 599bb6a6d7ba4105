"""Gaussian diffusion: tables of MAR, and formulas against Bayes' rule."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from photophone.layers import gaussian_diffusion as gd
from photophone.layers.normal import discretized_normal_nll, normal_kl

GOLDEN = load_file(Path(__file__).parents[1] / "goldens/data/mar/io.safetensors")


def test_cosine_schedule_is_that_of_mar():
    tables = gd.diffusion_tables()
    assert tables.alphas_cumprod[999].item() == pytest.approx(2.43e-9, rel=2e-3)
    torch.testing.assert_close(tables.alphas_cumprod, GOLDEN["out_table_train_alphas_cumprod"], atol=0, rtol=1e-12)


@pytest.mark.parametrize("respacing", ["100", "25,10", "8", "ddim50"])
def test_spaced_steps_are_those_of_mar(respacing):
    expected = GOLDEN[f"out_table_{respacing.replace(',', '_')}_timestep_map"]
    assert gd.space_timesteps(1000, respacing) == expected.tolist()


def test_spaced_steps_known_values():
    hundred = gd.space_timesteps(1000, "100")
    assert hundred[:7] + hundred[-1:] == [0, 10, 20, 30, 40, 50, 61, 999]
    assert gd.space_timesteps(1000, "ddim8") == list(range(0, 1000, 125))
    assert gd.space_timesteps(10, "") == list(range(10))
    assert gd.space_timesteps(9, "2,0,1") == [0, 2, 6]


@pytest.mark.parametrize("respacing", ["many", "10,", "-3", "ddim", "ddim999", "1001", "5,400,5", "10.5"])
def test_bad_respacing_is_refused(respacing):
    with pytest.raises(ValueError, match=respacing):
        gd.space_timesteps(1000, respacing)


def test_tables_that_a_model_on_meta_asked_for_first_are_numbers():
    with torch.device("meta"), torch.inference_mode():
        tables = gd.diffusion_tables("cosine", 977)
    assert tables.betas.device.type == "cpu" and torch.equal(tables.timesteps, torch.arange(977))
    assert not tables.betas.is_inference()


def test_bad_tables_are_refused():
    with pytest.raises(ValueError, match="'sigmoid'"):
        gd.diffusion_tables("sigmoid")
    with pytest.raises(ValueError, match="'1' leaves 1"):
        gd.diffusion_tables(respacing="1")


def test_respaced_tables_are_those_of_mar():
    tables = gd.diffusion_tables(respacing="25,10")
    for ours, theirs in (("betas", "betas"), ("log_variance", "posterior_log_variance_clipped")):
        expected = GOLDEN[f"out_table_25_10_{theirs}"]
        torch.testing.assert_close(getattr(tables, ours), expected, atol=0, rtol=1e-10)


def test_respacing_keeps_the_marginals():
    full, spaced = gd.diffusion_tables("linear"), gd.diffusion_tables("linear", respacing="7,13")
    torch.testing.assert_close(spaced.alphas_cumprod, full.alphas_cumprod[spaced.timesteps])


def test_linear_schedule_is_that_of_ddpm():
    betas = gd.linear_betas(1000)
    assert (betas[0].item(), betas[-1].item()) == (pytest.approx(1e-4), pytest.approx(0.02))


def test_posterior_follows_from_bayes_rule():
    tables, step = gd.diffusion_tables(), 400
    x0, x = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-0.2], dtype=torch.float64)
    beta, previous = tables.betas[step], tables.alphas_cumprod[step - 1]
    # q(x_{s-1} | x0) = N(sqrt(previous) x0, 1 - previous), q(x | x_{s-1}) = N(sqrt(1 - beta) x_{s-1}, beta)
    precision = 1 / (1 - previous) + (1 - beta) / beta
    mean = (previous.sqrt() * x0 / (1 - previous) + (1 - beta).sqrt() * x / beta) / precision
    torch.testing.assert_close(gd.posterior_mean(tables, x0, x, step), mean, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(tables.log_variance[step], -precision.log())
    assert tables.log_variance[0] == tables.log_variance[1]


def test_predict_x0_inverts_add_noise():
    tables, step = gd.diffusion_tables(), torch.tensor([0, 300, 800])
    x0, noise = torch.randn(2, 3, 5)
    x = gd.add_noise(tables, x0, noise, step)
    torch.testing.assert_close(gd.predict_x0(tables, x, noise, step), x0, atol=1e-4, rtol=1e-4)


def test_learned_range_ends_at_beta_and_at_the_posterior():
    tables, step = gd.diffusion_tables(), torch.tensor([1, 500])
    ends = [gd.learned_range_log_variance(tables, torch.full((2, 3), v), step)[:, 0] for v in (-1.0, 1.0)]
    torch.testing.assert_close(ends[0], tables.log_variance[step].float())
    torch.testing.assert_close(ends[1], tables.betas[step].log().float())


def test_losses_match_float64_formulas_and_train_the_variance_alone():
    tables, step = gd.diffusion_tables(), torch.tensor([0, 1, 500, 900])
    x0, noise = torch.rand(4, 6) * 2 - 1, torch.randn(4, 6)
    output = torch.cat([noise + 0.1 * torch.randn(4, 6), torch.rand(4, 6)], dim=-1).requires_grad_()
    mse, bound = gd.diffusion_losses(tables, output, x0, noise, step)
    eps, v = output.detach().double().chunk(2, dim=-1)
    acp, beta = tables.alphas_cumprod[step][:, None], tables.betas[step][:, None]
    x = acp.sqrt() * x0 + (1 - acp).sqrt() * noise
    coef0, coef1 = tables.posterior_coef_x0[step][:, None], tables.posterior_coef_xt[step][:, None]
    mean = coef0 * (x - (1 - acp).sqrt() * eps) / acp.sqrt() + coef1 * x
    low = tables.log_variance[step][:, None]
    log_variance = (v + 1) / 2 * beta.log() + (1 - v) / 2 * low
    expected = normal_kl(coef0 * x0 + coef1 * x, low, mean, log_variance)
    expected[0] = discretized_normal_nll(x0.double()[0], mean[0], 0.5 * log_variance[0])
    torch.testing.assert_close(bound.double(), expected.mean(-1) / torch.tensor(2.0).log(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(mse.double(), (noise - eps).square().mean(-1), atol=1e-6, rtol=1e-5)
    bound.sum().backward()
    assert not output.grad[:, :6].any()
    assert output.grad[:, 6:].abs().min() > 0


def test_ddim_with_the_right_noise_returns_to_the_data():
    tables = gd.diffusion_tables(respacing="ddim20")
    x0, noise = torch.randn(2, 3, 4)
    x = gd.add_noise(tables, x0, noise, len(tables) - 1)
    for step in range(len(tables) - 1, -1, -1):
        torch.testing.assert_close(x, gd.add_noise(tables, x0, noise, step), atol=1e-3, rtol=1e-3)
        x = gd.ddim_step(tables, x, x0, step)
    torch.testing.assert_close(x, x0, atol=1e-5, rtol=0)
