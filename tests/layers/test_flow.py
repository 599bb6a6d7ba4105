"""Flow paths, time grids and solvers against closed forms."""

import math

import pytest
import torch

from photophone.core.noise import SeededNoise
from photophone.layers import flow

MEAN, STD = 1.5, 0.4  # of the data distribution whose velocity field is known


def exact_velocity(path):
    """E[x_t' | x_t = x] for data N(MEAN, STD^2): Gaussian conditioning."""
    def velocity(x, t):
        alpha, sigma, d_alpha, d_sigma = path.coefficients(t)
        slope = (d_alpha * alpha * STD**2 + d_sigma * sigma) / (alpha**2 * STD**2 + sigma**2)
        return d_alpha * MEAN + slope * (x - alpha * MEAN)
    return velocity


def test_linear_path_is_the_straight_line_from_data_to_noise():
    data, noise, t = torch.randn(3, 4), torch.randn(3, 4), torch.rand(3, 1)
    path = flow.PATHS["linear"]
    torch.testing.assert_close(path.interpolate(data, noise, t), data + t * (noise - data))
    torch.testing.assert_close(path.velocity(data, noise, t), noise - data)


@pytest.mark.parametrize("name", sorted(flow.PATHS))
def test_velocity_is_the_time_derivative_and_noise_is_recovered(name):
    path, t = flow.PATHS[name], torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)[:, None]
    data, noise = torch.randn(2, 3, 4, dtype=torch.float64)
    velocity, h = path.velocity(data, noise, t), 1e-6
    numeric = (path.interpolate(data, noise, t + h) - path.interpolate(data, noise, t - h)) / (2 * h)
    torch.testing.assert_close(velocity, numeric, atol=1e-8, rtol=1e-8)
    x = path.interpolate(data, noise, t)
    torch.testing.assert_close(path.noise(velocity, x, t), noise)
    for end, expected in ((0.0, data), (1.0, noise)):
        at_end = path.interpolate(data, noise, torch.tensor(end, dtype=torch.float64))
        torch.testing.assert_close(at_end, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", sorted(flow.PATHS))
def test_score_of_a_gaussian(name):
    path, t = flow.PATHS[name], torch.tensor(0.3, dtype=torch.float64)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    alpha, sigma, _, _ = path.coefficients(t)
    expected = -(x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
    torch.testing.assert_close(path.score(exact_velocity(path)(x, t), x, t), expected)


@pytest.mark.parametrize("name", sorted(flow.PATHS))
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_solvers_converge_to_the_data_at_their_order(name, solver, order):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    exact = MEAN + STD * x  # the flow of a Gaussian is affine and keeps quantiles
    velocity = exact_velocity(flow.PATHS[name])
    errors = [(flow.SOLVERS[solver](velocity, x, flow.time_grid(steps)) - exact).abs().max().item()
              for steps in (40, 80, 160)]
    assert errors[-1] < (0.03 if order == 1 else 1e-3)
    for coarse, fine in zip(errors, errors[1:]):
        assert math.log2(coarse / fine) > order - 0.15  # midpoint happens to reach 3 on the linear path


def test_euler_is_exact_on_constant_velocity_for_any_grid():
    x, velocity = torch.randn(5), torch.randn(5)
    for times in (flow.time_grid(1), flow.time_grid(7, shift=3.0), flow.sway_grid(5)):
        torch.testing.assert_close(flow.euler(lambda x, t: velocity, x, times), x - velocity)


def test_number_of_network_evaluations():
    for solver, expected in (("euler", 6), ("heun", 11), ("midpoint", 12)):
        calls = []
        flow.SOLVERS[solver](lambda x, t, calls=calls: calls.append(t) or x, torch.ones(1), flow.time_grid(6))
        assert len(calls) == expected
        assert min(calls) > 0  # t = 0 is never evaluated


def test_euler_maruyama_samples_the_data_distribution():
    torch.manual_seed(0)
    x = torch.randn(20_000)
    out = flow.euler_maruyama(exact_velocity(flow.PATHS["linear"]), x, flow.sde_time_grid(100),
                              lambda: torch.randn(20_000))
    assert out.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert out.std().item() == pytest.approx(STD, abs=0.03)
    assert torch.corrcoef(torch.stack([x, out]))[0, 1] < 0.5  # unlike the ODE, it forgets where it started


def test_euler_maruyama_steps_follow_the_formula():
    def velocity(x, t):
        return torch.sin(3 * x) * t

    x = start = torch.randn(6, dtype=torch.float64)
    times, draws = flow.sde_time_grid(4), iter(noise := torch.randn(3, 6, dtype=torch.float64))
    assert times.tolist() == pytest.approx([1, 0.68, 0.36, 0.04, 0])
    for i in range(4):
        t, dt = times[i].item(), (times[i + 1] - times[i]).item()
        v = velocity(x, t)
        score = -((1 - t) * v + x) / t  # -noise / t on the linear path
        x = x + (v - 0.5 * 2 * t * score) * dt
        if i < 3:
            x = x + math.sqrt(2 * t) * math.sqrt(abs(dt)) * noise[i]
    torch.testing.assert_close(flow.euler_maruyama(velocity, start, times, lambda: next(draws)), x)
    assert next(draws, None) is None


def test_time_grids():
    torch.testing.assert_close(flow.time_grid(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
    tau, s = torch.linspace(0, 1, 9, dtype=torch.float64), 2.5
    torch.testing.assert_close(flow.time_grid(8, s), 1 - tau / (tau + s - s * tau))
    sway = flow.sway_grid(10)
    assert (sway[0], sway[-1]) == (1, pytest.approx(0, abs=1e-12))
    assert (sway.diff() < 0).all()
    for wrong in (lambda: flow.time_grid(0), lambda: flow.time_grid(4, 0.0), lambda: flow.sde_time_grid(1),
                  lambda: flow.sway_grid(10, 3.0)):
        with pytest.raises(ValueError, match=r"0|1|3\.0"):
            wrong()


def test_logit_normal_times_have_the_right_moments():
    t = flow.logit_normal_times(SeededNoise.from_seeds([0]).normal(1, 50_000), mean=-0.4, std=1.2)
    assert ((t > 0) & (t < 1)).all()
    logit = torch.logit(t)
    assert logit.mean().item() == pytest.approx(-0.4, abs=0.03)
    assert logit.std().item() == pytest.approx(1.2, abs=0.03)


def test_the_first_steps_of_cfg_zero_are_left_out():
    for steps, left_out in ((1, 1), (10, 1), (48, 1), (49, 2), (100, 4)):
        grid = flow.sway_grid(steps)
        assert torch.equal(flow.without_first_steps(grid), grid[left_out:])


def test_zero_star_is_a_projection():
    cond, uncond = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    scaled = flow.zero_star(cond, uncond)
    rest = cond - scaled
    torch.testing.assert_close((rest * uncond).sum((1, 2)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(flow.zero_star(3 * uncond, uncond), 3 * uncond)


def test_the_cosine_grid_and_the_path_that_keeps_some_noise():
    grid = flow.cosine_grid(6)
    expected = [math.cos(math.pi / 12 * step) for step in range(6)] + [0.0]
    torch.testing.assert_close(grid, torch.tensor(expected, dtype=torch.float64))
    data, noise, t = torch.randn(3, 4).double(), torch.randn(3, 4).double(), torch.tensor(0.3, dtype=torch.float64)
    path = flow.linear_path(0.01)
    torch.testing.assert_close(path.interpolate(data, noise, t), 0.7 * data + (1 - 0.99 * 0.7) * noise)
    torch.testing.assert_close(path.interpolate(data, noise, t * 0), data + 0.01 * noise)
    torch.testing.assert_close(path.velocity(data, noise, t), 0.99 * noise - data)
