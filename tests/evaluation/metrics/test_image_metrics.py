"""PSNR, SSIM and the Frechet distance against scikit-image and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from photophone.evaluation.metrics.image import frechet_distance, psnr, ssim


def images(rows: int, size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    original = torch.rand(rows, 3, size, size, generator=generator) * 2 - 1
    noisy = (original + 0.2 * torch.randn(original.shape, generator=generator)).clamp(-1, 1)
    return original, noisy


def test_psnr_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="needs photophone[eval]")
    original, noisy = images(3)
    expected = [metrics.peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=2) for a, b in zip(original, noisy)]
    assert np.allclose(psnr(original, noisy).numpy(), expected, atol=1e-3)


def test_psnr_of_a_known_error() -> None:
    zero = torch.zeros(1, 3, 8, 8)
    # an error of 0.2 on a range of 2 is a tenth of the peak: 20 dB
    assert float(psnr(zero, zero + 0.2)) == pytest.approx(20.0, abs=1e-3)


def test_ssim_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="needs photophone[eval]")
    original, noisy = images(2)
    for a, b, ours in zip(original, noisy, ssim(original, noisy)):
        _, full = metrics.structural_similarity(
            (a.double().numpy() + 1) / 2, (b.double().numpy() + 1) / 2, data_range=1, channel_axis=0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True, win_size=11)
        assert float(ours) == pytest.approx(full[:, 5:-5, 5:-5].mean(), abs=1e-4)
    assert torch.allclose(ssim(original, original), torch.ones(2, dtype=torch.float64), atol=1e-5)


def test_frechet_distance_of_commuting_gaussians() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4000, 6))
    base = (base - base.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base.T))).T  # exactly N(0, I) moments
    a, b = base * 2.0 + 1.0, base * 0.5
    # |mean|^2 + sum (s_a - s_b)^2
    expected = 6 * 1.0 + 6 * (2.0 - 0.5) ** 2
    assert frechet_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_agrees_with_the_matrix_square_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(1)
    a = rng.standard_normal((300, 12)) @ rng.standard_normal((12, 12))
    b = rng.standard_normal((200, 12)) @ rng.standard_normal((12, 12)) + 0.3
    covariances = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-6)
